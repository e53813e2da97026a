/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The limit on resident memory, and the count of it.
 *
 * Whoever makes a page of memory resident charges it here first, and
 * uncharges it after the page has gone back to the system.  So the
 * count is never below what the store holds, and never above the
 * limit.  Charging happens once for a run of pages, not once for an
 * object: it is off the fast path.
 */

#ifndef LIMIT_H
#define LIMIT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct limit {
  uint64_t max;                 /* bytes; 0: no limit */
  _Atomic uint64_t resident;    /* bytes charged */
  _Atomic uint64_t freed;       /* how often something was freed */
};

static inline uint64_t
limit_resident (const struct limit *limit)
{
  return atomic_load_explicit (&limit->resident, memory_order_relaxed);
}

/* Whether less than a sixteenth of it is left. */
static inline bool
limit_is_near (const struct limit *limit)
{
  return limit->max
    && limit_resident (limit) > limit->max - limit->max / 16;
}

/* Charge BYTES.  False, and nothing charged, if that would pass the
 * limit.
 */
static inline bool
limit_charge (struct limit *limit, uint64_t bytes)
{
  uint64_t old = limit_resident (limit);

  do {
    if (limit->max && (bytes > limit->max || old > limit->max - bytes))
      return false;
  } while (!atomic_compare_exchange_weak_explicit (&limit->resident, &old,
                                                   old + bytes,
                                                   memory_order_relaxed,
                                                   memory_order_relaxed));
  return true;
}

/* Something was freed, so that an allocation that failed before may do
 * now.  Whoever is about to give up compares limit_freed with what it
 * was before he tried.
 */
static inline void
limit_note_freed (struct limit *limit)
{
  atomic_fetch_add (&limit->freed, 1);
}

static inline uint64_t
limit_freed (const struct limit *limit)
{
  return atomic_load (&limit->freed);
}

static inline void
limit_uncharge (struct limit *limit, uint64_t bytes)
{
  atomic_fetch_sub_explicit (&limit->resident, bytes, memory_order_relaxed);
  limit_note_freed (limit);
}

#endif /* LIMIT_H */
