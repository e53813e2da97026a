/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* zbud: at most two objects in a page of 4096 bytes.  After the
 * allocator of that name in the Linux kernel (mm/zbud.c, until 6.14).
 *
 *     | header | first object -->  |  free  |  <-- last object |
 *       64 bytes                                (64 bytes each chunk)
 *
 * It packs less densely than zsmalloc, never better than two to one, and
 * in return it is simple: what an object costs can be told from its
 * size, memory does not fragment, there is nothing to compact, and a
 * whole page is emptied by moving two objects.
 *
 * A page with one object is *unbuddied*.  It stands on the list of its
 * number of free chunks; an allocation takes the page with the fewest
 * that suffice.  (A page with two objects, or with none, is on no list.)
 *
 * Locks: the kernel has one for everything.  We have several sets of
 * lists, each with its lock; which one a page belongs to is written in
 * its descriptor.  The pages of one leaf of a slot table go to the same
 * set, so what was written together stands together (unless memory is
 * short).
 */

#include <config.h>

#include <assert.h>
#include <inttypes.h>

#include "pool.h"

#define CHUNK 64
#define NR_CHUNKS (ARENA_UNIT / CHUNK - 1)      /* without the header's */
#define NR_SETS 8

/* An object of NR_CHUNKS would never have a buddy. */
#define SMALL_MAX ((NR_CHUNKS - 1) * CHUNK)
#define NO_OWNER UINT32_MAX

enum { FIRST, LAST };

struct header {
  uint32_t prev, next;          /* units, in the list; 0: none */
  uint32_t owner[2];            /* NO_OWNER: no such object */
  uint8_t chunks[2];            /* sizes, 0: no such object */
};

struct set {
  _Alignas (64) pthread_mutex_t lock;   /* covers the set and its pages */
  uint32_t unbuddied[NR_CHUNKS];        /* by free chunks; heads of lists */
  uint64_t map;                         /* bit: list is not empty */
};

struct zbud {
  struct set sets[NR_SETS];
};

static struct header *
header_of (const struct pool *pool, uint32_t unit)
{
  return arena_pointer (&pool->arena, (uint64_t) unit * ARENA_UNIT);
}

static unsigned
free_chunks (const struct header *h)
{
  return NR_CHUNKS - h->chunks[FIRST] - h->chunks[LAST];
}

static bool
is_unbuddied (const struct header *h)
{
  return !h->chunks[FIRST] != !h->chunks[LAST];
}

static uint64_t
offset_of (const struct header *h, uint32_t unit, unsigned which)
{
  uint64_t page = (uint64_t) unit * ARENA_UNIT;

  return which == FIRST ? page + CHUNK
    : page + ARENA_UNIT - h->chunks[LAST] * CHUNK;
}

/* ---- Lists --------------------------------------------------------- */

static void
list_insert (struct pool *pool, struct set *set, uint32_t unit)
{
  struct header *h = header_of (pool, unit);
  unsigned n = free_chunks (h);

  h->prev = 0;
  h->next = set->unbuddied[n];
  if (h->next)
    header_of (pool, h->next)->prev = unit;
  set->unbuddied[n] = unit;
  set->map |= UINT64_C (1) << n;
}

static void
list_remove (struct pool *pool, struct set *set, uint32_t unit)
{
  struct header *h = header_of (pool, unit);
  unsigned n = free_chunks (h);

  if (h->prev)
    header_of (pool, h->prev)->next = h->next;
  else
    set->unbuddied[n] = h->next;
  if (h->next)
    header_of (pool, h->next)->prev = h->prev;
  if (set->unbuddied[n] == 0)
    set->map &= ~(UINT64_C (1) << n);
}

/* ---- Objects come and go ------------------------------------------- */

static uint64_t
put_object (struct pool *pool, struct set *set, uint32_t unit,
            unsigned chunks, uint32_t owner)
{
  struct header *h = header_of (pool, unit);
  unsigned which = h->chunks[FIRST] ? LAST : FIRST;

  h->chunks[which] = chunks;
  h->owner[which] = owner;
  if (is_unbuddied (h))
    list_insert (pool, set, unit);
  return offset_of (h, unit, which);
}

/* Put the object beside another one.  0 if there is none that fits. */
static uint64_t
alloc_buddy (struct pool *pool, struct set *set, unsigned chunks,
             uint32_t owner)
{
  uint64_t fitting = set->map >> chunks << chunks;
  uint32_t unit;

  if (fitting == 0)
    return 0;
  unit = set->unbuddied[__builtin_ctzll (fitting)];
  list_remove (pool, set, unit);
  return put_object (pool, set, unit, chunks, owner);
}

static uint64_t
zbud_alloc (struct pool *pool, size_t size, uint32_t owner, bool wait)
{
  struct zbud *zbud = pool->allocator;
  unsigned n = owner / TABLE_LEAF_SLOTS % NR_SETS;
  struct set *set = &zbud->sets[n];
  unsigned chunks = (size + CHUNK - 1) / CHUNK;
  uint64_t offset;
  uint32_t unit;

  pthread_mutex_lock (&set->lock);
  offset = alloc_buddy (pool, set, chunks, owner);
  pthread_mutex_unlock (&set->lock);
  if (offset)
    return offset;

  unit = pool_take_units (pool, 1, wait);
  if (unit == 0)
    return 0;
  pool->descriptors[unit] = n;
  *header_of (pool, unit) = (struct header) {
    .owner = { NO_OWNER, NO_OWNER }
  };
  pthread_mutex_lock (&set->lock);
  offset = put_object (pool, set, unit, chunks, owner);
  pthread_mutex_unlock (&set->lock);
  return offset;
}

/* Beside an object of another set. */
static uint64_t
zbud_alloc_anywhere (struct pool *pool, size_t size, uint32_t owner)
{
  struct zbud *zbud = pool->allocator;
  unsigned chunks = (size + CHUNK - 1) / CHUNK, i;
  uint64_t offset = 0;

  for (i = 0; i < NR_SETS && offset == 0; i++) {
    pthread_mutex_lock (&zbud->sets[i].lock);
    offset = alloc_buddy (pool, &zbud->sets[i], chunks, owner);
    pthread_mutex_unlock (&zbud->sets[i].lock);
  }
  return offset;
}

static void
zbud_free (struct pool *pool, uint64_t offset)
{
  struct zbud *zbud = pool->allocator;
  struct set *set = &zbud->sets[*pool_descriptor (pool, offset)];
  uint32_t unit = offset / ARENA_UNIT;
  struct header *h = header_of (pool, unit);
  unsigned which = offset % ARENA_UNIT == CHUNK ? FIRST : LAST;
  bool empty;

  pthread_mutex_lock (&set->lock);
  assert (h->owner[which] != NO_OWNER);
  if (is_unbuddied (h))
    list_remove (pool, set, unit);
  h->chunks[which] = 0;
  h->owner[which] = NO_OWNER;
  empty = !is_unbuddied (h);
  if (!empty)
    list_insert (pool, set, unit);
  pthread_mutex_unlock (&set->lock);
  if (empty)
    arena_free (&pool->arena, unit, 1);
}

static void
zbud_prefetch_free (const struct pool *pool, uint64_t offset,
                    uint32_t d)
{
  (void) d;
  __builtin_prefetch (header_of (pool, offset / ARENA_UNIT), 1);
}

/* There is nothing to gain. */
static bool
zbud_compact (struct pool *pool, unsigned *budget, bool shrink)
{
  (void) pool;
  (void) budget;
  (void) shrink;
  return false;
}

/* ---- Life ---------------------------------------------------------- */

static void
zbud_init (struct pool *pool)
{
  struct zbud *zbud = pool->allocator;
  unsigned i;

  for (i = 0; i < NR_SETS; i++)
    pthread_mutex_init (&zbud->sets[i].lock, NULL);
}

static void
zbud_destroy (struct pool *pool)
{
  struct zbud *zbud = pool->allocator;
  unsigned i;

  for (i = 0; i < NR_SETS; i++)
    pthread_mutex_destroy (&zbud->sets[i].lock);
}

/* ---- Validator ----------------------------------------------------- */

static unsigned
check_page (struct pool *pool, uint32_t unit, pool_object_fn *fn,
            void *opaque, FILE *report)
{
  const struct header *h = header_of (pool, unit);
  unsigned which, faults = 0;

  if (h->chunks[FIRST] + h->chunks[LAST] > NR_CHUNKS
      || h->chunks[FIRST] + h->chunks[LAST] == 0)
    faults++, fprintf (report, "zbud: page %" PRIu32 ": %u + %u chunks\n",
                       unit, h->chunks[FIRST], h->chunks[LAST]);
  for (which = FIRST; which <= LAST; which++) {
    if (!h->chunks[which] != (h->owner[which] == NO_OWNER))
      faults++, fprintf (report, "zbud: page %" PRIu32 ": object %u: size "
                         "and owner disagree\n", unit, which);
    else if (h->chunks[which])
      faults += fn (opaque, offset_of (h, unit, which),
                    h->chunks[which] * CHUNK, h->owner[which]);
  }
  return faults;
}

/* Walk a list; returns its length. */
static uint64_t
check_list (struct pool *pool, const struct set *set, unsigned n,
            unsigned *faults, FILE *report)
{
  uint32_t unit = set->unbuddied[n], prev = 0;
  uint64_t length = 0;

  for (; unit; length++) {
    const struct header *h = header_of (pool, unit);

    if (!arena_is_used (&pool->arena, unit) || !is_unbuddied (h)
        || free_chunks (h) != n || h->prev != prev) {
      ++*faults;
      fprintf (report, "zbud: page %" PRIu32 " is wrongly on list %u\n",
               unit, n);
      break;
    }
    prev = unit;
    unit = h->next;
  }
  if (!length != !(set->map >> n & 1)) {
    ++*faults;
    fprintf (report, "zbud: list %u: bit and list disagree\n", n);
  }
  return length;
}

static unsigned
zbud_check (struct pool *pool, pool_object_fn *fn, void *opaque, FILE *report)
{
  struct zbud *zbud = pool->allocator;
  uint32_t unit, end = arena_end (&pool->arena);
  uint64_t unbuddied = 0, listed = 0;
  unsigned i, n, faults = 0;

  for (unit = ARENA_CHUNK_UNITS; unit < end; unit++) {
    if (!arena_is_used (&pool->arena, unit)
        || pool->descriptors[unit] & POOL_WHOLE_PAGE)
      continue;
    faults += check_page (pool, unit, fn, opaque, report);
    unbuddied += is_unbuddied (header_of (pool, unit));
  }
  for (i = 0; i < NR_SETS; i++)
    for (n = 0; n < NR_CHUNKS; n++)
      listed += check_list (pool, &zbud->sets[i], n, &faults, report);
  if (listed != unbuddied)
    faults++, fprintf (report, "zbud: %" PRIu64 " pages are unbuddied, "
                       "%" PRIu64 " on lists\n", unbuddied, listed);
  return faults;
}

const struct pool_ops zbud_ops = {
  .small_max = SMALL_MAX,
  .object_max = SMALL_MAX,
  .size = sizeof (struct zbud),
  .init = zbud_init,
  .destroy = zbud_destroy,
  .alloc = zbud_alloc,
  .alloc_anywhere = zbud_alloc_anywhere,
  .free = zbud_free,
  .prefetch_free = zbud_prefetch_free,
  .compact = zbud_compact,
  .check = zbud_check,
};
