/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Compaction: moves the objects of the emptiest zspages of a class into
 * the fullest, until the free room left would not hold one zspage more.
 *
 * It stops nobody.  A zspage that is to be emptied is first taken off its
 * list, so that nothing is put into it; then its objects are moved one
 * at a time, each under the class's lock and its own slot's, for the
 * time of one copy.  The slot is only tried, never waited for: a slot
 * that is locked belongs to a request, and one that does not name the
 * object belongs to a write that has allocated it and not published it
 * yet.  Then the zspage goes back to its list for another time.
 *
 * When a class has nothing left to gain that way, and has not opened a
 * zspage since the last look, its last, partly empty zspage may still be
 * longer than what is in it needs (shrink): that goes to a shorter one.
 */

#include <config.h>

#include <string.h>

#include "zsmalloc.h"

/* How far to look in a group for the emptiest one. */
#define LOOK 16

/* The emptiest zspage of the class; first is 0 if all are full. */
static struct zspage
emptiest (const struct pool *pool, const struct zs_class *class)
{
  struct zspage best = { .first = 0 }, z;
  uint32_t map = class->group_map, first;
  unsigned i;

  if (map == 0)
    return best;
  first = class->groups[__builtin_ctz (map)];
  for (i = 0; first && i < LOOK; i++, first = z.header->next) {
    z = zs_find (pool, (uint64_t) first * ARENA_UNIT);
    if (best.first == 0 || z.header->inuse < best.header->inuse)
      best = z;
  }
  return best;
}

/* How many of its objects the other zspages have no room for. */
static uint64_t
homeless (const struct zspage *z)
{
  const struct zs_class *class = z->class;
  uint64_t room = class->capacity - class->objects
    - (class->capacities[z->units] - z->header->inuse);

  return room < z->header->inuse ? z->header->inuse - room : 0;
}

/* The shortest zspage that holds so many. */
static unsigned
units_for (const struct zs_class *class, uint64_t objects)
{
  unsigned units = 1;

  while (units < ZS_UNITS_MAX && class->capacities[units] < objects)
    units++;
  return units;
}

/* Move one object: to the fullest zspage that has room or, if there is
 * none, to SPARE, which then joins the class (and its first becomes 0).
 * False if it cannot be moved now.
 */
static bool
move_object (struct pool *pool, const struct zspage *z, unsigned index,
             struct zspage *spare)
{
  uint32_t owner = *zs_owner (z, index);
  uint64_t from = zs_offset (z, index), to, word;
  struct zspage target = zs_fullest (pool, z->class);
  slot *s;

  if (target.first == 0)
    target = *spare;
  if (target.first == 0 || !pool_try_owner (pool, owner, from, &s, &word))
    return false;
  if (target.first == spare->first) {
    zs_join (pool, spare);
    z->class->opened--;
    spare->first = 0;
  }
  to = zs_take (pool, &target, owner);
  memcpy (pool_object (pool, to), pool_object (pool, from), slot_size (word));
  slot_unlock (s, slot_word_moved (word, to));
  zs_put (pool, z, index);
  return true;
}

/* Move all objects of a zspage that is isolated. */
static void
evacuate (struct pool *pool, const struct zspage *z, struct zspage *spare,
          unsigned *budget)
{
  unsigned index, fresh = z->header->fresh;
  bool moved = true;

  for (index = 0; moved && *budget && index < fresh; index++) {
    pthread_mutex_lock (&z->class->lock);
    if (!(*zs_owner (z, index) & ZS_FREE)) {
      moved = move_object (pool, z, index, spare);
      --*budget;
    }
    pthread_mutex_unlock (&z->class->lock);
  }
}

/* Free the zspage if it is empty now, or put it back on its list. */
static bool
finish (struct pool *pool, const struct zspage *z)
{
  bool empty;

  pthread_mutex_lock (&z->class->lock);
  empty = z->header->inuse == 0;
  if (empty)
    zs_leave (pool, z);
  else
    zs_set_group (pool, z, zs_natural_group (z));
  pthread_mutex_unlock (&z->class->lock);
  if (empty)
    arena_free (&pool->arena, z->first, z->units);
  return empty;
}

/* Choose the zspage to empty and isolate it.  *EXTRA is the length of
 * the zspage that is needed beside those that the class has, or 0.  The
 * zspage's first is 0 if there is nothing to gain.
 */
static struct zspage
choose (struct pool *pool, struct zs_class *class, bool shrink,
        unsigned *extra)
{
  struct zspage z;
  uint64_t rest;

  pthread_mutex_lock (&class->lock);
  z = emptiest (pool, class);
  if (z.first) {
    rest = homeless (&z);
    *extra = rest ? units_for (class, rest) : 0;
    if (rest && (!shrink || *extra >= z.units))
      z.first = 0;
    else
      zs_set_group (pool, &z, ZS_ISOLATED);
  }
  pthread_mutex_unlock (&class->lock);
  return z;
}

/* Empty one zspage.  True if that freed memory. */
static bool
compact_one (struct pool *pool, struct zs_class *class, unsigned *budget,
             bool shrink)
{
  unsigned extra = 0;
  struct zspage z = choose (pool, class, shrink, &extra);
  struct zspage spare = { .first = 0 };

  if (z.first == 0)
    return false;
  if (extra)
    spare = zs_create (pool, class, extra);
  if (extra == 0 || spare.first)
    evacuate (pool, &z, &spare, budget);
  if (spare.first) {            /* it was not needed after all */
    arena_free (&pool->arena, spare.first, spare.units);
    extra = 0;
  }
  if (!finish (pool, &z))
    return false;
  atomic_fetch_add (&pool->pages_compacted, z.units - extra);
  return true;
}

/* Whether the class has opened a zspage since this was last asked. */
static bool
was_growing (struct zs_class *class)
{
  bool r;

  pthread_mutex_lock (&class->lock);
  r = class->opened != 0;
  class->opened = 0;
  pthread_mutex_unlock (&class->lock);
  return r;
}

bool
zs_compact (struct pool *pool, unsigned *budget, bool shrink)
{
  struct zsmalloc *zs = pool->allocator;
  bool growing, done = false;
  unsigned i;

  for (i = 0; i < ZS_NR_CLASSES && *budget; i++) {
    struct zs_class *class = &zs->classes[zs->cursor];

    growing = shrink && was_growing (class);
    done |= growing;
    while (*budget && compact_one (pool, class, budget, shrink && !growing))
      done = true;
    if (*budget)
      zs->cursor = (zs->cursor + 1) % ZS_NR_CLASSES;
  }
  return done;
}
