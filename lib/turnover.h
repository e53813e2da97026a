/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Time that goes by in pages.  Where RAM is replaced in seconds, or in a
 * day, ages must not grow by the clock alone: there is a walk that makes pages
 * older when as many as a part of those in RAM have left it or were read from
 * tiers.
 *
 * Both functions are called with memory->lock held.
 */

#ifndef TURNOVER_H
#define TURNOVER_H

#include <stdint.h>

struct zram_memory;

struct turnover {
  uint64_t gone;                /* pages that have left RAM, ever */
  uint64_t walked;              /* the turnover at the last walk... */
  uint64_t walks;               /* ...how many there were... */
  uint64_t era;                 /* ...and those that made all pages older */
};

/* So many pages have left RAM. */
void turnover_add (struct zram_memory *, uint64_t pages);

/* Make pages older if it is time to. */
void turnover_pass_time (struct zram_memory *);

#endif /* TURNOVER_H */
