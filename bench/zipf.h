/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Zipf's law: the Nth of all comes up N^-0.99 times as often as the first.
 */

#ifndef BENCH_ZIPF_H
#define BENCH_ZIPF_H

#include <stddef.h>
#include <stdint.h>

struct zipf {
  size_t n;
  double *sums;                 /* what the first I + 1 have of all */
};

struct zipf zipf_create (size_t n);
void zipf_destroy (struct zipf *);

/* From 0 to n - 1; 0 comes up most. */
size_t zipf_next (const struct zipf *, uint64_t *state);

#endif /* BENCH_ZIPF_H */
