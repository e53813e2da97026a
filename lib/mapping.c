/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The only place that talks to the kernel about memory.
 *
 * MAP_NORESERVE, because the size of a table says nothing of how much
 * of it will be used: without it a machine that is merely small refuses
 * mappings that would never have been filled.  (One that is set to
 * account strictly, vm.overcommit_memory=2, ignores the flag; there we
 * get by with less, see memory.c.)
 */

#include <config.h>

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

#include <sys/mman.h>

#include "mapping.h"

/* Of Linux 5.14 and 5.18, which glibc's headers may not know. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif

/* The smallest page that any kernel has. */
#define MAPPING_PAGE 4096

void *
mapping_reserve (size_t size)
{
  void *addr = mmap (NULL, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

  if (addr == MAP_FAILED)
    return NULL;

  /* Both are advice: a kernel without either serves as well. */
  madvise (addr, size, MADV_DONTDUMP);
  madvise (addr, size, MADV_NOHUGEPAGE);
  return addr;
}

void
mapping_release (void *addr, size_t size)
{
  if (addr)
    munmap (addr, size);
}

/* One page at a time, where the kernel has no call for it (before 5.14). */
static void
touch_pages (volatile char *p, size_t size)
{
  size_t i;

  for (i = 0; i < size; i += MAPPING_PAGE)
    __atomic_fetch_or (&p[i], 0, __ATOMIC_RELAXED);
}

bool
mapping_populate (void *addr, size_t size)
{
  if (madvise (addr, size, MADV_POPULATE_WRITE) == 0)
    return true;
  if (errno != EINVAL)
    return false;
  touch_pages (addr, size);
  return true;
}

void
mapping_touch (void *addr, size_t size)
{
  char *p = addr;

  if (size == 0)
    return;
  touch_pages (p, size);
  touch_pages (p + size - 1, 1);
}

/* The old way for memory that is locked, and what locked it back: its
 * pages shall be locked as they come (mlockall with MCL_ONFAULT).
 */
static bool
discard_locked (void *addr, size_t size)
{
  bool gone;

  if (munlock (addr, size) == -1)
    return false;
  gone = madvise (addr, size, MADV_DONTNEED) == 0;
  mlock2 (addr, size, MLOCK_ONFAULT);
  return gone;
}

/* Linux 5.18 has a call for memory that is locked. */
bool
mapping_discard (void *addr, size_t size)
{
  if (madvise (addr, size, MADV_DONTNEED) == 0)
    return true;
  if (errno != EINVAL)
    return false;
  if (madvise (addr, size, MADV_DONTNEED_LOCKED) == 0)
    return true;
  return errno == EINVAL && discard_locked (addr, size);
}
