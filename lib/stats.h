/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The counters of one store.  Adding is an atomic addition in the
 * stripe of the processor; reading adds the stripes up.  A stripe may be
 * negative, the sum is not when nothing is going on.
 */

#ifndef STATS_H
#define STATS_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>

#include "stripe.h"

enum stats_counter {
  STATS_PAGES,                  /* pages that are not holes */
  STATS_OBJECT_BYTES,           /* compr_data_size */
  STATS_SAME,                   /* in SLOT_SAME or of one pattern... */
  STATS_LOST,                   /* ...or so many of them lost */
  STATS_HUGE,
  STATS_HUGE_SINCE,
  STATS_GROUPED,
  STATS_BD_COUNT,
  STATS_BD_READS,
  STATS_BD_WRITES,
  STATS_FAILED_READS,
  STATS_FAILED_WRITES,
  STATS_INVALID_IO,
  STATS_NOTIFY_FREE,
  STATS_NR,
};

struct stats {
  struct {
    alignas (STRIPE_ALIGN) _Atomic int64_t counters[STATS_NR];
  } stripes[NR_STRIPES];
};

static inline void
stats_add (struct stats *stats, enum stats_counter counter, int64_t n)
{
  if (n)
    atomic_fetch_add_explicit (&stats->stripes[stripe_current ()]
                                      .counters[counter],
                               n, memory_order_relaxed);
}

static inline uint64_t
stats_read (const struct stats *stats, enum stats_counter counter)
{
  int64_t sum = 0;
  unsigned i;

  for (i = 0; i < NR_STRIPES; i++)
    sum += atomic_load_explicit (&stats->stripes[i].counters[counter],
                                 memory_order_relaxed);
  /* A sum that was read in the middle of a change can be below zero. */
  return sum > 0 ? sum : 0;
}

#endif /* STATS_H */
