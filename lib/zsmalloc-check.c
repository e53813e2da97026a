/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The validator of zsmalloc: counts everything again. */

#include <config.h>

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "zsmalloc.h"

struct check {
  struct pool *pool;
  pool_object_fn *fn;
  void *opaque;
  FILE *report;
  unsigned faults;
};

/* What a walk over a class's zspages counts. */
struct sums {
  uint64_t objects, capacity, units;
  uint64_t grouped[ZS_NR_GROUPS];
};

static void __attribute__ ((format (printf, 3, 4)))
fault (struct check *check, uint32_t zspage, const char *fs, ...)
{
  va_list args;

  check->faults++;
  fprintf (check->report, "zsmalloc: zspage %" PRIu32 ": ", zspage);
  va_start (args, fs);
  vfprintf (check->report, fs, args);
  va_end (args);
  fputc ('\n', check->report);
}

/* The length of the free list, or UINT_MAX if it is broken. */
static unsigned
free_length (const struct zspage *z)
{
  unsigned n = 0, index = z->header->free;

  for (; index != ZS_END; n++) {
    if (n > z->header->fresh || index >= z->header->fresh
        || !(*zs_owner (z, index) & ZS_FREE))
      return UINT32_MAX;
    index = *zs_owner (z, index) & ~ZS_FREE;
  }
  return n;
}

static unsigned
check_objects (struct check *check, const struct zspage *z)
{
  unsigned index, n = 0;

  for (index = 0; index < z->header->fresh; index++) {
    uint32_t owner = *zs_owner (z, index);

    if (owner & ZS_FREE)
      continue;
    n++;
    check->faults += check->fn (check->opaque, zs_offset (z, index),
                                z->class->size, owner);
  }
  return n;
}

static void
check_zspage (struct check *check, const struct zspage *z, struct sums *sums)
{
  const struct zs_header *h = z->header;
  unsigned capacity = z->class->capacities[z->units];
  unsigned place, nr_free = free_length (z), live;

  for (place = 0; place < z->units; place++) {
    uint64_t offset = (uint64_t) (z->first + place) * ARENA_UNIT;
    struct zspage other = zs_find (check->pool, offset);

    if (other.first != z->first || other.units != z->units
        || other.class != z->class
        || !arena_is_used (&check->pool->arena, z->first + place))
      fault (check, z->first, "descriptor of unit %u is wrong", place);
  }
  if (h->fresh > capacity) {
    fault (check, z->first, "fresh %u exceeds capacity %u",
           h->fresh, capacity);
    return;
  }
  live = check_objects (check, z);
  if (live != h->inuse)
    fault (check, z->first, "%u objects, header says %u", live, h->inuse);
  if (live + nr_free != h->fresh)
    fault (check, z->first, "%u objects + %u free is not fresh %u",
           live, nr_free, h->fresh);
  if (live == 0)
    fault (check, z->first, "is empty");
  if (h->group != zs_natural_group (z))
    fault (check, z->first, "is in group %u, should be in %u",
           h->group, zs_natural_group (z));
  sums->objects += live;
  sums->capacity += capacity;
  sums->units += z->units;
  if (h->group < ZS_NR_GROUPS)
    sums->grouped[h->group]++;
}

/* Compare the class and its lists with the sums over its zspages. */
static void
check_class (struct check *check, const struct zs_class *class,
             const struct sums *sums)
{
  unsigned group;

  if (class->objects != sums->objects || class->capacity != sums->capacity)
    fault (check, 0, "class %" PRIu32 ": %" PRIu64 " of %" PRIu64
           " objects, counters say %" PRIu64 " of %" PRIu64, class->size,
           sums->objects, sums->capacity, class->objects, class->capacity);
  if (class->units != sums->units)
    fault (check, 0, "class %" PRIu32 ": %" PRIu64 " units, counter says %"
           PRIu64, class->size, sums->units, class->units);
  for (group = 0; group < ZS_NR_GROUPS; group++) {
    uint32_t first = class->groups[group], prev = 0;
    uint64_t n = 0;

    if (group < ZS_NR_PARTIAL
        ? !first != !(class->partial_map >> group & 1)
        : sums->grouped[group] != class->nr_full[group - ZS_NR_PARTIAL + 1])
      fault (check, first, "class %" PRIu32 ", group %u: bit or count "
             "and list disagree", class->size, group);
    for (; first; n++) {
      struct zspage z = zs_find (check->pool, (uint64_t) first * ARENA_UNIT);

      if (z.class != class || z.header->group != group
          || z.header->prev != prev || n > sums->grouped[group])
        break;
      prev = first;
      first = z.header->next;
    }
    if (first || n != sums->grouped[group])
      fault (check, first, "class %" PRIu32 ", group %u: list is wrong",
             class->size, group);
  }
}

unsigned
zs_check (struct pool *pool, pool_object_fn *fn, void *opaque, FILE *report)
{
  struct zsmalloc *zs = pool->allocator;
  struct check check = { pool, fn, opaque, report, 0 };
  struct sums sums[ZS_NR_CLASSES];
  uint32_t unit, end = arena_end (&pool->arena);
  unsigned i;

  memset (sums, 0, sizeof sums);
  for (unit = ARENA_CHUNK_UNITS; unit < end; unit++) {
    struct zspage z;

    if (!arena_is_used (&pool->arena, unit)
        || pool->descriptors[unit] & POOL_WHOLE_PAGE)
      continue;
    z = zs_find (pool, (uint64_t) unit * ARENA_UNIT);
    check_zspage (&check, &z, &sums[z.class - zs->classes]);
    unit += z.units - 1;
  }
  for (i = 0; i < ZS_NR_CLASSES; i++)
    check_class (&check, &zs->classes[i], &sums[i]);
  return check.faults;
}
