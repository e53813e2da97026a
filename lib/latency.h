/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* How long requests take: a histogram, four buckets for each power of two.
 * So a percentile is known to a fifth of it.  Adding is one atomic addition.
 */

#ifndef LATENCY_H
#define LATENCY_H

#include <stdatomic.h>
#include <stdint.h>

#include "zram.h"

/* From 1 us to 18 minutes; what is outside counts as at the edge. */
#define LATENCY_SHIFT 10
#define LATENCY_BUCKETS 120

struct latency {
  _Atomic uint32_t buckets[LATENCY_BUCKETS];
  _Atomic uint64_t max;         /* ns */
};

void latency_add (struct latency *, uint64_t ns);

/* Percentiles are upper ends of buckets, but not above the maximum. */
struct zram_latency latency_read (const struct latency *);

#endif /* LATENCY_H */
