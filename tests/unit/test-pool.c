/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Both allocators, behind the interface of the pool.  The slots that own
 * the objects are those of a few leaves of a table.
 */

#include "unit.h"

#include "pages.h"
#include "pool.h"
#include "zsmalloc.h"

#define NR_OWNERS (8 * TABLE_LEAF_SLOTS)

static struct limit limit;
static struct table table;
static struct pool pool;
static slot *slots;
static unsigned char stamps[NR_OWNERS];

static void
setup (enum zram_allocator allocator)
{
  uint32_t leaf, i;

  limit = (struct limit) { .max = 0 };
  ck_assert_int_eq (table_init (&table, &limit, TABLE_SIZE_MAX), 0);
  ck_assert_int_eq (pool_init (&pool, &table, &limit, allocator,
                               UINT64_C (256) << 20), 0);
  /* Leaves follow each other in a fresh table. */
  leaf = table_alloc (&table);
  for (i = 1; i < NR_OWNERS / TABLE_LEAF_SLOTS; i++)
    ck_assert_uint_eq (table_alloc (&table), leaf + i);
  slots = table_page (&table, leaf);
}

static void
teardown (void)
{
  pool_destroy (&pool);
  table_destroy (&table);
  ck_assert_uint_eq (limit_resident (&limit), 0);
}

/* Store an object whose bytes are all STAMP. */
static bool
put (unsigned i, size_t size, unsigned char stamp)
{
  uint64_t offset = pool_alloc (&pool, size,
                                table_owner (&table, &slots[i]));

  if (offset == 0)
    return false;
  ck_assert_uint_eq (offset % SLOT_OFFSET_UNIT, 0);
  memset (pool_object (&pool, offset), stamp, size);
  slot_exchange (&slots[i], slot_word_ram (0, size, offset));
  stamps[i] = stamp;
  return true;
}

static void
drop (unsigned i)
{
  pool_free (&pool, slot_offset (slot_exchange (&slots[i], 0)));
}

static void
verify (unsigned i)
{
  uint64_t word = slot_peek (&slots[i]);
  unsigned char right[ZRAM_PAGE_SIZE];

  memset (right, stamps[i], sizeof right);
  ck_assert_mem_eq (pool_object (&pool, slot_offset (word)), right,
                    slot_size (word));
}

static unsigned nr_objects;

static unsigned
count_object (void *opaque, uint64_t offset, size_t room, uint32_t owner)
{
  uint64_t word = slot_peek (table_slot (&table, owner));

  (void) opaque;
  nr_objects++;
  return slot_state (word) != SLOT_RAM || slot_offset (word) != offset
    || slot_size (word) > room;
}

static void
check_pool (unsigned expected)
{
  nr_objects = 0;
  ck_assert_uint_eq (pool_check (&pool, count_object, NULL, stderr), 0);
  ck_assert_uint_eq (nr_objects, expected);
}

static bool
compact (bool shrink)
{
  unsigned budget, rounds = 0;

  do {
    budget = 1000;
    ck_assert_uint_lt (rounds++, 1000);
  } while (pool_compact (&pool, &budget, shrink));
  return rounds > 1;
}

START_TEST (test_names)
{
  enum zram_allocator a;

  ck_assert (zram_allocator_find ("zsmalloc", &a)
             && a == ZRAM_ALLOCATOR_ZSMALLOC);
  ck_assert (zram_allocator_find ("zbud", &a) && a == ZRAM_ALLOCATOR_ZBUD);
  ck_assert (!zram_allocator_find ("z3fold", &a));
  ck_assert_str_eq (zram_allocator_name (ZRAM_ALLOCATOR_ZBUD), "zbud");
}
END_TEST

/* Every size that a page can have, with both allocators. */
START_TEST (test_all_sizes)
{
  unsigned allocator, size, n;

  for (allocator = 0; allocator < ZRAM_NR_ALLOCATORS; allocator++) {
    setup (allocator);
    for (n = 0, size = 1; size <= ZRAM_PAGE_SIZE; size += 3, n++)
      ck_assert (put (n, size, size));
    check_pool (n);
    while (n--) {
      verify (n);
      drop (n);
    }
    check_pool (0);
    ck_assert_uint_eq (pool_used (&pool), 0);
    ck_assert_uint_gt (pool_used_max (&pool), 0);
    teardown ();
  }
}
END_TEST

START_TEST (test_bad_sizes)
{
  setup (ZRAM_ALLOCATOR_ZSMALLOC);
  ck_assert_errno (pool_alloc (&pool, 0, 512) == 0, EINVAL);
  ck_assert_errno (pool_alloc (&pool, POOL_OBJECT_MAX + 1, 512) == 0, EINVAL);
  teardown ();
  setup (ZRAM_ALLOCATOR_ZBUD);
  ck_assert_errno (pool_alloc (&pool, ZRAM_PAGE_SIZE + 1, 512) == 0, EINVAL);
  teardown ();
}
END_TEST

/* Objects that are larger than a page (no slot can say so yet). */
START_TEST (test_large_objects)
{
  static uint64_t offsets[ZS_NR_CLASSES];
  size_t size;
  unsigned n = 0;

  setup (ZRAM_ALLOCATOR_ZSMALLOC);
  for (size = ZRAM_PAGE_SIZE + 1; size <= POOL_OBJECT_MAX; size += 127) {
    offsets[n] = pool_alloc (&pool, size, n + 512);
    ck_assert_uint_ne (offsets[n], 0);
    memset (pool_object (&pool, offsets[n]), n, size);
    n++;
  }
  while (n--) {
    const unsigned char *p = pool_object (&pool, offsets[n]);

    ck_assert_uint_eq (p[0], n);
    ck_assert_uint_eq (p[ZRAM_PAGE_SIZE + 127 * n], n);
    pool_free (&pool, offsets[n]);
  }
  ck_assert_uint_eq (pool_used (&pool), 0);
  teardown ();
}
END_TEST

/* A page that is stored as it is takes a page. */
START_TEST (test_whole_pages)
{
  unsigned allocator, i;

  for (allocator = 0; allocator < ZRAM_NR_ALLOCATORS; allocator++) {
    setup (allocator);
    for (i = 0; i < 100; i++)
      ck_assert (put (i, ZRAM_PAGE_SIZE, i));
    ck_assert_uint_eq (pool_used (&pool), 100 * ZRAM_PAGE_SIZE);
    check_pool (100);
    for (i = 0; i < 100; i++)
      verify (i);
    teardown ();
  }
}
END_TEST

/* Two objects of 1900 bytes (30 chunks of 64 each; a page has 63) share a
 * page in zbud, a third has no place there, however small.
 */
START_TEST (test_zbud_buddies)
{
  setup (ZRAM_ALLOCATOR_ZBUD);
  ck_assert (put (0, 1900, 1) && put (1, 1900, 2));
  ck_assert_uint_eq (pool_used (&pool), ZRAM_PAGE_SIZE);
  ck_assert (put (2, 16, 3));
  ck_assert_uint_eq (pool_used (&pool), 2 * ZRAM_PAGE_SIZE);
  drop (0);
  ck_assert (put (3, 1990, 4));
  ck_assert_uint_eq (pool_used (&pool), 2 * ZRAM_PAGE_SIZE);
  check_pool (3);
  verify (1);
  verify (2);
  verify (3);
  drop (1);
  drop (3);
  ck_assert_uint_eq (pool_used (&pool), ZRAM_PAGE_SIZE);
  teardown ();
}
END_TEST

/* Random sizes come and go; contents stay, and the validator agrees. */
static void
churn (enum zram_allocator allocator)
{
  struct rng rng = { 7 };
  unsigned step, i, n = 0;

  setup (allocator);
  for (step = 0; step < 60000; step++) {
    i = rng_below (&rng, NR_OWNERS);
    if (slot_peek (&slots[i])) {
      verify (i);
      drop (i);
      n--;
    }
    else {
      size_t size = rng_below (&rng, 20) == 0
        ? ZRAM_PAGE_SIZE : 1 + rng_below (&rng, ZRAM_PAGE_SIZE);

      ck_assert (put (i, size, rng_next (&rng) >> 56));
      n++;
    }
    if (step % 1000 == 0) {
      check_pool (n);
      if (rng_below (&rng, 2))
        compact (rng_below (&rng, 2));
      check_pool (n);
    }
  }
  for (i = 0; i < NR_OWNERS; i++)
    if (slot_peek (&slots[i]))
      verify (i);
  teardown ();
}

START_TEST (test_churn)
{
  churn (ZRAM_ALLOCATOR_ZSMALLOC);
  churn (ZRAM_ALLOCATOR_ZBUD);
}
END_TEST

/* Free three objects of four at random: compaction gives it all back but
 * what is left over in each class.
 */
START_TEST (test_compaction)
{
  struct rng rng = { 3 };
  uint64_t before, bytes = 0;
  unsigned i, n = 0;

  setup (ZRAM_ALLOCATOR_ZSMALLOC);
  for (i = 0; i < NR_OWNERS; i++)
    ck_assert (put (i, 500 + i % 32 * 16, i));
  for (i = 0; i < NR_OWNERS; i++) {
    if (rng_below (&rng, 4)) {
      drop (i);
      continue;
    }
    n++;
    bytes += slot_size (slot_peek (&slots[i]));
  }
  before = pool_used (&pool);
  ck_assert (compact (true));
  check_pool (n);
  for (i = 0; i < NR_OWNERS; i++)
    if (slot_peek (&slots[i]))
      verify (i);
  ck_assert_uint_eq ((before - pool_used (&pool)) / ARENA_UNIT,
                     atomic_load (&pool.pages_compacted));
  /* At most a unit for each of the 32 classes, and 5 %. */
  ck_assert_uint_le (pool_used (&pool), bytes * 21 / 20 + 32 * ARENA_UNIT);
  ck_assert (!compact (true));
  teardown ();
}
END_TEST

/* Objects whose slot is locked, or does not name them yet, stay where
 * they are.
 */
START_TEST (test_compaction_respects_owners)
{
  uint64_t words[NR_OWNERS];
  unsigned i;

  setup (ZRAM_ALLOCATOR_ZSMALLOC);
  for (i = 0; i < NR_OWNERS; i++)
    ck_assert (put (i, 1000, i));
  for (i = 0; i < NR_OWNERS; i++) {
    if (i % 8)
      drop (i);
    else if (i % 16)
      words[i] = slot_lock (&slots[i]);
    else
      words[i] = slot_exchange (&slots[i], 0);
  }
  compact (true);
  for (i = 0; i < NR_OWNERS; i += 8) {
    if (i % 16) {
      ck_assert_uint_eq (slot_peek (&slots[i]), words[i]);
      slot_unlock (&slots[i], words[i]);
    }
    else
      slot_exchange (&slots[i], words[i]);
  }
  check_pool (NR_OWNERS / 8);
  ck_assert (compact (true));
  check_pool (NR_OWNERS / 8);
  for (i = 0; i < NR_OWNERS; i += 8)
    verify (i);
  teardown ();
}
END_TEST

/* One object of every size: the worst that can happen to a small pool.
 * When it has settled, each has at most a unit to itself, but the
 * whole-page ones.
 */
START_TEST (test_small_pool)
{
  unsigned i;
  uint64_t bytes = 0;

  setup (ZRAM_ALLOCATOR_ZSMALLOC);
  for (i = 0; i < 255; i++) {
    ck_assert (put (i, 16 * (i + 1), i));
    bytes += 16 * (i + 1);
  }
  check_pool (255);
  ck_assert_uint_le (pool_used (&pool), 4 * bytes);
  compact (true);
  check_pool (255);
  ck_assert_uint_le (pool_used (&pool), 256 * ARENA_UNIT);
  teardown ();
}
END_TEST

START_TEST (test_limit)
{
  unsigned allocator, i;

  for (allocator = 0; allocator < ZRAM_NR_ALLOCATORS; allocator++) {
    setup (allocator);
    limit.max = limit_resident (&limit) + (1 << 20);
    for (i = 0; put (i, 1500, i); i++)
      ck_assert_uint_lt (i, NR_OWNERS);
    ck_assert_int_eq (errno, ENOSPC);
    check_pool (i);
    ck_assert_uint_le (limit_resident (&limit), limit.max);
    ck_assert_uint_gt (limit_resident (&limit), limit.max - (1 << 17));
    drop (0);
    ck_assert (put (0, 1500, 9));
    while (i--)
      verify (i);
    teardown ();
  }
}
END_TEST

START_TEST (test_validator_sees_faults)
{
  FILE *null = fopen ("/dev/null", "w");
  struct zspage z;
  uint64_t word;

  setup (ZRAM_ALLOCATOR_ZSMALLOC);
  ck_assert (put (0, 100, 1) && put (1, 100, 2) && put (2, 100, 3));
  drop (1);
  word = slot_peek (&slots[0]);
  z = zs_find (&pool, slot_offset (word));

  slot_exchange (&slots[0], slot_word_moved (word, slot_offset (word) + 16));
  ck_assert_uint_eq (pool_check (&pool, count_object, NULL, null), 1);
  slot_exchange (&slots[0], word);
  z.header->inuse++;
  ck_assert_uint_ge (pool_check (&pool, count_object, NULL, null), 1);
  z.header->inuse--;
  z.header->free = ZS_END;
  ck_assert_uint_ge (pool_check (&pool, count_object, NULL, null), 1);
  z.header->free = 1;
  z.class->objects++;
  ck_assert_uint_eq (pool_check (&pool, count_object, NULL, null), 1);
  z.class->objects--;
  z.class->partial_map = 0;
  ck_assert_uint_ge (pool_check (&pool, count_object, NULL, null), 1);
  z.class->partial_map = 1;
  check_pool (2);
  fclose (null);
  teardown ();
}
END_TEST

UNIT_MAIN ("pool", test_names, test_all_sizes, test_bad_sizes,
           test_large_objects, test_whole_pages, test_zbud_buddies,
           test_churn, test_compaction, test_compaction_respects_owners,
           test_small_pool, test_limit, test_validator_sees_faults)
