/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The statistics of a disk as a JSON text. */

#ifndef STATS_JSON_H
#define STATS_JSON_H

#include <stddef.h>

#include "swap-safe.h"
#include "zram.h"

/* What there are statistics of. */
struct stats_source {
  char instance[32];            /* the name of this run of the server */
  bool swap;                    /* swap=true */
  struct swap_safe safe;        /* and what came of it */
  struct zram_memory *memory;
  struct zram_store *store;
  struct zram_codec codec;
  enum zram_allocator allocator;
};

/* Returns the text, which the caller must free, and its length in *len
 * (without the NUL).  NULL and errno if there is no memory.  Can be
 * called from any thread.
 */
char *stats_json (const struct stats_source *, size_t *len);

#endif /* STATS_JSON_H */
