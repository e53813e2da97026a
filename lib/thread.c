/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>
#include <signal.h>

#include "thread.h"

int
thread_start (pthread_t *thread, const char *name, void *(*fn) (void *),
              void *opaque)
{
  sigset_t all, old;
  int err;

  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  err = pthread_create (thread, NULL, fn, opaque);
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  if (err) {
    errno = err;
    return -1;
  }
  pthread_setname_np (*thread, name);
  return 0;
}
