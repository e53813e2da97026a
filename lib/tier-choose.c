/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Which segment of a tier is cleaned, and which goes to the next tier.
 *
 * Only who writes back asks, so no lock is needed: a segment that is full
 * stays so or dies, and to gather from one that has died is of no use but does
 * no harm.
 */

#include <config.h>

#include "tier.h"

/* Segments that get a second chance, at most, in a look for a cold one. */
#define COLDEST_TRIES 16

/* What is cleaned together has been cleaned as often before, unless another
 * segment yields so much more that this is less than such a part of it.
 */
#define LIKE_PART 0.7

static bool
is_full (const struct tier *tier, uint32_t n)
{
  return atomic_load_explicit (&tier->segments[n].state,
                               memory_order_relaxed) == SEGMENT_FULL;
}

/* What it yields to clean a segment: the space that becomes free, times how
 * long it is likely to stay so, by what must be read and written for it.  Data
 * that is old is likely to become older.
 *
 * Source: Rosenblum and Ousterhout, 1991: cost-benefit.
 */
static double
yield_of (const struct tier *tier, const struct segment *segment,
          unsigned part)
{
  double weight = atomic_load_explicit (&segment->weight,
                                        memory_order_relaxed);
  uint32_t age = tier->opened - segment->sequence;

  if (weight * part >= segment->written * (part - 1.0) || segment->aside)
    return 0;
  return (segment->written - weight) * age / (segment->written + weight);
}

/* The full segment that yields most, and how much that is.  With LIKE, of those
 * that were cleaned as often.
 */
static uint32_t
best_to_clean (const struct tier *tier, unsigned part,
               const struct segment *like, double *best)
{
  uint32_t i, n = 0;

  *best = 0;
  for (i = 1; i < tier->nr_segments; i++) {
    const struct segment *segment = &tier->segments[i];
    double yield = yield_of (tier, segment, part);

    if (yield > *best && is_full (tier, i)
        && (like == NULL || segment->cleaned == like->cleaned)) {
      *best = yield;
      n = i;
    }
  }
  return n;
}

/* A look at each of them: some milliseconds for a terabyte. */
uint32_t
tier_to_clean (struct tier *tier, unsigned part, uint32_t like)
{
  double best, best_like;
  uint32_t i, n = best_to_clean (tier, part, NULL, &best);

  if (n == 0)                   /* perhaps it can be read next time */
    for (i = 1; i < tier->nr_segments; i++)
      tier->segments[i].aside = false;
  if (n == 0 || like == 0)
    return n;
  i = best_to_clean (tier, part, &tier->segments[like], &best_like);
  return best_like > best * LIKE_PART ? i : n;
}

void
tier_set_aside (struct tier *tier, uint32_t n)
{
  tier->segments[n].aside = true;
}

void
tier_no_gain (struct tier *tier, uint32_t n)
{
  struct segment *segment = &tier->segments[n];

  segment->written = atomic_load_explicit (&segment->weight,
                                           memory_order_relaxed);
}

/* The full segment that was opened first. */
static uint32_t
oldest (const struct tier *tier)
{
  uint32_t i, best = 0;

  for (i = 1; i < tier->nr_segments; i++)
    if (is_full (tier, i) && !tier->segments[i].aside
        && (best == 0
            || (int32_t) (tier->segments[i].sequence
                          - tier->segments[best].sequence) < 0))
      best = i;
  return best;
}

void
tier_defer (struct tier *tier, uint32_t n)
{
  tier->segments[n].sequence = tier->opened++;
}

/* Those that were read since get a second chance. */
uint32_t
tier_coldest (struct tier *tier)
{
  uint32_t tries, n;

  for (tries = 0; tries < COLDEST_TRIES; tries++) {
    n = oldest (tier);
    if (n == 0 || !atomic_exchange (&tier->segments[n].used, false))
      return n;
    tier_defer (tier, n);
  }
  return oldest (tier);
}

uint32_t
tier_next_full (struct tier *tier, uint32_t n)
{
  for (n++; n < tier->nr_segments; n++)
    if (is_full (tier, n))
      return n;
  return 0;
}

bool
tier_can_clean (struct tier *tier, uint32_t n, unsigned found)
{
  struct segment *segment = &tier->segments[n];

  segment->aside = atomic_load (&segment->live) > found;
  return !segment->aside;
}
