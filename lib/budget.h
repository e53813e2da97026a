/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* So many bytes a day: no more than that in any 24 hours.
 *
 * What is spent is noted by the hour, and a whole hour's comes again when
 * the last of it must be a day old.  A day that begins within an hour touches
 * 25 of them, so it is what those add up to that may not be more.  (A bucket
 * that fills slowly and holds a day's, as is usual for rates, would let twice
 * as much through in the day after a rest.)
 *
 * The caller sees to it that one thread at a time spends.
 */

#ifndef BUDGET_H
#define BUDGET_H

#include <stdatomic.h>
#include <stdint.h>

#include "clock.h"

#define BUDGET_HOUR (3600 * CLOCK_SECOND)
#define BUDGET_HOURS 25

struct budget {
  uint64_t limit;               /* bytes a day; 0: no limit */
  uint64_t start;               /* ns: when hour 0 began */
  struct {
    _Atomic uint64_t hour, bytes;
  } spent[BUDGET_HOURS];        /* by hour, modulo their number */
};

static inline void
budget_init (struct budget *budget, uint64_t limit)
{
  *budget = (struct budget) { .limit = limit, .start = clock_ns () };
}

static inline uint64_t
budget_hour (const struct budget *budget)
{
  return (clock_ns () - budget->start) / BUDGET_HOUR;
}

/* What may be spent now. */
static inline uint64_t
budget_left (const struct budget *budget)
{
  uint64_t now, sum = 0;
  unsigned i;

  if (budget->limit == 0)
    return UINT64_MAX;
  now = budget_hour (budget);
  for (i = 0; i < BUDGET_HOURS; i++)
    if (atomic_load_explicit (&budget->spent[i].hour, memory_order_relaxed)
        + BUDGET_HOURS > now)
      sum += atomic_load_explicit (&budget->spent[i].bytes,
                                   memory_order_relaxed);
  return sum < budget->limit ? budget->limit - sum : 0;
}

static inline void
budget_spend (struct budget *budget, uint64_t bytes)
{
  uint64_t now = budget_hour (budget);
  unsigned i = now % BUDGET_HOURS;

  if (budget->spent[i].hour != now) {
    budget->spent[i].bytes = 0;
    budget->spent[i].hour = now;
  }
  budget->spent[i].bytes += bytes;
}

#endif /* BUDGET_H */
