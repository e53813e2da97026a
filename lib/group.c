/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* What is done with a group that exists: see group.h.
 *
 * Locks: none of its own.  A slot's lock, or the live bit of a page whose
 * slot was just changed, keeps the object where it is.
 */

#include <config.h>

#include <string.h>

#include "group.h"
#include "store.h"

/* For the statistics a group is one object, header included. */
static void
count_object (struct zram_store *store, const struct group_header *header,
              unsigned codec, int n)
{
  stats_add (&store->stats, STATS_OBJECT_BYTES,
             n * (int64_t) (sizeof *header + header->size));
  codecs_count (store->memory->codecs, codec, n);
}

/* memory->lock is held, as for all that makes groups. */
static void
fill_group (struct zram_store *store, struct group_header *header,
            unsigned members, const void *data, size_t size)
{
  atomic_store (&header->live, members);
  header->members = members;
  header->size = size;
  header->birth = store->memory->regroup.births++;
  memcpy (header + 1, data, size);
}

uint64_t
group_create (struct zram_store *store, uint32_t owner, unsigned codec,
              unsigned members, const void *data, size_t size)
{
  struct pool *pool = &store->memory->pool;
  struct group_header *header;
  uint64_t offset = pool_try_alloc (pool, sizeof *header + size, owner);

  if (offset == 0)
    return 0;
  header = group_header (pool, offset);
  fill_group (store, header, members, data, size);
  count_object (store, header, codec, 1);
  return offset;
}

bool
group_refill (struct zram_store *store, uint64_t offset, unsigned live,
              unsigned members, const void *data, size_t size)
{
  struct group_header *header = group_header (&store->memory->pool, offset);

  if (size > header->size || atomic_load (&header->live) != live)
    return false;
  stats_add (&store->stats, STATS_OBJECT_BYTES,
             (int64_t) size - header->size);
  fill_group (store, header, members, data, size);
  return true;
}

void
group_free (struct zram_store *store, uint64_t offset, unsigned codec)
{
  struct pool *pool = &store->memory->pool;

  count_object (store, group_header (pool, offset), codec, -1);
  pool_free (pool, offset);
}

void
group_leave (struct zram_store *store, uint64_t word)
{
  uint64_t offset = slot_offset (word);
  struct group_header *header = group_header (&store->memory->pool, offset);
  uint16_t bit = 1u << slot_place (word);

  atomic_fetch_add_explicit (&store->aging.left, 1, memory_order_relaxed);
  if (atomic_fetch_and (&header->live, (uint16_t) ~bit) == bit)
    group_free (store, offset, slot_codec (word));
}

const unsigned char *
group_read (struct zram_store *store, struct codec_reader *reader,
            uint64_t word)
{
  const struct pool *pool = &store->memory->pool;
  const struct group_header *header = group_header (pool, slot_offset (word));
  unsigned place = slot_place (word);
  const unsigned char *pages;

  if (!(header->members >> place & 1))
    return NULL;
  pages = codecs_decompress_group (store->memory->codecs, reader,
                                   slot_codec (word), header + 1,
                                   header->size,
                                   group_pages (header) * ZRAM_PAGE_SIZE);
  return pages ? pages + group_index (header, place) * ZRAM_PAGE_SIZE : NULL;
}
