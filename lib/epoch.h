/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Epochs: how to know that nobody uses any more what was just taken out
 * of a shared structure, without locks or counters in the structure.
 *
 * A request stands between epoch_enter and epoch_leave.  What was
 * unlinked before epoch_ticket is in nobody's hands once epoch_passed
 * says true of that ticket.
 *
 * The method is that of sleepable RCU (McKenney, "Sleepable RCU", 2006;
 * Linux kernel/rcu/srcutree.c): two sets of counters, of which requests
 * use the current one; a grace period makes the other set current and
 * waits for the old one to drain, twice, because a request may have read
 * which set is current long before it counts itself there.
 */

#ifndef EPOCH_H
#define EPOCH_H

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "stripe.h"

typedef _Atomic unsigned epoch_token;

struct epoch {
  struct {
    alignas (STRIPE_ALIGN) epoch_token inside[2];
  } stripes[NR_STRIPES];
  _Atomic unsigned current;     /* 0 or 1 */

  /* Grace periods are numbered from 1. */
  pthread_mutex_t lock;         /* covers all below */
  uint64_t begun;               /* the last one that has begun... */
  uint64_t passed;              /* ...and that has passed */
  uint64_t wanted;              /* the last one that has a ticket */
  unsigned drains;              /* of the running one: how many to go */
};

void epoch_init (struct epoch *);
void epoch_destroy (struct epoch *);

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

/* Ask for a grace period that begins after now. */
uint64_t epoch_ticket (struct epoch *);

/* Whether it has passed.  Never waits: call it again and again. */
bool epoch_passed (struct epoch *, uint64_t ticket);

#endif /* EPOCH_H */
