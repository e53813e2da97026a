/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Threads of our own in somebody else's program. */

#ifndef THREAD_H
#define THREAD_H

#include <pthread.h>

/* Start a thread with this name (at most 15 bytes).  Signals are for the
 * threads of the program that we are part of, so it blocks all.  -1 and
 * errno on failure.
 */
int thread_start (pthread_t *, const char *name, void *(*fn) (void *),
                  void *opaque);

/* Have the calling thread's stack in memory, as much of it as it will
 * need, so that it never waits for a page of it while it holds a lock.
 */
void thread_touch_stack (void);

#endif /* THREAD_H */
