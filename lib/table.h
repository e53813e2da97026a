/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The pages that slot tables are made of: leaves of 512 slots, and the
 * nodes of the directories above them.  Shared by all stores on a
 * memory, so that one number of 31 bits names any slot of any of them:
 * its owner number, which is what an object carries in the pool.
 */

#ifndef TABLE_H
#define TABLE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "epoch.h"
#include "slot.h"

#define TABLE_PAGE_SIZE ARENA_UNIT
#define TABLE_LEAF_SLOTS (TABLE_PAGE_SIZE / sizeof (slot))

/* Owner numbers lie below this.  It bounds the leaves of all stores
 * together to 2^22, that is 8 TiB of pages that were written.
 */
#define TABLE_OWNER_MAX (UINT64_C (1) << 31)

struct table {
  struct arena arena;
  struct epoch epoch;           /* requests enter it before they look up */

  pthread_mutex_t lock;         /* covers the lists */
  uint32_t retired;             /* pages that have no ticket yet */
  uint32_t expiring;            /* pages that wait for... */
  uint64_t ticket;              /* ...this grace period */
};

/* SIZE bytes of address space, at most TABLE_SIZE_MAX. */
#define TABLE_SIZE_MAX (TABLE_OWNER_MAX * sizeof (slot))
int table_init (struct table *, struct limit *, uint64_t size);
void table_destroy (struct table *);

/* A page of zeroes.  0 and errno (as for arena_alloc) on failure. */
uint32_t table_alloc (struct table *);

/* Free a page that nobody else can have seen. */
void table_free (struct table *, uint32_t page);

/* Free a page that was filled with DEAD words and is in no directory any
 * more, when no request can hold a pointer to it.
 */
void table_retire (struct table *, uint32_t page);

/* Free the pages whose time has come.  True if some are still waiting:
 * call again.
 */
bool table_poll (struct table *);

/* The number of pages that are retired and not yet free. */
unsigned table_nr_waiting (struct table *);

static inline void *
table_page (const struct table *table, uint32_t page)
{
  return arena_pointer (&table->arena, (uint64_t) page * TABLE_PAGE_SIZE);
}

static inline slot *
table_slot (const struct table *table, uint32_t owner)
{
  return (slot *) table->arena.base + owner;
}

static inline uint32_t
table_owner (const struct table *table, const slot *s)
{
  return s - (slot *) table->arena.base;
}

#endif /* TABLE_H */
