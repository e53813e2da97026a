/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Compresses a page to one block of the LZ4 format, which any
 * implementation decompresses.  lz4-page.c says why not liblz4's.
 */

#ifndef LZ4_PAGE_H
#define LZ4_PAGE_H

#include <stddef.h>
#include <stdint.h>

/* The most that is compressed at once: positions fit in 16 bits. */
#define LZ4_PAGE_MAX 65536

/* The number of entries in each table is 2 to the power of this.  With
 * 10, objects are 0.4 % larger, and it takes as long.
 */
#define LZ4_PAGE_LOG 11

/* Working memory: 8 KiB.  Needs no initialization, and what it holds
 * does not influence the result.
 */
struct lz4_page {
  uint16_t words[1 << LZ4_PAGE_LOG];    /* where which 8 bytes were last */
  uint16_t starts[1 << LZ4_PAGE_LOG];   /* the same for 5 bytes */
};

/* Compress SIZE bytes (1 to LZ4_PAGE_MAX).  Returns the size of what was
 * written to DST, or 0 if that would be more than MAX; the contents of
 * the MAX bytes are undefined then, and nothing else is ever written.
 * LEVEL is 1 or more; the higher, the faster and the less dense.
 */
size_t lz4_page_compress (struct lz4_page *, const void *src, size_t size,
                          void *dst, size_t max, unsigned level);

#endif /* LZ4_PAGE_H */
