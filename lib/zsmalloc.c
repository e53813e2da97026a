/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* zsmalloc: packs objects densely, by size class.  After the allocator
 * of the Linux kernel (mm/zsmalloc.c), whose words it uses.
 *
 * An allocation takes a zspage of the fullest group that has room, so
 * that the emptier ones have a chance to become empty.  Zspages are kept
 * in eight groups by fullness; within a group the order is whatever it
 * came to be.
 *
 * Small stores: a class that holds little, and has no room, first looks
 * for room in the classes just above it, because opening a zspage for a
 * few objects costs more than the few bytes that they lose there.
 *
 * There are no handles.  The object's slot is the only thing that names
 * it, and each object has its slot's number beside it: four bytes, where
 * the kernel spends sixteen.
 *
 * Invariants (zs_check): in each zspage, inuse + the length of the free
 * list = fresh <= capacity; a zspage with nothing in use does not exist
 * (while no allocation is going on); a zspage is on the list of its
 * fullness; per class, `objects', `capacity' and `units' are the sums over
 * its zspages.  All of it can be computed again from the descriptors and the
 * slots.
 *
 * Locks: one per class.  Units are taken from the arena and given back
 * without it.
 */

#include <config.h>

#include <assert.h>

#include "zsmalloc.h"

/* Borrow room from other classes while a class holds less than this... */
#define BORROW_BELOW ARENA_UNIT
/* ...and if an object would lose at most this part of its size. */
#define BORROW_LOSS 16

/* ---- Descriptors: class 0..8, place 9..12, units - 1 13..16 -------- */

static uint32_t
descriptor (unsigned class, unsigned place, unsigned units)
{
  return class | place << 9 | (units - 1) << 13;
}

static struct zspage
zspage_at (const struct pool *pool, uint32_t first, unsigned units,
           unsigned class)
{
  struct zsmalloc *zs = pool->allocator;
  uint64_t end = (uint64_t) (first + units) * ARENA_UNIT;

  return (struct zspage) {
    .first = first,
    .units = units,
    .class = &zs->classes[class],
    .header = (struct zs_header *) arena_pointer (&pool->arena, end) - 1,
  };
}

/* The zspage that an address is in, whose unit has the descriptor D. */
static struct zspage
find_by (const struct pool *pool, uint64_t offset, uint32_t d)
{
  return zspage_at (pool, offset / ARENA_UNIT - (d >> 9 & 15),
                    (d >> 13 & 15) + 1, d & 511);
}

struct zspage
zs_find (const struct pool *pool, uint64_t offset)
{
  return find_by (pool, offset, *pool_descriptor (pool, offset));
}

/* ---- Lists of zspages ---------------------------------------------- */

static struct zs_header *
header_of (const struct pool *pool, uint32_t first)
{
  return zs_find (pool, (uint64_t) first * ARENA_UNIT).header;
}

/* A list has become empty, or is so no longer; or so many more are full. */
static void
note_list (struct zs_class *class, unsigned group, int n)
{
  if (group >= ZS_NR_PARTIAL)
    class->nr_full[group - ZS_NR_PARTIAL + 1] += n;
  else if (class->groups[group])
    class->partial_map |= 1u << group;
  else
    class->partial_map &= ~(1u << group);
}

static void
list_remove (struct pool *pool, const struct zspage *z)
{
  struct zs_class *class = z->class;
  struct zs_header *h = z->header;

  if (h->group == ZS_ISOLATED)
    return;
  if (h->prev)
    header_of (pool, h->prev)->next = h->next;
  else
    class->groups[h->group] = h->next;
  if (h->next)
    header_of (pool, h->next)->prev = h->prev;
  note_list (class, h->group, -1);
}

static void
list_insert (struct pool *pool, const struct zspage *z)
{
  struct zs_class *class = z->class;
  struct zs_header *h = z->header;

  if (h->group == ZS_ISOLATED)
    return;
  h->prev = 0;
  h->next = class->groups[h->group];
  if (h->next)
    header_of (pool, h->next)->prev = z->first;
  class->groups[h->group] = z->first;
  note_list (class, h->group, 1);
}

void
zs_set_group (struct pool *pool, const struct zspage *z, unsigned group)
{
  if (z->header->group == group)
    return;
  list_remove (pool, z);
  z->header->group = group;
  list_insert (pool, z);
}

unsigned
zs_natural_group (const struct zspage *z)
{
  unsigned capacity = z->class->capacities[z->units];

  if (z->header->inuse == capacity)
    return ZS_FULL (z->units);
  return z->header->inuse * ZS_NR_PARTIAL / capacity;
}

struct zspage
zs_fullest (const struct pool *pool, const struct zs_class *class)
{
  uint32_t map = class->partial_map;

  if (map == 0)
    return (struct zspage) { .first = 0 };
  return zs_find (pool, (uint64_t) class->groups[31 - __builtin_clz (map)]
                        * ARENA_UNIT);
}

/* ---- Zspages come and go ------------------------------------------- */

struct zspage
zs_create (struct pool *pool, struct zs_class *class, unsigned units,
           bool wait)
{
  struct zsmalloc *zs = pool->allocator;
  unsigned index = class - zs->classes, place;
  uint32_t first = pool_take_units (pool, units, wait);
  struct zspage z = zspage_at (pool, first, units, index);

  if (first == 0)
    return z;
  for (place = 0; place < units; place++)
    pool->descriptors[first + place] = descriptor (index, place, units);
  *z.header = (struct zs_header) { .free = ZS_END, .group = ZS_ISOLATED };
  return z;
}

void
zs_join (struct pool *pool, const struct zspage *z)
{
  z->class->capacity += z->class->capacities[z->units];
  z->class->units += z->units;
  z->class->opened++;
  zs_set_group (pool, z, zs_natural_group (z));
}

void
zs_leave (struct pool *pool, const struct zspage *z)
{
  list_remove (pool, z);
  z->class->capacity -= z->class->capacities[z->units];
  z->class->units -= z->units;
}

/* ---- Objects come and go ------------------------------------------- */

uint64_t
zs_take (struct pool *pool, const struct zspage *z, uint32_t owner)
{
  struct zs_header *h = z->header;
  unsigned index = h->free;

  if (index != ZS_END)
    h->free = *zs_owner (z, index) & ~ZS_FREE;
  else
    index = h->fresh++;
  *zs_owner (z, index) = owner;
  h->inuse++;
  z->class->objects++;
  zs_set_group (pool, z, zs_natural_group (z));
  return zs_offset (z, index);
}

void
zs_put (struct pool *pool, const struct zspage *z, unsigned index)
{
  struct zs_header *h = z->header;

  assert (index < h->fresh && !(*zs_owner (z, index) & ZS_FREE));
  *zs_owner (z, index) = ZS_FREE | h->free;
  h->free = index;
  h->inuse--;
  z->class->objects--;
  if (h->group != ZS_ISOLATED)
    zs_set_group (pool, z, zs_natural_group (z));
}

/* An object from a zspage that the class has.  0 if all are full. */
static uint64_t
take_from_class (struct pool *pool, struct zs_class *class, uint32_t owner)
{
  struct zspage z;
  uint64_t offset = 0;

  pthread_mutex_lock (&class->lock);
  z = zs_fullest (pool, class);
  if (z.first)
    offset = zs_take (pool, &z, owner);
  pthread_mutex_unlock (&class->lock);
  return offset;
}

/* An object of the classes above this one, up to a size. */
static uint64_t
borrow (struct pool *pool, struct zs_class *class, size_t size_max,
        uint32_t owner)
{
  struct zsmalloc *zs = pool->allocator;
  struct zs_class *end = &zs->classes[ZS_NR_SMALL];
  uint64_t offset = 0;

  while (++class < end && class->size <= size_max && offset == 0)
    if (class->partial_map)
      offset = take_from_class (pool, class, owner);
  return offset;
}

/* An object from a new zspage of so many units. */
static uint64_t
take_from_zspage_of (struct pool *pool, struct zs_class *class,
                     unsigned units, uint32_t owner, bool wait)
{
  struct zspage z = zs_create (pool, class, units, wait);
  uint64_t offset;

  if (z.first == 0)
    return 0;
  pthread_mutex_lock (&class->lock);
  zs_join (pool, &z);
  offset = zs_take (pool, &z, owner);
  pthread_mutex_unlock (&class->lock);
  return offset;
}

/* An object from a zspage that is made for it. */
static __attribute__ ((noinline)) uint64_t
take_from_new (struct pool *pool, struct zs_class *class, uint32_t owner,
               bool wait)
{
  uint64_t objects, offset;

  pthread_mutex_lock (&class->lock);
  objects = class->objects;
  pthread_mutex_unlock (&class->lock);
  if (objects * class->size < BORROW_BELOW) {
    offset = borrow (pool, class, class->size + class->size / BORROW_LOSS,
                     owner);
    if (offset)
      return offset;
  }
  return take_from_zspage_of (pool, class,
                              zs_best_units (class->size, objects), owner,
                              wait);
}

static uint64_t
zs_alloc (struct pool *pool, size_t size, uint32_t owner, bool wait)
{
  struct zsmalloc *zs = pool->allocator;
  struct zs_class *class = &zs->classes[zs_class_index (size)];
  uint64_t offset = take_from_class (pool, class, owner);

  return offset ? offset : take_from_new (pool, class, owner, wait);
}

/* From a zspage of any length that there is memory for, or from any class
 * that has room.
 */
static uint64_t
zs_alloc_anywhere (struct pool *pool, size_t size, uint32_t owner)
{
  struct zsmalloc *zs = pool->allocator;
  struct zs_class *class = &zs->classes[zs_class_index (size)];
  unsigned units = ZS_UNITS_MAX;
  uint64_t offset = 0;

  while (offset == 0 && --units && class->capacities[units])
    offset = take_from_zspage_of (pool, class, units, owner, true);
  return offset ? offset : borrow (pool, class, ZS_SMALL_MAX, owner);
}

/* Which object of its zspage an offset is. */
static unsigned
index_of (const struct zspage *z, uint64_t offset)
{
  return (uint32_t) (offset - (uint64_t) z->first * ARENA_UNIT)
    / z->class->size;
}

static void
zs_prefetch_free (const struct pool *pool, uint64_t offset, uint32_t d)
{
  struct zspage z = find_by (pool, offset, d);

  __builtin_prefetch (z.header, 1);
  __builtin_prefetch (zs_owner (&z, index_of (&z, offset)), 1);
}

static void
zs_free (struct pool *pool, uint64_t offset)
{
  struct zspage z = zs_find (pool, offset);
  bool empty;

  pthread_mutex_lock (&z.class->lock);
  zs_put (pool, &z, index_of (&z, offset));
  empty = z.header->inuse == 0 && z.header->group != ZS_ISOLATED;
  if (empty)
    zs_leave (pool, &z);
  pthread_mutex_unlock (&z.class->lock);
  if (empty)
    arena_free (&pool->arena, z.first, z.units);
}

/* ---- Life ---------------------------------------------------------- */

static void
init_class (struct zs_class *class, size_t size)
{
  unsigned units;

  pthread_mutex_init (&class->lock, NULL);
  class->size = size;
  for (units = 1; units <= ZS_UNITS_MAX; units++)
    class->capacities[units] = zs_capacity (size, units);
}

static void
zs_init (struct pool *pool)
{
  struct zsmalloc *zs = pool->allocator;
  unsigned i;

  for (i = 0; i < ZS_NR_CLASSES; i++)
    init_class (&zs->classes[i], zs_class_size (i));
}

static void
zs_destroy (struct pool *pool)
{
  struct zsmalloc *zs = pool->allocator;
  unsigned i;

  for (i = 0; i < ZS_NR_CLASSES; i++)
    pthread_mutex_destroy (&zs->classes[i].lock);
}

const struct pool_ops zsmalloc_ops = {
  .small_max = ZS_SMALL_MAX,
  .object_max = POOL_OBJECT_MAX,
  .size = sizeof (struct zsmalloc),
  .init = zs_init,
  .destroy = zs_destroy,
  .alloc = zs_alloc,
  .alloc_anywhere = zs_alloc_anywhere,
  .free = zs_free,
  .prefetch_free = zs_prefetch_free,
  .compact = zs_compact,
  .check = zs_check,
};
