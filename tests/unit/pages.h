/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Contents for pages, and random numbers that are the same every time. */

#ifndef PAGES_H
#define PAGES_H

#include <stddef.h>
#include <stdint.h>

/* A generator of random numbers (xorshift64*, Vigna 2016); any seed but
 * 0.
 */
struct rng {
  uint64_t state;
};

uint64_t rng_next (struct rng *);

/* A number from 0 to N - 1. */
uint64_t rng_below (struct rng *, uint64_t n);

enum pages_kind {
  PAGES_ZERO,
  PAGES_WORD32,                 /* repeats 32 bits */
  PAGES_WORD64,                 /* repeats 64 bits that are no 32 twice */
  PAGES_TEXT,                   /* compresses well */
  PAGES_MIXED,                  /* compresses, by an amount that varies */
  PAGES_RANDOM,                 /* does not compress */
  PAGES_NR_KINDS,
};

/* Fill COUNT bytes. */
void pages_fill (struct rng *, enum pages_kind, void *buf, size_t count);

#endif /* PAGES_H */
