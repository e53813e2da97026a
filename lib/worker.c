/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The background thread.
 *
 * While there is work it does a portion of it every TICK_MS.  When a
 * portion finds nothing to do, it goes to sleep until it is poked.  A
 * change that comes between that portion and falling asleep would be
 * overlooked, so it says that it is asleep first, looks once more, and
 * only then sleeps: either it sees the change, or whoever made the
 * change sees it asleep.
 *
 * A process that serves nothing thus wakes up for nothing.
 */

#include <config.h>

#include <errno.h>
#include <time.h>

#include "thread.h"
#include "worker.h"

#define TICK_MS 100

void
worker_init (struct worker *worker, bool (*tick) (void *), void *opaque)
{
  pthread_condattr_t attr;

  *worker = (struct worker) { .tick = tick, .opaque = opaque };
  pthread_mutex_init (&worker->lock, NULL);
  pthread_condattr_init (&attr);
  pthread_condattr_setclock (&attr, CLOCK_MONOTONIC);
  pthread_cond_init (&worker->wake, &attr);
  pthread_condattr_destroy (&attr);
}

void
worker_destroy (struct worker *worker)
{
  pthread_cond_destroy (&worker->wake);
  pthread_mutex_destroy (&worker->lock);
}

static void
add_ms (struct timespec *t, long ms)
{
  t->tv_nsec += ms * 1000000;
  t->tv_sec += t->tv_nsec / 1000000000;
  t->tv_nsec %= 1000000000;
}

/* The three functions below are called with the lock held. */

static void
pause_a_tick (struct worker *worker)
{
  struct timespec until;

  clock_gettime (CLOCK_MONOTONIC, &until);
  add_ms (&until, TICK_MS);
  while (!worker->quit
         && pthread_cond_timedwait (&worker->wake, &worker->lock,
                                    &until) != ETIMEDOUT)
    ;
}

static bool
work (struct worker *worker)
{
  bool more;

  pthread_mutex_unlock (&worker->lock);
  more = worker->tick (worker->opaque);
  pthread_mutex_lock (&worker->lock);
  return more;
}

static void
fall_asleep (struct worker *worker)
{
  atomic_store (&worker->asleep, true);
  if (work (worker))
    atomic_store (&worker->asleep, false);
  while (atomic_load (&worker->asleep) && !worker->quit)
    pthread_cond_wait (&worker->wake, &worker->lock);
}

static void *
worker_main (void *opaque)
{
  struct worker *worker = opaque;

  pthread_mutex_lock (&worker->lock);
  while (!worker->quit) {
    pause_a_tick (worker);
    if (!worker->quit && !work (worker))
      fall_asleep (worker);
  }
  pthread_mutex_unlock (&worker->lock);
  return NULL;
}

int
worker_start (struct worker *worker)
{
  if (worker->started)
    return 0;
  worker->quit = false;
  if (thread_start (&worker->thread, "zram-worker", worker_main, worker)
      == -1)
    return -1;
  worker->started = true;
  return 0;
}

void
worker_stop (struct worker *worker)
{
  if (!worker->started)
    return;
  pthread_mutex_lock (&worker->lock);
  worker->quit = true;
  pthread_cond_signal (&worker->wake);
  pthread_mutex_unlock (&worker->lock);
  pthread_join (worker->thread, NULL);
  worker->started = false;
  atomic_store (&worker->asleep, false);
}

void
worker_wake (struct worker *worker)
{
  pthread_mutex_lock (&worker->lock);
  atomic_store (&worker->asleep, false);
  pthread_cond_signal (&worker->wake);
  pthread_mutex_unlock (&worker->lock);
}
