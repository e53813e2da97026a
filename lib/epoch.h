/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Epochs: how to know that nobody uses any more what was just taken out
 * of a shared structure, without locks or counters in the structure.
 *
 * A request stands between epoch_enter and epoch_leave.  What was
 * unlinked before epoch_begin is in nobody's hands once epoch_passed
 * says true.
 *
 * The method is that of sleepable RCU (McKenney, "Sleepable RCU", 2006;
 * Linux kernel/rcu/srcutree.c): two sets of counters, of which requests
 * use the current one; a grace period makes the other set current and
 * waits for the old one to drain, twice, because a request may have read
 * which set is current long before it counts itself there.
 */

#ifndef EPOCH_H
#define EPOCH_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "stripe.h"

typedef _Atomic unsigned epoch_token;

struct epoch {
  struct {
    alignas (STRIPE_ALIGN) epoch_token inside[2];
  } stripes[NR_STRIPES];
  _Atomic unsigned current;     /* 0 or 1 */
  unsigned drains;              /* of the grace period: how many to go */
};

/* The accesses that need the order of a single total order with the
 * unlinking (which must be sequentially consistent too) are that.
 */
static inline epoch_token *
epoch_enter (struct epoch *epoch)
{
  unsigned set = atomic_load_explicit (&epoch->current, memory_order_relaxed);
  epoch_token *token = &epoch->stripes[stripe_current ()].inside[set];

  atomic_fetch_add (token, 1);
  return token;
}

static inline void
epoch_leave (epoch_token *token)
{
  atomic_fetch_sub (token, 1);
}

/* Begin a grace period, and ask whether it is over (never blocks).  One
 * at a time; the caller sees to that.
 */
void epoch_begin (struct epoch *epoch);
bool epoch_passed (struct epoch *epoch);

#endif /* EPOCH_H */
