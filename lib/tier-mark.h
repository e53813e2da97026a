/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The mark of a tier, at its beginning, where no pages are. */

#ifndef TIER_MARK_H
#define TIER_MARK_H

#include <stdbool.h>
#include <stddef.h>

/* What a mark has at its beginning: a text, and what no other mark has. */
#define TIER_MARK_SIZE 64

/* Bytes at the beginning of a tier that have only that, and bytes that are
 * looked at for what others may have there.
 */
#define TIER_MARK_AREA (1 << 17)
#define TIER_MARK_LOOK (1 << 20)

/* Whether a storage that begins with these SIZE bytes (TIER_MARK_LOOK, or
 * all that there is) may be overwritten: it has a mark and zeroes, or zeroes.
 */
bool tier_mark_allows (const unsigned char *start, size_t size);

/* Fill an area with a new mark.  False and errno on failure. */
bool tier_mark_fill (unsigned char *area);

#endif /* TIER_MARK_H */
