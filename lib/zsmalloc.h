/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* What the files of zsmalloc share.  Others want pool.h.
 *
 * A *size class* serves objects of up to its size.  It keeps them in
 * *zspages*: runs of 1 to 16 units, laid out like this:
 *
 *     | object 0 | object 1 | ... | object n-1 | waste |
 *                                | owner n-1 ... owner 1 owner 0 | header |
 *
 * (in one line; the owners follow the objects).  An owner has 31 bits;
 * with the top bit set the object is free, and the rest is the index of
 * the next free one.  Objects that were never used are not on that list:
 * `fresh' counts those that were.
 *
 * The descriptor of each unit of a zspage gives the class, the number of
 * units and the unit's place among them, so any address leads to its
 * zspage.  A zspage is named by its first unit.
 */

#ifndef ZSMALLOC_H
#define ZSMALLOC_H

#include "pool.h"

/* ---- Size classes -------------------------------------------------- */

/* Up to ZS_SMALL_MAX classes are 16 bytes apart: 16, 32, ..., 3840.
 * (The next larger ones would hold as many objects as they have units:
 * what is between that and a page is better stored as a page.)  From
 * there to POOL_OBJECT_MAX they are 128 bytes apart: 4224, ..., 16384.
 */
#define ZS_SMALL_MAX 3840
#define ZS_NR_SMALL (ZS_SMALL_MAX / 16)
#define ZS_NR_CLASSES (ZS_NR_SMALL + (POOL_OBJECT_MAX - ARENA_UNIT) / 128)

#define ZS_UNITS_MAX ARENA_CHUNK_UNITS

/* The class for a size, and the size of a class. */
unsigned zs_class_index (size_t size);
size_t zs_class_size (unsigned index);

/* How many objects a zspage of UNITS units holds.  May be 0. */
unsigned zs_capacity (size_t class_size, unsigned units);

/* How many units the next zspage should have, in a class that holds so
 * many objects already.
 */
unsigned zs_best_units (size_t class_size, uint64_t objects);

/* ---- Zspages ------------------------------------------------------- */

/* Groups of zspages by fullness, emptiest first.  Full ones are grouped
 * by their length instead.  One that compaction is emptying is on no
 * list.
 */
#define ZS_NR_PARTIAL 8
#define ZS_FULL(units) (ZS_NR_PARTIAL + (units) - 1)
#define ZS_NR_GROUPS (ZS_NR_PARTIAL + ZS_UNITS_MAX)
#define ZS_ISOLATED ZS_NR_GROUPS

#define ZS_FREE (UINT32_C (1) << 31)    /* in an owner: object is free */
#define ZS_END 0xffff                   /* the end of the free list */

struct zs_header {
  uint32_t prev, next;          /* in the list of the group, 0: none */
  uint16_t inuse;               /* objects that have an owner */
  uint16_t fresh;               /* objects that ever had one */
  uint16_t free;                /* the first of the free list */
  uint16_t group;
};

struct zs_class {
  _Alignas (64) pthread_mutex_t lock;   /* covers all, and the zspages */
  uint32_t size;
  uint32_t groups[ZS_NR_GROUPS];        /* heads of lists */
  _Atomic uint32_t partial_map;         /* bit: that list is not empty */
  uint32_t nr_full[ZS_UNITS_MAX + 1];   /* zspages, by units */
  uint32_t opened;              /* zspages made since compaction looked */
  uint64_t objects;             /* in use, in all zspages */
  uint64_t capacity;            /* of all zspages */
  uint64_t units;               /* of all zspages */
  uint16_t capacities[ZS_UNITS_MAX + 1];        /* by units */
};

struct zsmalloc {
  struct zs_class classes[ZS_NR_CLASSES];
  unsigned cursor;              /* the class where compaction goes on */
};

/* A zspage and what its descriptors say of it. */
struct zspage {
  uint32_t first;               /* unit; 0: no zspage */
  unsigned units;
  struct zs_class *class;
  struct zs_header *header;
};

/* The zspage that an address is in; its unit is in use and not a whole
 * page.
 */
struct zspage zs_find (const struct pool *, uint64_t offset);

static inline uint32_t *
zs_owner (const struct zspage *z, unsigned index)
{
  return (uint32_t *) z->header - 1 - index;
}

static inline uint64_t
zs_offset (const struct zspage *z, unsigned index)
{
  return (uint64_t) z->first * ARENA_UNIT + index * z->class->size;
}

/* Make a zspage, which is on no list.  No lock of the allocator's is held.
 * Its first is 0, and errno is set, on failure.
 */
struct zspage zs_create (struct pool *, struct zs_class *, unsigned units,
                         bool wait);

/* The functions that follow are called with the class locked. */

/* A zspage joins its class, and leaves it again.  After the latter its
 * units can be freed.
 */
void zs_join (struct pool *, const struct zspage *);
void zs_leave (struct pool *, const struct zspage *);

/* The fullest zspage that has room; first is 0 if there is none. */
struct zspage zs_fullest (const struct pool *, const struct zs_class *);

/* Take an object; the zspage has room.  Returns its offset. */
uint64_t zs_take (struct pool *, const struct zspage *, uint32_t owner);

/* Free one. */
void zs_put (struct pool *, const struct zspage *, unsigned index);

/* Move a zspage to the list of GROUP, or of none. */
void zs_set_group (struct pool *, const struct zspage *, unsigned group);

/* The group where it belongs. */
unsigned zs_natural_group (const struct zspage *);

/* See pool_compact. */
bool zs_compact (struct pool *, unsigned *budget, bool shrink);

/* See pool_check. */
unsigned zs_check (struct pool *, pool_object_fn *fn, void *opaque,
                   FILE *report);

#endif /* ZSMALLOC_H */
