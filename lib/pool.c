/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* What both allocators share: the arena, one descriptor for each of its
 * units, and pages that are stored as they are.
 *
 * Such a page fills a unit to the last byte, so no header can stand in
 * it, and its owner stands in the unit's descriptor.  It is handled here
 * for both allocators, which therefore never see an object between
 * small_max and the page size.
 *
 * Descriptors are an array over the whole arena: the arena's records.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "group.h"
#include "pool.h"

static const struct pool_ops *const allocators[ZRAM_NR_ALLOCATORS] = {
  [ZRAM_ALLOCATOR_ZSMALLOC] = &zsmalloc_ops,
  [ZRAM_ALLOCATOR_ZBUD] = &zbud_ops,
};

static const char *const allocator_names[ZRAM_NR_ALLOCATORS] = {
  [ZRAM_ALLOCATOR_ZSMALLOC] = "zsmalloc",
  [ZRAM_ALLOCATOR_ZBUD] = "zbud",
};

const char *
zram_allocator_name (enum zram_allocator allocator)
{
  return allocator_names[allocator];
}

bool
zram_allocator_find (const char *name, enum zram_allocator *allocator)
{
  unsigned i;

  for (i = 0; i < ZRAM_NR_ALLOCATORS; i++) {
    if (strcmp (name, allocator_names[i]) == 0) {
      *allocator = i;
      return true;
    }
  }
  return false;
}

/* The allocator's own records, aligned to cache lines. */
static int
make_allocator (struct pool *pool)
{
  size_t size = (pool->ops->size + 63) / 64 * 64;

  if (!limit_charge (pool->arena.limit, size)) {
    errno = ENOSPC;
    return -1;
  }
  pool->allocator = aligned_alloc (64, size);
  if (pool->allocator == NULL) {
    limit_uncharge (pool->arena.limit, size);
    return -1;
  }
  pool->allocator_size = size;
  memset (pool->allocator, 0, size);
  pool->ops->init (pool);
  return 0;
}

int
pool_init (struct pool *pool, const struct table *table, struct limit *limit,
           enum zram_allocator allocator, uint64_t arena_size)
{
  memset (pool, 0, sizeof *pool);
  pool->table = table;
  pool->ops = allocators[allocator];
  if (arena_init (&pool->arena, limit, arena_size,
                  ARENA_CHUNK_UNITS * sizeof *pool->descriptors) == -1)
    return -1;
  pool->descriptors = pool->arena.records;
  if (make_allocator (pool) == -1) {
    pool->descriptors = NULL;
    arena_destroy (&pool->arena);
    return -1;
  }
  pthread_mutex_init (&pool->compacting, NULL);
  return 0;
}

void
pool_destroy (struct pool *pool)
{
  if (pool->descriptors == NULL)
    return;
  pthread_mutex_destroy (&pool->compacting);
  pool->ops->destroy (pool);
  limit_uncharge (pool->arena.limit, pool->allocator_size);
  free (pool->allocator);
  pool->descriptors = NULL;
  arena_destroy (&pool->arena);
}

size_t
pool_small_max (const struct pool *pool)
{
  return pool->ops->small_max;
}

static uint64_t
alloc_whole_page (struct pool *pool, uint32_t owner, bool wait)
{
  uint64_t offset = (uint64_t) pool_take_units (pool, 1, wait) * ARENA_UNIT;

  if (offset)
    *pool_descriptor (pool, offset) = POOL_WHOLE_PAGE | owner;
  return offset;
}

static uint64_t
alloc (struct pool *pool, size_t size, uint32_t owner, bool wait)
{
  if (size > pool->ops->small_max && size <= ARENA_UNIT)
    return alloc_whole_page (pool, owner, wait);
  if (size == 0 || size > pool->ops->object_max) {
    errno = EINVAL;
    return 0;
  }
  return pool->ops->alloc (pool, size, owner, wait);
}

uint64_t
pool_alloc (struct pool *pool, size_t size, uint32_t owner)
{
  return alloc (pool, size, owner, true);
}

uint64_t
pool_try_alloc (struct pool *pool, size_t size, uint32_t owner)
{
  return alloc (pool, size, owner, false);
}

uint64_t
pool_alloc_anywhere (struct pool *pool, size_t size, uint32_t owner)
{
  uint64_t offset = 0;
  int err = errno;

  if (size <= pool->ops->small_max)
    offset = pool->ops->alloc_anywhere (pool, size, owner);
  errno = err;
  return offset;
}

void
pool_free (struct pool *pool, uint64_t offset)
{
  if (*pool_descriptor (pool, offset) & POOL_WHOLE_PAGE)
    arena_free (&pool->arena, offset / ARENA_UNIT, 1);
  else
    pool->ops->free (pool, offset);
}

/* The descriptor may be about to change, but it always is some valid
 * one; so it is read once, and a race is no matter.
 */
__attribute__ ((no_sanitize_thread)) void
pool_prefetch_free (const struct pool *pool, uint64_t offset)
{
  uint32_t d = *(volatile uint32_t *) pool_descriptor (pool, offset);

  if (!(d & POOL_WHOLE_PAGE))
    pool->ops->prefetch_free (pool, offset, d);
}

bool
pool_compact (struct pool *pool, unsigned *budget, bool shrink)
{
  bool done;

  pthread_mutex_lock (&pool->compacting);
  done = pool->ops->compact (pool, budget, shrink);
  pthread_mutex_unlock (&pool->compacting);
  return done;
}

uint64_t
pool_used (struct pool *pool)
{
  return arena_used (&pool->arena);
}

uint64_t
pool_used_max (struct pool *pool)
{
  return arena_used_max (&pool->arena);
}

static bool
try_name (struct pool_namers *namers, slot *s, uint64_t word)
{
  if (!slot_trylock (s, word))
    return false;
  namers->names[namers->nr].slot = s;
  namers->names[namers->nr++].word = word;
  return true;
}

static void
let_go (const struct pool_namers *namers)
{
  unsigned i;

  for (i = 0; i < namers->nr; i++)
    slot_unlock (namers->names[i].slot, namers->names[i].word);
}

/* All pages of a group, and none of them may be leaving. */
static bool
try_group (const struct pool *pool, slot *base, uint64_t offset,
           struct pool_namers *namers)
{
  unsigned map = group_named (base, offset), place;

  if (map == 0 || map != atomic_load (&group_header (pool, offset)->live))
    return false;
  for (place = 0; place < GROUP_PAGES_MAX; place++) {
    uint64_t word = slot_peek (&base[place]);

    if (!(map >> place & 1))
      continue;
    if (slot_state (word) != SLOT_GROUP || slot_offset (word) != offset
        || !try_name (namers, &base[place], word)) {
      let_go (namers);
      return false;
    }
  }
  return true;
}

/* The slot may be in a leaf that is about to be freed, but not in one
 * that has been: as long as the object has this owner (the caller holds
 * a lock of the allocator that guarantees it), either a slot names the
 * object, or the request that is going to make it do so, or to free the
 * object, is still inside its epoch.
 */
bool
pool_try_namers (const struct pool *pool, uint32_t owner, uint64_t offset,
                 struct pool_namers *namers)
{
  slot *s = table_slot (pool->table, owner);
  uint64_t word = slot_peek (s);

  namers->nr = 0;
  if (slot_is_alone (word) && slot_offset (word) == offset)
    return try_name (namers, s, word);
  return try_group (pool, table_slot (pool->table, group_base (owner)),
                    offset, namers);
}

void
pool_unlock_namers (const struct pool_namers *namers, uint64_t offset)
{
  unsigned i;

  for (i = 0; i < namers->nr; i++)
    slot_unlock (namers->names[i].slot,
                 slot_word_moved (namers->names[i].word, offset));
}

/* Whole pages are checked here, the rest by the allocator. */
unsigned
pool_check (struct pool *pool, pool_object_fn *fn, void *opaque, FILE *report)
{
  unsigned faults = arena_check (&pool->arena, "pool", report);
  uint32_t unit, end = arena_end (&pool->arena);

  for (unit = ARENA_CHUNK_UNITS; unit < end; unit++)
    if (arena_is_used (&pool->arena, unit)
        && pool->descriptors[unit] & POOL_WHOLE_PAGE)
      faults += fn (opaque, (uint64_t) unit * ARENA_UNIT, ARENA_UNIT,
                    pool->descriptors[unit] & ~POOL_WHOLE_PAGE);
  return faults + pool->ops->check (pool, fn, opaque, report);
}
