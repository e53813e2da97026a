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

#include <stdbool.h>
#include <stddef.h>

#include <sys/mman.h>

#include "mapping.h"

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

bool
mapping_discard (void *addr, size_t size)
{
  return madvise (addr, size, MADV_DONTNEED) == 0;
}
