/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Compaction: moves the objects of the emptiest zspages of a class into
 * the fullest, until the free room left would not hold one zspage more.
 *
 * It stops nobody.  A zspage that is to be emptied is first taken off its
 * list, so that nothing is put into it; then its objects are moved one
 * at a time, each under the class's lock and those of the slots that name
 * it, for the time of one copy.  A slot is only tried, never waited for:
 * one that is locked belongs to a request (which may be the one that waits
 * for us to free memory), and one that does not name the object belongs
 * to a write that has allocated it and not published it yet.  Such
 * objects are stepped over, and their zspage goes back to its list when
 * the class is done.
 *
 * When a class has nothing left to gain that way, and has not opened a
 * zspage since the last look (shrink), two things may still be gained.
 * Its last, partly empty zspage may be longer than what is in it needs:
 * that goes to a shorter one.  And zspages that were opened when the
 * class was small are short, and waste more than long ones: when there
 * are enough of them to fill a long one, they are emptied into it.
 */

#include <config.h>

#include <string.h>

#include "zsmalloc.h"

/* How far to look in a group for the emptiest one. */
#define LOOK 16

/* A length is poor if a zspage of it wastes this part more than one of
 * the best length.
 */
#define POOR 128

/* The emptiest zspage of the class; first is 0 if all are full. */
static struct zspage
emptiest (const struct pool *pool, const struct zs_class *class)
{
  struct zspage best = { .first = 0 }, z;
  uint32_t map = class->partial_map, first;
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

/* Move one object, if that can be done now: to the fullest zspage that
 * has room or, if there is none, to SPARE, which then joins the class
 * (and its first becomes 0).
 */
static void
move_object (struct pool *pool, const struct zspage *z, unsigned index,
             struct zspage *spare)
{
  uint32_t owner = *zs_owner (z, index);
  uint64_t from = zs_offset (z, index), to;
  struct zspage target = zs_fullest (pool, z->class);
  struct pool_namers namers;

  if (target.first == 0)
    target = *spare;
  if (target.first == 0 || !pool_try_namers (pool, owner, from, &namers))
    return;
  if (target.first == spare->first) {
    zs_join (pool, spare);
    z->class->opened--;
    spare->first = 0;
  }
  to = zs_take (pool, &target, owner);
  memcpy (pool_object (pool, to), pool_object (pool, from), z->class->size);
  pool_unlock_namers (&namers, to);
  zs_put (pool, z, index);
}

/* Move all objects of a zspage that is isolated. */
static void
evacuate (struct pool *pool, const struct zspage *z, struct zspage *spare,
          unsigned *budget)
{
  unsigned index, fresh = z->header->fresh;

  for (index = 0; *budget && index < fresh; index++) {
    pthread_mutex_lock (&z->class->lock);
    if (!(*zs_owner (z, index) & ZS_FREE)) {
      move_object (pool, z, index, spare);
      --*budget;
    }
    pthread_mutex_unlock (&z->class->lock);
  }
}

static bool
is_empty (const struct zspage *z)
{
  bool r;

  pthread_mutex_lock (&z->class->lock);
  r = z->header->inuse == 0;
  pthread_mutex_unlock (&z->class->lock);
  return r;
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

/* Whether zspages of so many units cost noticeably more than of BEST. */
static bool
is_poor (const struct zs_class *class, unsigned units, unsigned best)
{
  uint64_t cost, least;

  if (class->capacities[units] == 0)
    return false;
  cost = (uint64_t) units * ARENA_UNIT * class->capacities[best];
  least = (uint64_t) best * ARENA_UNIT * class->capacities[units];
  return cost > least + least / POOR;
}

/* A zspage of a poor length; its first is 0 if there is none. */
static struct zspage
find_poor (const struct pool *pool, const struct zs_class *class,
           unsigned best)
{
  struct zspage z = { .first = 0 };
  unsigned group, units, i;
  uint32_t first;

  for (group = 0; group < ZS_NR_PARTIAL; group++) {
    first = class->groups[group];
    for (i = 0; first && i < LOOK; i++, first = z.header->next) {
      z = zs_find (pool, (uint64_t) first * ARENA_UNIT);
      if (is_poor (class, z.units, best))
        return z;
    }
  }
  for (units = ZS_UNITS_MAX; units; units--)
    if (class->nr_full[units] && is_poor (class, units, best))
      return zs_find (pool, (uint64_t) class->groups[ZS_FULL (units)]
                            * ARENA_UNIT);
  return (struct zspage) { .first = 0 };
}

/* The units that its objects need in zspages of the best length, and one
 * for the rest.
 */
static uint64_t
ideal_units (const struct zs_class *class, unsigned best)
{
  uint64_t full = class->objects / class->capacities[best];
  uint64_t rest = class->objects % class->capacities[best];

  return full * best + (rest ? units_for (class, rest) : 0);
}

/* Objects that may be moved: all but those in full zspages of a length
 * that is not poor.
 */
static uint64_t
movable (const struct zs_class *class, unsigned best)
{
  uint64_t objects = class->objects;
  unsigned units;

  for (units = ZS_UNITS_MAX; units; units--)
    if (!is_poor (class, units, best))
      objects -= (uint64_t) class->nr_full[units] * class->capacities[units];
  return objects;
}

/* The length of the zspage that is needed for a poor one's objects, or 0:
 * a new one of the best length, if there is enough to fill it.
 */
static unsigned
units_for_poor (const struct zs_class *class, const struct zspage *z,
                unsigned best)
{
  uint64_t rest = homeless (z);
  uint64_t room = class->capacity - class->objects;

  if (rest == 0)
    return 0;
  return movable (class, best) >= room + class->capacities[best]
    ? best : units_for (class, rest);
}

/* A zspage of a poor length, if all of them together would take less in
 * long ones.  (Otherwise what is left over would go back to short ones,
 * and they would be joined again.)
 */
static struct zspage
poorest (const struct pool *pool, const struct zs_class *class,
         unsigned *extra)
{
  unsigned best = zs_best_units (class->size, class->objects);
  struct zspage z = { .first = 0 };

  if (ideal_units (class, best) < class->units)
    z = find_poor (pool, class, best);
  if (z.first == 0)
    return z;
  *extra = units_for_poor (class, &z, best);
  if (*extra >= z.units && *extra != best)
    z.first = 0;
  return z;
}

/* The zspage that is best emptied.  *EXTRA is the length of the zspage
 * that is needed, or may be, beside those that the class has; or 0.  Its
 * first is 0 if there is nothing to gain.
 *
 * The order matters: only when short zspages have been joined is what is
 * left over put into one that just holds it, and not while some of them
 * are stuck.  So each step takes units, or a poor zspage, away.
 */
static struct zspage
choose (struct pool *pool, struct zs_class *class, bool shrink, bool stuck,
        unsigned *extra)
{
  struct zspage z = emptiest (pool, class), poor;
  uint64_t rest = z.first ? homeless (&z) : 0;

  *extra = 0;
  if (z.first && rest == 0)
    return z;
  if (!shrink)
    return (struct zspage) { .first = 0 };
  poor = poorest (pool, class, extra);
  if (poor.first || z.first == 0 || stuck)
    return poor;
  *extra = units_for (class, rest);
  if (*extra >= z.units)
    z.first = 0;
  return z;
}

/* ---- Passes -------------------------------------------------------- */

/* Zspages that could not be emptied because some of their objects are in
 * use.  They stay isolated while there is work in the class, so that the
 * others get their turn.
 */
#define STUCK_MAX 8

struct pass {
  struct pool *pool;
  unsigned *budget;
  bool shrink;
  struct zspage stuck[STUCK_MAX];
  unsigned nr_stuck;
};

/* Empty one zspage.  False if there is none, or there are too many that
 * are stuck.
 */
static bool
compact_one (struct pass *pass, struct zs_class *class, bool *freed)
{
  struct zspage z, spare = { .first = 0 };
  unsigned extra;

  pthread_mutex_lock (&class->lock);
  z = choose (pass->pool, class, pass->shrink, pass->nr_stuck, &extra);
  if (z.first)
    zs_set_group (pass->pool, &z, ZS_ISOLATED);
  pthread_mutex_unlock (&class->lock);
  if (z.first == 0)
    return false;

  if (extra)
    spare = zs_create (pass->pool, class, extra, false);
  if (extra == 0 || spare.first)
    evacuate (pass->pool, &z, &spare, pass->budget);
  if (spare.first) {            /* it was not needed after all */
    arena_free (&pass->pool->arena, spare.first, spare.units);
    extra = 0;
  }
  if (*pass->budget == 0 || is_empty (&z)) {
    if (!finish (pass->pool, &z))
      return false;
    atomic_fetch_add (&pass->pool->pages_compacted, (int) (z.units - extra));
    *freed = true;
    return true;
  }
  pass->stuck[pass->nr_stuck++] = z;
  return pass->nr_stuck < STUCK_MAX;
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

/* True if a zspage was freed. */
static bool
compact_class (struct pool *pool, struct zs_class *class, unsigned *budget,
               bool shrink)
{
  struct pass pass = { .pool = pool, .budget = budget, .shrink = shrink };
  bool freed = false;

  while (*budget && compact_one (&pass, class, &freed))
    ;
  while (pass.nr_stuck)
    freed |= finish (pool, &pass.stuck[--pass.nr_stuck]);
  return freed;
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
    done |= compact_class (pool, class, budget, shrink && !growing);
    if (*budget)
      zs->cursor = (zs->cursor + 1) % ZS_NR_CLASSES;
  }
  return done || *budget == 0;
}
