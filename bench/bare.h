/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Compression without a store around it.  See bare.c. */

#ifndef BENCH_BARE_H
#define BENCH_BARE_H

#include <stddef.h>

#include "zram.h"

/* How pages are compressed. */
enum bare_kind {
  BARE_CODEC,                   /* the calls that the store makes */
  BARE_PLAIN,                   /* the calls that anybody would make */
};

/* What one thread compresses with.  Neither NULL nor ever shared. */
struct bare;

struct bare *bare_new (enum bare_kind, const struct zram_codec *);
void bare_free (struct bare *);

/* Compress one page.  Returns the object, which is in DST, in memory of
 * the codec, or the page itself if that is stored as it is, and sets its
 * size.  DST has room for BARE_BOUND bytes.
 */
#define BARE_BOUND 8192
const void *bare_compress (struct bare *, const void *page, void *dst,
                           size_t *size);

/* The opposite.  Does not return if the object is damaged. */
void bare_decompress (struct bare *, const void *object, size_t size,
                      void *page);

#endif /* BENCH_BARE_H */
