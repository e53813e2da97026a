/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The keeper faults memory in ahead of need, so that nobody who needs
 * some has to ask the kernel for it.
 *
 * Where the kernel swaps to us, it may want to swap out before it gives
 * us a page.  A thread that waits for that page must therefore not be
 * one that the swapping waits for.  The keeper is the only thread that
 * may find itself in that place, so it holds no lock while it faults
 * memory in, and takes no part in anything else.  That is why this is
 * not a duty of the worker: it would come after training, or after
 * compaction, when the reserve is at its lowest.
 *
 * It sleeps until an arena calls it, which it does when an eighth of its
 * reserve is gone, or when a thread finds nothing and waits.
 *
 * Locks: an arena's lock may be held when the keeper is called, so the
 * keeper never takes one while it holds its own.
 */

#include <config.h>

#include <errno.h>
#include <time.h>

#include "keeper.h"
#include "thread.h"

/* How long to wait when the system has no memory for us. */
#define PAUSE_NS 5000000

void
keeper_init (struct keeper *keeper, struct arena *a, struct arena *b)
{
  *keeper = (struct keeper) { .arenas = { a, b } };
  pthread_mutex_init (&keeper->lock, NULL);
  pthread_cond_init (&keeper->wake, NULL);
}

void
keeper_destroy (struct keeper *keeper)
{
  pthread_cond_destroy (&keeper->wake);
  pthread_mutex_destroy (&keeper->lock);
}

static bool
must_quit (struct keeper *keeper)
{
  bool quit;

  pthread_mutex_lock (&keeper->lock);
  quit = keeper->quit;
  pthread_mutex_unlock (&keeper->lock);
  return quit;
}

/* One chunk for each arena in turn, since for each somebody may wait. */
static bool
fill_some (struct keeper *keeper)
{
  const struct timespec a_while = { .tv_nsec = PAUSE_NS };
  bool more = false;
  unsigned i;

  for (i = 0; i < KEEPER_ARENAS; i++) {
    int r = arena_refill (keeper->arenas[i]);
    bool again = r == -1 && errno == EAGAIN;

    if (again)
      nanosleep (&a_while, NULL);
    more |= r == 1 || again;
  }
  return more;
}

static void
fill (struct keeper *keeper)
{
  while (!must_quit (keeper) && fill_some (keeper))
    ;
}

/* False if it is time to go. */
static bool
wait_for_call (struct keeper *keeper)
{
  bool quit;

  pthread_mutex_lock (&keeper->lock);
  while (!keeper->called && !keeper->quit)
    pthread_cond_wait (&keeper->wake, &keeper->lock);
  keeper->called = false;
  quit = keeper->quit;
  pthread_mutex_unlock (&keeper->lock);
  return !quit;
}

static void *
keeper_main (void *opaque)
{
  struct keeper *keeper = opaque;

  thread_touch_stack ();
  while (wait_for_call (keeper))
    fill (keeper);
  return NULL;
}

static void
wake (void *opaque)
{
  keeper_call (opaque);
}

static void
set_reserves (struct keeper *keeper, uint64_t a, uint64_t b)
{
  arena_set_reserve (keeper->arenas[0], a, wake, keeper);
  arena_set_reserve (keeper->arenas[1], b, wake, keeper);
}

int
keeper_start (struct keeper *keeper, uint64_t a, uint64_t b)
{
  if (keeper->started)
    return 0;
  keeper->called = keeper->quit = false;
  set_reserves (keeper, a, b);
  fill (keeper);
  if (thread_start (&keeper->thread, "zram-keeper", keeper_main, keeper)
      == -1) {
    int err = errno;

    set_reserves (keeper, 0, 0);
    errno = err;
    return -1;
  }
  keeper->started = true;
  return 0;
}

void
keeper_stop (struct keeper *keeper)
{
  if (!keeper->started)
    return;
  pthread_mutex_lock (&keeper->lock);
  keeper->quit = true;
  pthread_cond_signal (&keeper->wake);
  pthread_mutex_unlock (&keeper->lock);
  pthread_join (keeper->thread, NULL);
  keeper->started = false;
  set_reserves (keeper, 0, 0);
}

void
keeper_call (struct keeper *keeper)
{
  pthread_mutex_lock (&keeper->lock);
  keeper->called = true;
  pthread_cond_signal (&keeper->wake);
  pthread_mutex_unlock (&keeper->lock);
}
