/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Lending: a thread takes what is free next to its processor, so that it
 * tends to get what is in its cache.  If nothing is free it lets others
 * run, a few times: there are more things than processors, so somebody
 * has one who has lost his processor.  Only then does it queue, and
 * whoever returns something hands it to the first in the queue.  (To
 * queue at once would be fairer, but then a server with many threads does
 * little else than to put them to sleep and wake them up.)
 *
 * Why not a mutex for each thing?  Because a mutex is not fair: threads
 * that run take it again and again before one that sleeps has woken up.
 * With 16 writers on two processors, readers starved for a second.
 *
 * In the usual case, when nobody waits, taking is one atomic exchange
 * and returning one store; no lock is shared.  A thing that is returned
 * while a thread is on its way into the queue must not be missed: the
 * thread counts itself as waiting first and then looks once more, and
 * whoever returns something looks for waiters afterwards.
 */

#include <config.h>

#include <stdlib.h>

#include "lend.h"
#include "stripe.h"

#define YIELDS 16               /* before a thread queues */

#define ANY (-1)
#define NONE (-1)

struct lend_waiter {
  int wanted;                   /* a number, or ANY */
  int got;                      /* a number, or NONE yet */
  pthread_cond_t wake;
  struct lend_waiter *next;
};

int
lend_init (struct lend *lend, unsigned nr)
{
  unsigned i;

  *lend = (struct lend) { .nr = nr };
  lend->things = aligned_alloc (_Alignof (struct lend_thing),
                                nr * sizeof *lend->things);
  if (lend->things == NULL)
    return -1;
  for (i = 0; i < nr; i++)
    atomic_init (&lend->things[i].taken, false);
  lend->last = &lend->first;
  pthread_mutex_init (&lend->lock, NULL);
  return 0;
}

void
lend_destroy (struct lend *lend)
{
  if (lend->things == NULL)
    return;
  pthread_mutex_destroy (&lend->lock);
  free (lend->things);
}

static bool
try_this (struct lend *lend, unsigned n)
{
  return !atomic_load (&lend->things[n].taken)
    && !atomic_exchange (&lend->things[n].taken, true);
}

/* The number of one that could be taken, or NONE. */
static int
try_any (struct lend *lend)
{
  unsigned first = 2 * (unsigned) sched_getcpu () % lend->nr, i;

  for (i = 0; i < lend->nr; i++)
    if (try_this (lend, (first + i) % lend->nr))
      return (first + i) % lend->nr;
  return NONE;
}

static int
try_wanted (struct lend *lend, int wanted)
{
  if (wanted == ANY)
    return try_any (lend);
  return try_this (lend, wanted) ? wanted : NONE;
}

static __attribute__ ((noinline)) unsigned
wait_for (struct lend *lend, int wanted)
{
  struct lend_waiter waiter = { .wanted = wanted };

  pthread_mutex_lock (&lend->lock);
  atomic_fetch_add (&lend->nr_waiting, 1);
  waiter.got = try_wanted (lend, wanted);
  if (waiter.got != NONE)
    atomic_fetch_sub (&lend->nr_waiting, 1);
  else {
    pthread_cond_init (&waiter.wake, NULL);
    *lend->last = &waiter;
    lend->last = &waiter.next;
    while (waiter.got == NONE)
      pthread_cond_wait (&waiter.wake, &lend->lock);
    pthread_cond_destroy (&waiter.wake);
  }
  pthread_mutex_unlock (&lend->lock);
  return waiter.got;
}

unsigned
lend_take (struct lend *lend)
{
  int n = try_any (lend);
  unsigned i;

  for (i = 0; n == NONE && i < YIELDS; i++) {
    sched_yield ();
    n = try_any (lend);
  }
  return n == NONE ? wait_for (lend, ANY) : (unsigned) n;
}

void
lend_take_this (struct lend *lend, unsigned n)
{
  if (!try_this (lend, n))
    wait_for (lend, n);
}

/* Give a thing that is taken to a waiter.  The lock is held. */
static void
hand_over (struct lend *lend, struct lend_waiter **link, unsigned n)
{
  struct lend_waiter *waiter = *link;

  *link = waiter->next;
  if (lend->last == &waiter->next)
    lend->last = link;
  waiter->got = n;
  atomic_fetch_sub (&lend->nr_waiting, 1);
  pthread_cond_signal (&waiter->wake);
}

/* Give N, which we still have, to the first who takes it. */
static bool
pass_on (struct lend *lend, unsigned n)
{
  struct lend_waiter **link = &lend->first;
  bool found;

  pthread_mutex_lock (&lend->lock);
  while (*link && (*link)->wanted != ANY && (*link)->wanted != (int) n)
    link = &(*link)->next;
  found = *link != NULL;
  if (found)
    hand_over (lend, link, n);
  pthread_mutex_unlock (&lend->lock);
  return found;
}

/* Give what is free to whoever waits for it. */
static void
serve (struct lend *lend)
{
  struct lend_waiter **link;
  int n;

  pthread_mutex_lock (&lend->lock);
  for (link = &lend->first; *link; ) {
    n = try_wanted (lend, (*link)->wanted);
    if (n == NONE)
      link = &(*link)->next;
    else
      hand_over (lend, link, n);
  }
  pthread_mutex_unlock (&lend->lock);
}

void
lend_return (struct lend *lend, unsigned n)
{
  if (atomic_load (&lend->nr_waiting) && pass_on (lend, n))
    return;
  atomic_store (&lend->things[n].taken, false);
  if (atomic_load (&lend->nr_waiting))
    serve (lend);
}
