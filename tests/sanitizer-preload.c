/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Preloaded into nbdkit together with the sanitizers, or it would hang
 * when it ends.
 *
 * A library that nbdkit is linked with (p11-kit) calls newlocale before
 * main, which allocates memory while it holds glibc's locale lock.  That
 * is the first thing that the address sanitizer sees of the process, so
 * it sets itself up there and then, and looks for a function named
 * swift_demangle.  Of the failure it asks dlerror, which wants to
 * translate it, and takes and releases the locale lock once more.  After
 * that glibc believes that there is a reader for ever, and freelocale
 * at exit waits for it to go.  (gcc 12, glibc 2.36.)
 *
 * If the function is found, none of this happens.  Its answer means that
 * a name is not one of Swift's.
 */

#include <stddef.h>

char *swift_demangle (const char *name, size_t name_len,
                      char *out, size_t *out_len, unsigned flags);

char *
swift_demangle (const char *name, size_t name_len,
                char *out, size_t *out_len, unsigned flags)
{
  (void) name;
  (void) name_len;
  (void) out;
  (void) out_len;
  (void) flags;
  return NULL;
}
