/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>
#include <signal.h>

#include "thread.h"

/* Training dictionaries takes most, some 40 KiB. */
#define STACK_SIZE (96 * 1024)
#define SYSTEM_PAGE 4096

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

/* A page a time, downwards, as stacks grow. */
__attribute__ ((noinline)) void
thread_touch_stack (void)
{
  volatile char stack[STACK_SIZE];
  size_t i;

  for (i = sizeof stack; i >= SYSTEM_PAGE; i -= SYSTEM_PAGE)
    stack[i - 1] = 0;
}
