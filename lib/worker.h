/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* A background thread that works in small portions, and sleeps when
 * there is nothing to do.
 */

#ifndef WORKER_H
#define WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct worker {
  bool (*tick) (void *opaque);  /* a portion; true: there may be more */
  void *opaque;

  pthread_t thread;
  bool started;                 /* known to starter and stopper only */

  pthread_mutex_t lock;         /* covers quit, and asleep becoming false */
  pthread_cond_t wake;
  bool quit;
  _Atomic bool asleep;
};

void worker_init (struct worker *, bool (*tick) (void *), void *opaque);
void worker_destroy (struct worker *);

/* -1 and errno on failure.  Both may be called when done already. */
int worker_start (struct worker *);
void worker_stop (struct worker *);

void worker_wake (struct worker *);

/* Say that there may be something to do.  Costs a load, and a system
 * call at most once for each time that the worker has fallen asleep.
 * Call it after an atomic change that is a full barrier (any
 * read-modify-write with the default order).
 */
static inline void
worker_poke (struct worker *worker)
{
  if (atomic_load (&worker->asleep))
    worker_wake (worker);
}

#endif /* WORKER_H */
