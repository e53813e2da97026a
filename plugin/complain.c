/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* See complain.h.  Where to is the thread's, and not an argument of all that
 * could complain: a value is taken apart some calls below the one who knows
 * where it came from.
 */

#include <config.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "complain.h"

static __thread struct {
  char *buf;                    /* NULL: nbdkit's log */
  size_t size;
} into __attribute__ ((tls_model ("initial-exec")));

void
complain_into (char *buf, size_t size)
{
  into.buf = buf;
  into.size = size;
}

void
complain (const char *format, ...)
{
  int err = errno;
  va_list args;

  va_start (args, format);
  if (into.buf)
    vsnprintf (into.buf, into.size, format, args);
  else
    nbdkit_verror (format, args);
  va_end (args);
  errno = err;
}
