/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <math.h>

#include <sys/mman.h>

#include "bench.h"
#include "zipf.h"

#define EXPONENT 0.99

struct zipf
zipf_create (size_t n)
{
  struct zipf z = { .n = n, .sums = small_pages (n * sizeof *z.sums) };
  double sum = 0;

  for (size_t i = 0; i < n; ++i)
    z.sums[i] = sum += pow (i + 1, -EXPONENT);
  return z;
}

void
zipf_destroy (struct zipf *z)
{
  munmap (z->sums, z->n * sizeof *z->sums);
}

size_t
zipf_next (const struct zipf *z, uint64_t *state)
{
  double x = (random_next (state) >> 11) * 0x1p-53 * z->sums[z->n - 1];
  size_t low = 0, high = z->n - 1;

  while (low < high) {
    size_t middle = (low + high) / 2;

    if (z->sums[middle] > x)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}
