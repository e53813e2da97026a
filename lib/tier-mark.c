/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Whoever mistypes the name of a device must not lose what is on it.  To
 * refuse whatever has anything in its first MiB or its last one is stricter
 * than to look for what is known, and needs no list of that.
 */

#include <config.h>

#include <string.h>

#include <sys/random.h>

#include "tier-mark.h"

static const char mark[] = "nbdkit-zram-plugin tier\n";

#define RANDOM_SIZE 16          /* at the end of it */

bool
tier_mark_is_nothing (const unsigned char *bytes, size_t size)
{
  size_t i;

  for (i = 0; i < size; i++)
    if (bytes[i])
      return false;
  return true;
}

bool
tier_mark_is_ours (const unsigned char *start, size_t size)
{
  return size >= TIER_MARK_AREA && memcmp (start, mark, sizeof mark) == 0
    && tier_mark_is_nothing (start + TIER_MARK_SIZE,
                             TIER_MARK_AREA - TIER_MARK_SIZE);
}

bool
tier_mark_fill (unsigned char *area)
{
  memset (area, 0, TIER_MARK_AREA);
  memcpy (area, mark, sizeof mark);
  return getrandom (area + TIER_MARK_SIZE - RANDOM_SIZE, RANDOM_SIZE, 0)
    == RANDOM_SIZE;
}
