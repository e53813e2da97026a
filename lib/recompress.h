/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Pages that were written with an older codec move to the one in use.
 * See recompress.c.
 */

#ifndef RECOMPRESS_H
#define RECOMPRESS_H

#include <stdbool.h>
#include <stdint.h>

struct zram_store;

/* Of a store; only the background thread uses it. */
struct recompress {
  unsigned generation;          /* of the dictionary that we walk for */
  uint64_t page;                /* where the walk goes on */
  bool done;                    /* for that generation */
};

/* Look at pages and recompress *BUDGET of them at most (it is counted
 * down).  For the background thread.  True if there is more to do.
 */
bool recompress_some (struct zram_store *, unsigned *budget);

#endif /* RECOMPRESS_H */
