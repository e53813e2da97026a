/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* What is possible: hits of two policies that nobody has to pay for, of
 * pages that all take the same room.
 */

#ifndef BENCH_REFERENCE_H
#define BENCH_REFERENCE_H

#include <stdint.h>

#include "trace.h"

struct reference {
  uint64_t misses;              /* of the trace's reads */
  uint64_t inserted;            /* of those, pages that were kept then */
};

/* The least recently used page leaves.  What is read comes into RAM. */
struct reference reference_lru (const struct trace *, uint64_t capacity);

/* L. A. Belady's MIN, which knows the future: the page leaves that is read
 * last, or never before it is written or trimmed.  What is read comes into
 * RAM only if another page there is read later than this one is again.
 */
struct reference reference_min (const struct trace *, uint64_t capacity);

#endif /* BENCH_REFERENCE_H */
