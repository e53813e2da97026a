/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The mark of a tier, in its first segment, which holds no pages. */

#ifndef TIER_MARK_H
#define TIER_MARK_H

#include <stdbool.h>
#include <stddef.h>

/* What a mark has at its beginning: a text, and what no other mark has. */
#define TIER_MARK_SIZE 64

/* Whether a storage that begins with these SIZE bytes (a segment, or all
 * that there is) may be overwritten: it has a mark and zeroes, or zeroes.
 */
bool tier_mark_allows (const unsigned char *start, size_t size);

/* What a segment with a new mark has.  False and errno on failure. */
bool tier_mark_fill (unsigned char *segment);

#endif /* TIER_MARK_H */
