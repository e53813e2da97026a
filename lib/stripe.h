/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Counters that many threads add to are kept in stripes, each in cache
 * lines of its own.  A thread uses the stripe of the processor it is on:
 * that is never wrong, only slow if two meet, because stripes are added
 * to atomically.
 */

#ifndef STRIPE_H
#define STRIPE_H

#include <sched.h>

#define NR_STRIPES 16
#define STRIPE_ALIGN 128        /* two lines: processors fetch pairs */

static inline unsigned
stripe_current (void)
{
  /* -1, where the kernel cannot tell, makes a stripe as well. */
  return (unsigned) sched_getcpu () % NR_STRIPES;
}

#endif /* STRIPE_H */
