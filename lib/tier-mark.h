/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The mark of a tier, at its beginning, where no pages are. */

#ifndef TIER_MARK_H
#define TIER_MARK_H

#include <stdbool.h>
#include <stddef.h>

/* What a mark has at its beginning: a text, and what no other mark has. */
#define TIER_MARK_SIZE 64

/* Bytes at the beginning of a tier that have only that; and bytes at the
 * beginning, and as many at the end, that are looked at for what others may
 * have there (at the end: the superblocks of some RAIDs, and the second copy of
 * a partition table).
 */
#define TIER_MARK_AREA (1 << 17)
#define TIER_MARK_LOOK (1 << 20)

/* Whether a storage that begins with these SIZE bytes (TIER_MARK_LOOK, or
 * all that there is) was a tier: it has a mark, and zeroes behind it.
 */
bool tier_mark_is_ours (const unsigned char *start, size_t size);

/* Whether there is nothing.  A storage that was no tier must have nothing at
 * its beginning nor at its end.
 */
bool tier_mark_is_nothing (const unsigned char *bytes, size_t size);

/* Fill an area with a new mark.  False and errno on failure. */
bool tier_mark_fill (unsigned char *area);

#endif /* TIER_MARK_H */
