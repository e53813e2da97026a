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

#endif /* THREAD_H */
