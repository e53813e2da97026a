/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Whoever mistypes the name of a device must not lose what is on it.  To
 * refuse whatever has anything in its first MiB is stricter than to look
 * for what is known, and needs no list of that.
 */

#include <config.h>

#include <string.h>

#include <sys/random.h>

#include "tier-mark.h"

static const char mark[] = "nbdkit-zram-plugin tier\n";

#define RANDOM_SIZE 16          /* at the end of it */

bool
tier_mark_allows (const unsigned char *start, size_t size)
{
  bool ours = size >= TIER_MARK_SIZE
    && memcmp (start, mark, sizeof mark) == 0;
  size_t i, end = ours && size > TIER_MARK_AREA ? TIER_MARK_AREA : size;

  for (i = ours ? TIER_MARK_SIZE : 0; i < end; i++)
    if (start[i])
      return false;
  return true;
}

bool
tier_mark_fill (unsigned char *area)
{
  memset (area, 0, TIER_MARK_AREA);
  memcpy (area, mark, sizeof mark);
  return getrandom (area + TIER_MARK_SIZE - RANDOM_SIZE, RANDOM_SIZE, 0)
    == RANDOM_SIZE;
}
