/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* A group: up to 16 idle pages in one object.
 *
 * The pages are neighbours: their slots lie in one aligned run of
 * GROUP_PAGES_MAX slots of a leaf.  The slot of each names the object, and
 * the page's place in that run.  The object begins with this header, and
 * then come the pages, compressed together in the order of their places.
 *
 * No slot leads the others.  A page is read under the lock of its own
 * slot alone, so neighbours do not wait for each other.  A page leaves
 * the group when its slot has come to say something else: then its bit in
 * `live' is cleared, and whoever clears the last one frees the object.
 * Until then what has left still takes its space.  So:
 *
 * - a slot names the object only while its bit is set, and the other way
 *   round but for the moment of leaving;
 * - an object is moved only with the slots of all live pages locked, when
 *   nobody can be in that moment.
 */

#ifndef GROUP_H
#define GROUP_H

#include <stdatomic.h>
#include <stdint.h>

#include "pool.h"

#define GROUP_PAGES_MAX 16

struct group_header {
  _Atomic uint16_t live;        /* bit per place: the page is still here */
  uint16_t members;             /* bit per place: it was at first */
  uint16_t size;                /* bytes of what follows */
  uint16_t birth;               /* groups that were made before it */
};

/* Such an object can leave RAM: it fits into a record on a tier (tier.h). */
#define GROUP_OBJECT_MAX 16224
#define GROUP_SIZE_MAX (GROUP_OBJECT_MAX - sizeof (struct group_header))

static inline struct group_header *
group_header (const struct pool *pool, uint64_t offset)
{
  return pool_object (pool, offset);
}

/* How many pages there are before the one at PLACE, or in all. */
static inline unsigned
group_index (const struct group_header *header, unsigned place)
{
  return __builtin_popcount (header->members & ((1u << place) - 1));
}

static inline unsigned
group_pages (const struct group_header *header)
{
  return __builtin_popcount (header->members);
}

struct codec_reader;
struct zram_store;

/* Make an object of the pages MEMBERS (a bit for each place), which are
 * compressed to SIZE bytes at DATA, at most GROUP_SIZE_MAX.  OWNER is a
 * slot of their run.  No slot names it yet.  Returns its offset, or 0 and
 * errno as for pool_alloc.
 */
uint64_t group_create (struct zram_store *, uint32_t owner, unsigned codec,
                       unsigned members, const void *data, size_t size);

/* Make another group, of the pages MEMBERS, in the room of the one at
 * OFFSET.  False if that is too small, or if more pages are alive there
 * than LIVE, whose slots are locked.
 */
bool group_refill (struct zram_store *, uint64_t offset, unsigned live,
                   unsigned members, const void *data, size_t size);

/* Free one that no slot names. */
void group_free (struct zram_store *, uint64_t offset, unsigned codec);

/* A page whose slot said WORD has left. */
void group_leave (struct zram_store *, uint64_t word);

/* The page of a slot that is locked and says WORD.  Valid until the reader
 * is put back.  NULL if the object is damaged.
 */
const unsigned char *group_read (struct zram_store *, struct codec_reader *,
                                 uint64_t word);

/* The first slot of the run that a slot lies in. */
static inline uint32_t
group_base (uint32_t owner)
{
  return owner / GROUP_PAGES_MAX * GROUP_PAGES_MAX;
}

/* The places of the run at BASE whose slots name the object at OFFSET. */
static inline unsigned
group_named (const slot *base, uint64_t offset)
{
  unsigned place, map = 0;

  for (place = 0; place < GROUP_PAGES_MAX; place++) {
    uint64_t word = slot_peek (&base[place]);

    if (slot_state (word) == SLOT_GROUP && slot_offset (word) == offset)
      map |= 1u << place;
  }
  return map;
}

#endif /* GROUP_H */
