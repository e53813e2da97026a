/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Pages that are moved by hand. */

#include <config.h>

#include <errno.h>

#include "memory.h"
#include "store.h"

int
zram_move (struct zram_store *store, const struct zram_move *move,
           uint64_t *moved)
{
  (void) store;
  (void) move;
  *moved = 0;
  errno = ENOTSUP;
  return -1;
}

void
zram_compact (struct zram_memory *memory)
{
  memory_tidy (memory, UINT32_MAX);
}

int
zram_remove_tier (struct zram_memory *memory, unsigned tier)
{
  (void) memory;
  (void) tier;
  errno = ENOTSUP;
  return -1;
}
