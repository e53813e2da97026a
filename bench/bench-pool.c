/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* How much memory does the pool take for objects that are all of one
 * size?
 *
 * That is where a pool of size classes shows what it wastes: an average
 * over all sizes hides the worst.  A pool is filled with objects of one
 * size, compacted, and what it takes is compared with what they are.
 * The sizes are the smallest and the largest of each class, so no other
 * can be worse.
 *
 * A page that does not compress to pool_small_max bytes is stored as it
 * is.  So the bytes that a store could have saved on larger ones count
 * as waste here.
 */

#include <config.h>

#include <stdio.h>
#include <stdlib.h>
#include <stdint.h>
#include <inttypes.h>
#include <string.h>
#include <err.h>

#include "pool.h"
#include "slot.h"
#include "table.h"

#include "bench.h"

#define SIZE_MIN 512
#define CLASS_STEP 16

struct rig {
  struct limit limit;
  struct table table;
  struct pool pool;
};

static void
rig_open (struct rig *rig)
{
  memset (rig, 0, sizeof *rig);
  if (table_init (&rig->table, &rig->limit, TABLE_SIZE_MAX) == -1)
    err (EXIT_FAILURE, "table_init");
  if (pool_init (&rig->pool, &rig->table, &rig->limit,
                 ZRAM_ALLOCATOR_ZSMALLOC, UINT64_C (1) << 34) == -1)
    err (EXIT_FAILURE, "pool_init");
}

static void
rig_close (struct rig *rig)
{
  pool_destroy (&rig->pool);
  table_destroy (&rig->table);
}

static void
fill_leaf (struct rig *rig, size_t size, size_t nr_objects)
{
  uint32_t leaf = table_alloc (&rig->table);
  slot *slots;

  if (leaf == 0)
    err (EXIT_FAILURE, "table_alloc");
  slots = table_page (&rig->table, leaf);
  for (size_t i = 0; i < nr_objects; ++i) {
    uint64_t offset = pool_alloc (&rig->pool, size,
                                  table_owner (&rig->table, &slots[i]));

    if (offset == 0)
      err (EXIT_FAILURE, "pool_alloc: %zu bytes", size);
    slot_exchange (&slots[i], slot_word_ram (0, size, offset));
  }
}

/* What the pool takes for NR_OBJECTS of SIZE bytes. */
static uint64_t
measure (size_t size, size_t nr_objects)
{
  static struct rig rig;
  uint64_t used;
  unsigned budget;

  rig_open (&rig);
  if (size > pool_small_max (&rig.pool))
    size = ZRAM_PAGE_SIZE;
  for (size_t done = 0; done < nr_objects; done += TABLE_LEAF_SLOTS) {
    size_t left = nr_objects - done;

    fill_leaf (&rig, size, left < TABLE_LEAF_SLOTS ? left : TABLE_LEAF_SLOTS);
  }
  do
    budget = 100000;
  while (pool_compact (&rig.pool, &budget, true));
  used = pool_used (&rig.pool);
  rig_close (&rig);
  return used;
}

static void
report (size_t size, size_t bytes)
{
  size_t n = bytes / size;
  uint64_t used = measure (size, n);

  printf ("pool size=%zu objects=%zu used=%" PRIu64 " ratio=%.4f\n",
          size, n, used, used / ((double) n * size));
}

int
main (int argc, char *argv[])
{
  size_t bytes;

  if (argc != 2) {
    fprintf (stderr, "usage: bench-pool MIB\n");
    return EXIT_FAILURE;
  }
  bytes = parse_count ("MIB", argv[1]) << 20;
  for (size_t size = SIZE_MIN; size <= ZRAM_PAGE_SIZE; size += CLASS_STEP) {
    report (size, bytes);
    if (size < ZRAM_PAGE_SIZE)
      report (size + 1, bytes);
  }
  return EXIT_SUCCESS;
}
