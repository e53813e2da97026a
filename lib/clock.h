/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The time that background work goes by. */

#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>
#include <time.h>

#define CLOCK_SECOND UINT64_C (1000000000)

static inline uint64_t
clock_ns (void)
{
  struct timespec t;

  clock_gettime (CLOCK_MONOTONIC, &t);
  return t.tv_sec * CLOCK_SECOND + t.tv_nsec;
}

/* What this thread has had of a processor. */
static inline uint64_t
clock_thread_ns (void)
{
  struct timespec t;

  clock_gettime (CLOCK_THREAD_CPUTIME_ID, &t);
  return t.tv_sec * CLOCK_SECOND + t.tv_nsec;
}

#endif /* CLOCK_H */
