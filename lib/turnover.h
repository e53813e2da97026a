/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Time that goes by in pages.  Where RAM is replaced in seconds, or in a
 * day, ages must not grow by the clock alone: all pages are one older when
 * as many as a part of those in RAM have left it or were read from tiers.
 *
 * Both functions are called with memory->lock held.
 */

#ifndef TURNOVER_H
#define TURNOVER_H

#include <stdint.h>

struct zram_memory;

struct turnover {
  uint64_t gone;                /* pages that have left RAM, ever */
  uint64_t aged;                /* the turnover when pages became older... */
  uint64_t era;                 /* ...and how often they did */
};

/* So many pages have left RAM. */
void turnover_add (struct zram_memory *, uint64_t pages);

/* Make pages older if it is time to. */
void turnover_pass_time (struct zram_memory *);

#endif /* TURNOVER_H */
