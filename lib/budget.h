/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* So many bytes a day (a token bucket that is full at first and holds a
 * day's).  The caller sees to it that one thread at a time spends.
 */

#ifndef BUDGET_H
#define BUDGET_H

#include <stdatomic.h>
#include <stdint.h>

#include "clock.h"

#define BUDGET_DAY (24 * 3600 * CLOCK_SECOND)

struct budget {
  uint64_t limit;               /* bytes a day; 0: no limit */
  _Atomic uint64_t since;       /* ns: all that came until then is spent */
};

/* The time in which so many bytes come. */
static inline uint64_t
budget_time (const struct budget *budget, uint64_t bytes)
{
  return (unsigned __int128) bytes * BUDGET_DAY / budget->limit;
}

static inline void
budget_init (struct budget *budget, uint64_t limit)
{
  budget->limit = limit;
  atomic_init (&budget->since, clock_ns () - BUDGET_DAY);
}

/* What may be spent now. */
static inline uint64_t
budget_left (const struct budget *budget)
{
  uint64_t now, since;

  if (budget->limit == 0)
    return UINT64_MAX;
  now = clock_ns ();
  since = atomic_load_explicit (&budget->since, memory_order_relaxed);
  if ((int64_t) (now - since) <= 0)
    return 0;
  if (now - since >= BUDGET_DAY)
    return budget->limit;
  return (unsigned __int128) (now - since) * budget->limit / BUDGET_DAY;
}

static inline void
budget_spend (struct budget *budget, uint64_t bytes)
{
  uint64_t now = clock_ns (), since;

  if (budget->limit == 0)
    return;
  since = atomic_load_explicit (&budget->since, memory_order_relaxed);
  if ((int64_t) (now - BUDGET_DAY - since) > 0)
    since = now - BUDGET_DAY;
  atomic_store_explicit (&budget->since, since + budget_time (budget, bytes),
                         memory_order_relaxed);
}

#endif /* BUDGET_H */
