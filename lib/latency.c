/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The buckets of an octave are a quarter of it wide each. */

#include <config.h>

#include "latency.h"

#define PER_OCTAVE 4

static unsigned
bucket_of (uint64_t ns)
{
  uint64_t units = ns >> (LATENCY_SHIFT - 2);   /* quarters of the first */
  unsigned octave, bucket;

  if (units < PER_OCTAVE)
    return 0;
  octave = 63 - __builtin_clzll (units) - 2;
  bucket = octave * PER_OCTAVE + (units >> octave) % PER_OCTAVE;
  return bucket < LATENCY_BUCKETS ? bucket : LATENCY_BUCKETS - 1;
}

/* What is not in it any more, but in the next. */
static uint64_t
bucket_end (unsigned bucket)
{
  return (uint64_t) (PER_OCTAVE + bucket % PER_OCTAVE + 1)
    << (bucket / PER_OCTAVE + LATENCY_SHIFT - 2);
}

void
latency_add (struct latency *latency, uint64_t ns)
{
  uint64_t max = atomic_load_explicit (&latency->max, memory_order_relaxed);

  atomic_fetch_add_explicit (&latency->buckets[bucket_of (ns)], 1,
                             memory_order_relaxed);
  while (ns > max
         && !atomic_compare_exchange_weak_explicit (&latency->max, &max, ns,
                                                    memory_order_relaxed,
                                                    memory_order_relaxed))
    ;
}

static uint64_t
percentile (const uint32_t *buckets, uint64_t all, unsigned percent,
            uint64_t max)
{
  uint64_t wanted = (all * percent + 99) / 100, sum = 0;
  unsigned i;

  for (i = 0; i < LATENCY_BUCKETS - 1; i++) {
    sum += buckets[i];
    if (sum >= wanted)
      break;
  }
  return bucket_end (i) < max ? bucket_end (i) : max;
}

struct zram_latency
latency_read (const struct latency *latency)
{
  uint64_t max = atomic_load_explicit (&latency->max, memory_order_relaxed);
  uint32_t buckets[LATENCY_BUCKETS];
  uint64_t all = 0;
  unsigned i;

  for (i = 0; i < LATENCY_BUCKETS; i++) {
    buckets[i] = atomic_load_explicit (&latency->buckets[i],
                                       memory_order_relaxed);
    all += buckets[i];
  }
  if (all == 0)
    return (struct zram_latency) { .max = 0 };
  return (struct zram_latency) {
    .p50 = percentile (buckets, all, 50, max),
    .p99 = percentile (buckets, all, 99, max),
    .max = max,
  };
}
