/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Whoever mistypes the name of a device must not lose what is on it.  To
 * refuse whatever has anything in its first MiB is stricter than to look
 * for what is known, and needs no list of that.
 */

#include <config.h>

#include <string.h>

#include "tier-mark.h"
#include "tier.h"

static const char mark[] = "nbdkit-zram-plugin tier\n";

bool
tier_mark_allows (const unsigned char *start, size_t size)
{
  bool ours = size >= sizeof mark && memcmp (start, mark, sizeof mark) == 0;
  size_t i;

  for (i = ours ? sizeof mark : 0; i < size; i++)
    if (start[i])
      return false;
  return true;
}

void
tier_mark_fill (unsigned char *segment)
{
  memset (segment, 0, TIER_SEGMENT_SIZE);
  memcpy (segment, mark, sizeof mark);
}
