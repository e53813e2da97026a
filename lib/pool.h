/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The pool: holds objects.  One interface, two allocators behind it.
 *
 * An object is named by its offset in the arena, a multiple of 16, and
 * carries its owner: the number of the slot that names it (table.h), or,
 * for a group of pages, of one of its run.  The pool never looks into an
 * object, but for the header of a group.  It may move one (compaction):
 * then it locks the slots that name it, and makes them name the new place.
 */

#ifndef POOL_H
#define POOL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "arena.h"
#include "table.h"
#include "zram.h"

/* The largest object.  (Pages have at most ZRAM_PAGE_SIZE bytes, groups
 * of pages have more.)
 */
#define POOL_OBJECT_MAX 16384

struct pool_ops;

struct pool {
  struct arena arena;
  const struct table *table;
  const struct pool_ops *ops;
  void *allocator;              /* what the ops work on... */
  size_t allocator_size;        /* ...bytes of it charged to the limit */
  uint32_t *descriptors;        /* one per unit of the arena */
  pthread_mutex_t compacting;   /* one thread compacts at a time */
  _Atomic int64_t pages_compacted;      /* net: below 0 for a moment */
};

/* -1 and errno on failure.  ARENA_SIZE in bytes. */
int pool_init (struct pool *, const struct table *, struct limit *,
               enum zram_allocator, uint64_t arena_size);
void pool_destroy (struct pool *);

/* The largest object that can take less than a whole page: what does not
 * compress to this many bytes is better stored as it is.
 */
size_t pool_small_max (const struct pool *);

/* Make room for an object of SIZE bytes (1 to POOL_OBJECT_MAX) that the
 * slot OWNER is going to name.  Returns its offset, or 0 and errno:
 * ENOSPC if the limit is reached, ENOMEM if address space ran out,
 * EINVAL if the allocator does not take objects of this size.
 */
uint64_t pool_alloc (struct pool *, size_t size, uint32_t owner);

/* The same for what can be left undone: whoever holds locks that others need
 * to make memory free must not wait for some.  Fails with EAGAIN instead.
 */
uint64_t pool_try_alloc (struct pool *, size_t size, uint32_t owner);

/* The same, from free room that the pool has, even if the object wastes
 * much of it.  0 leaves errno as it was.
 */
uint64_t pool_alloc_anywhere (struct pool *, size_t size, uint32_t owner);

/* Free an object that no slot names any more. */
void pool_free (struct pool *, uint64_t offset);

/* The object is going to be freed soon: fetch what that will touch.  A
 * hint: it does no harm if the object is gone already.
 */
void pool_prefetch_free (const struct pool *, uint64_t offset);

static inline void *
pool_object (const struct pool *pool, uint64_t offset)
{
  return arena_pointer (&pool->arena, offset);
}

/* Move objects together until *BUDGET of them have been looked at (it is
 * counted down) or nothing is to be gained.  Returns true if anything
 * was gained or the budget ended it.  SHRINK: also tidy up classes that
 * are not growing at the moment, so that their zspages are as long as is
 * best for what they hold.  Any thread may call it at any time; I/O goes
 * on meanwhile.
 */
bool pool_compact (struct pool *, unsigned *budget, bool shrink);

/* Bytes that the objects' units take, now and at most. */
uint64_t pool_used (struct pool *);
uint64_t pool_used_max (struct pool *);

/* The validator.  Calls FN for each object with its offset, the room
 * that it has, and its owner; FN returns the number of faults that it
 * found.  Lines to REPORT; returns the number of faults in all.
 */
typedef unsigned pool_object_fn (void *opaque, uint64_t offset, size_t room,
                                 uint32_t owner);
unsigned pool_check (struct pool *, pool_object_fn *fn, void *opaque,
                     FILE *report);

/* ---- For allocators ------------------------------------------------ */

struct pool_ops {
  size_t small_max;             /* see pool_small_max */
  size_t object_max;            /* the largest object it takes */
  size_t size;                  /* of pool->allocator, which is zeroed... */
  void (*init) (struct pool *);         /* ...before this is called */
  void (*destroy) (struct pool *);
  uint64_t (*alloc) (struct pool *, size_t size, uint32_t owner, bool wait);
  uint64_t (*alloc_anywhere) (struct pool *, size_t size, uint32_t owner);
  void (*free) (struct pool *, uint64_t offset);
  void (*prefetch_free) (const struct pool *, uint64_t offset,
                         uint32_t descriptor);
  bool (*compact) (struct pool *, unsigned *budget, bool shrink);
  unsigned (*check) (struct pool *, pool_object_fn *fn, void *opaque,
                     FILE *report);
};

extern const struct pool_ops zsmalloc_ops, zbud_ops;

/* Units from the arena, for somebody who waits for memory or does not. */
static inline uint32_t
pool_take_units (struct pool *pool, unsigned units, bool wait)
{
  return wait ? arena_alloc (&pool->arena, units)
    : arena_try_alloc (&pool->arena, units);
}

/* A unit's descriptor belongs to the allocator that took the unit.  The
 * top bit says that it is a whole-page object, and the rest its owner.
 * (A unit that is not in use has any descriptor.)
 */
#define POOL_WHOLE_PAGE (UINT32_C (1) << 31)

static inline uint32_t *
pool_descriptor (const struct pool *pool, uint64_t offset)
{
  return &pool->descriptors[offset / ARENA_UNIT];
}

/* The slots that name an object, locked. */
struct pool_namers {
  unsigned nr;
  struct {
    slot *slot;
    uint64_t word;
  } names[16];                  /* GROUP_PAGES_MAX */
};

/* Lock the slots that name the object at OFFSET, whose owner is OWNER, if
 * they do and are free.  Never waits, so it may be called with the
 * allocator's locks held.  pool_unlock_namers has the slots name the
 * object at another place.
 */
bool pool_try_namers (const struct pool *, uint32_t owner, uint64_t offset,
                      struct pool_namers *);
void pool_unlock_namers (const struct pool_namers *, uint64_t offset);

#endif /* POOL_H */
