/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* A few numbered things that are lent to threads, for microseconds each.
 * See lend.c.
 */

#ifndef LEND_H
#define LEND_H

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>

struct lend_waiter;

struct lend_thing {
  alignas (64) _Atomic bool taken;
};

struct lend {
  struct lend_thing *things;
  unsigned nr;
  pthread_mutex_t lock;         /* covers the queue */
  struct lend_waiter *first;
  struct lend_waiter **last;
  _Atomic unsigned nr_waiting;
};

/* -1 and errno on failure. */
int lend_init (struct lend *, unsigned nr);
void lend_destroy (struct lend *);

/* Take one, waiting if all are taken, and return its number. */
unsigned lend_take (struct lend *);

/* Take this one. */
void lend_take_this (struct lend *, unsigned n);

void lend_return (struct lend *, unsigned n);

#endif /* LEND_H */
