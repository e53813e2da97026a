/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Idle pages become groups, and come out of them again. */

#include "unit.h"

#include "group.h"
#include "pages.h"
#include "store.h"

#define PAGE ZRAM_PAGE_SIZE
#define NR 64                   /* pages; four runs */

static struct zram_memory *memory;
static struct zram_store *store;
static unsigned char data[NR][PAGE], back[PAGE];
static struct rng rng;
static uint64_t mem_limit;      /* for setup */

/* Pages that compress, by themselves and still more together. */
static void
setup_with (const struct zram_codec *codec, unsigned group,
            enum zram_algorithm algorithm)
{
  struct zram_memory_config config = {
    .mem_limit = mem_limit,
    .contexts = 2,
    .recompress = {
      .codec = { algorithm, algorithm == ZRAM_ALGORITHM_LZ4 ? 1 : 3 },
      .age = 3600, .group = group,
    },
  };
  unsigned i;

  rng = (struct rng) { 7 };
  memory = zram_memory_create (&config);
  ck_assert_ptr_nonnull (memory);
  store = zram_open (memory, NR * PAGE, codec);
  ck_assert_ptr_nonnull (store);
  for (i = 0; i < NR; i++)
    pages_fill (&rng, PAGES_TEXT, data[i], PAGE);
  ck_assert_int_eq (zram_write (store, data, sizeof data, 0), 0);
}

static void
setup (void)
{
  struct zram_codec zstd = { ZRAM_ALGORITHM_ZSTD, 1 };

  setup_with (&zstd, 16, ZRAM_ALGORITHM_ZSTD);
}

static struct zram_store_stats
stats (void)
{
  struct zram_store_stats s;

  zram_store_stats (store, &s);
  return s;
}

static void
check (void)
{
  ck_assert_uint_eq (zram_memory_check (memory, stderr), 0);
}

static void
check_page (unsigned i)
{
  ck_assert_int_eq (zram_read (store, back, PAGE, i * PAGE), 0);
  ck_assert_int_eq (memcmp (back, data[i], PAGE), 0);
}

/* All pages are as they were; looking at them leaves them idle. */
static void
check_contents (void)
{
  unsigned i;

  for (i = 0; i < NR; i++) {
    epoch_token *token = epoch_enter (&memory->table.epoch);

    ck_assert_int_eq (page_peek (store, i, back), 0);
    epoch_leave (token);
    ck_assert_int_eq (memcmp (back, data[i], PAGE), 0);
  }
}

static void
make_idle (void)
{
  zram_mark_idle (store, 0);
  ck_assert (zram_memory_settle (memory));
  check ();
  check_contents ();
}

static uint64_t
word_of (unsigned i)
{
  return slot_peek (slots_find (&store->slots, i));
}

static void
teardown (void)
{
  check ();
  check_contents ();
  zram_close (store);
  zram_memory_settle (memory);
  check ();
  ck_assert_uint_eq (pool_used (&memory->pool), 0);
  zram_memory_destroy (memory);
  mem_limit = 0;
}

START_TEST (test_idle_pages_are_grouped)
{
  uint64_t before;

  setup ();
  zram_memory_settle (memory);
  before = stats ().compr_data_size;
  ck_assert_uint_eq (stats ().grouped_pages, 0);
  make_idle ();
  ck_assert_uint_eq (stats ().grouped_pages, NR);
  ck_assert_uint_lt (stats ().compr_data_size, before);
  ck_assert_uint_eq (stats ().orig_data_size, NR * PAGE);
  /* Four groups, each named by 16 slots at places 0 to 15. */
  ck_assert_uint_eq (slot_offset (word_of (0)), slot_offset (word_of (15)));
  ck_assert_uint_ne (slot_offset (word_of (0)), slot_offset (word_of (16)));
  ck_assert_uint_eq (slot_place (word_of (18)), 2);
  ck_assert_ptr_null (memory->regroup.work);
  teardown ();
}
END_TEST

START_TEST (test_sizes_of_groups)
{
  struct zram_codec lz4 = { ZRAM_ALGORITHM_LZ4, 0 };
  unsigned group, algorithm;

  for (algorithm = ZRAM_ALGORITHM_LZ4; algorithm <= ZRAM_ALGORITHM_ZSTD;
       algorithm++)
    for (group = 2; group <= 16; group *= 2) {
      setup_with (&lz4, group, algorithm);
      make_idle ();
      ck_assert_uint_gt (stats ().grouped_pages, 0);
      ck_assert_uint_ne (slot_offset (word_of (0)),
                         slot_offset (word_of (group)));
      teardown ();
    }
}
END_TEST

START_TEST (test_what_is_used_is_not_grouped)
{
  setup ();
  zram_mark_idle (store, 0);
  check_page (5);
  ck_assert_int_eq (zram_write (store, data[6], PAGE, 6 * PAGE), 0);
  zram_memory_settle (memory);
  check ();
  ck_assert_uint_eq (stats ().grouped_pages, NR - 2);
  ck_assert_int_eq (slot_state (word_of (5)), SLOT_RAM);
  ck_assert_int_eq (slot_state (word_of (6)), SLOT_RAM);
  /* Later they join the others. */
  make_idle ();
  ck_assert_uint_eq (stats ().grouped_pages, NR);
  ck_assert_uint_eq (slot_offset (word_of (5)), slot_offset (word_of (0)));
  teardown ();
}
END_TEST

/* Pages get older as time goes by: by one with each walk. */
START_TEST (test_age)
{
  unsigned walk;

  setup ();
  for (walk = 0; walk < AGING_IDLE; walk++) {
    ck_assert_uint_eq (slot_age (word_of (0)), walk);
    if (walk == 2)
      check_page (1);
    store->aging.next = 0;
    zram_memory_settle (memory);
  }
  ck_assert_uint_eq (stats ().grouped_pages, NR - 1);
  ck_assert_uint_eq (slot_age (word_of (1)), AGING_IDLE - 2);
  /* Nothing more until time has passed. */
  zram_memory_settle (memory);
  ck_assert_uint_eq (slot_age (word_of (1)), AGING_IDLE - 2);
  store->aging.next = 0;
  zram_memory_settle (memory);
  store->aging.next = 0;
  zram_memory_settle (memory);
  ck_assert_uint_eq (stats ().grouped_pages, NR);
  teardown ();
}
END_TEST

START_TEST (test_second_read_leaves_the_group)
{
  setup ();
  make_idle ();
  check_page (20);
  ck_assert_int_eq (slot_state (word_of (20)), SLOT_GROUP);
  ck_assert_uint_eq (slot_age (word_of (20)), 0);
  check_page (20);
  ck_assert_int_eq (slot_state (word_of (20)), SLOT_RAM);
  ck_assert_uint_eq (stats ().grouped_pages, NR - 1);
  check_page (20);
  teardown ();
}
END_TEST

/* A thread that is slow to take a page out of its group, while the page is
 * written, grouped and read again, must not bring back what it has read.
 */
static struct {
  unsigned char data[PAGE];
  uint64_t word;
  int birth;
} slow[NR];

static void
begin_slowly (void)
{
  unsigned i;

  for (i = 0; i < NR; i++) {
    check_page (i);
    slow[i].word = word_of (i);
    slow[i].birth = group_header (&memory->pool,
                                  slot_offset (slow[i].word))->birth;
    memcpy (slow[i].data, data[i], PAGE);
  }
}

/* True if the slot says the same again although the page is another. */
static bool
end_slowly (unsigned i)
{
  bool same;

  check_page (i);
  same = word_of (i) == slow[i].word;
  page_leave_group (store, slots_find (&store->slots, i), slow[i].word,
                    slow[i].birth, slow[i].data);
  check_page (i);
  return same;
}

START_TEST (test_slow_reader)
{
  epoch_token *token;
  unsigned i, round;

  setup ();
  make_idle ();
  token = epoch_enter (&memory->table.epoch);
  begin_slowly ();
  /* Sooner or later a group would lie where it was. */
  for (round = 0; round < 10; round++) {
    for (i = 0; i < NR; i++)
      data[i][100]++;
    ck_assert_int_eq (zram_write (store, data, sizeof data, 0), 0);
    zram_mark_idle (store, 0);
    zram_memory_settle (memory);
    for (i = 0; i < NR; i++)
      end_slowly (i);
  }
  ck_assert_uint_eq (stats ().grouped_pages, 0);
  epoch_leave (token);
  /* When it is gone they become groups as ever. */
  make_idle ();
  ck_assert_uint_eq (stats ().grouped_pages, NR);
  teardown ();
}
END_TEST

/* The same, if pages become idle at once, as those do that could not be
 * written back, and a walk has yet to come by.
 */
START_TEST (test_slower_reader)
{
  unsigned first, i, same = 0;

  setup ();
  for (first = 0; first < NR; first += 16) {
    epoch_token *token;

    make_idle ();
    ck_assert_uint_eq (stats ().grouped_pages, NR);
    token = epoch_enter (&memory->table.epoch);
    begin_slowly ();
    for (i = first; i < first + 16; i++) {
      data[i][100]++;
      ck_assert_int_eq (zram_write (store, data[i], PAGE, i * PAGE), 0);
      ck_assert (slot_try_change (slots_find (&store->slots, i), word_of (i),
                                  slot_word_aged (word_of (i), AGING_IDLE)));
    }
    store->aging.next = 0;
    zram_memory_settle (memory);
    for (i = first; i < first + 16; i++)
      same += end_slowly (i);
    epoch_leave (token);
  }
  ck_assert_uint_gt (same, 0);
  teardown ();
}
END_TEST

START_TEST (test_pages_leave_until_none_is_left)
{
  uint64_t with_groups;
  unsigned i;

  setup ();
  make_idle ();
  with_groups = stats ().compr_data_size;
  for (i = 0; i < 15; i++) {
    memset (data[i], 0, PAGE);
    if (i % 2)
      ck_assert_int_eq (zram_trim (store, PAGE, i * PAGE), 0);
    else
      ck_assert_int_eq (zram_write (store, data[i], PAGE, i * PAGE), 0);
    check ();
    check_page (15);
    make_idle ();
  }
  /* The last one has an object of its own now. */
  ck_assert_int_eq (slot_state (word_of (15)), SLOT_RAM);
  ck_assert_uint_lt (stats ().compr_data_size, with_groups);
  ck_assert_uint_eq (stats ().grouped_pages, NR - 16);
  teardown ();
}
END_TEST

/* All of a group in one request, and part of a page. */
START_TEST (test_other_ways_to_leave)
{
  setup ();
  make_idle ();
  memset (data[16], 0, 16 * PAGE);
  ck_assert_int_eq (zram_zero (store, 16 * PAGE, 16 * PAGE), 0);
  check ();
  memset (data[3] + 100, 'x', 50);
  ck_assert_int_eq (zram_write (store, data[3] + 100, 50, 3 * PAGE + 100), 0);
  check ();
  ck_assert_int_eq (slot_state (word_of (3)), SLOT_RAM);
  ck_assert_uint_eq (stats ().grouped_pages, NR - 17);
  teardown ();
}
END_TEST

/* A slow codec takes longer than there is time for in a tick.  Some of
 * those that follow do nothing then.
 */
START_TEST (test_share_of_the_processor)
{
  uint64_t grouped;
  unsigned i;

  setup ();
  memory->regroup.codec.level = 19;
  memory->background_cpu = 1;
  zram_mark_idle (store, 0);
  for (i = 0; i < 1000 && stats ().grouped_pages == 0; i++)
    memory_tick (memory);
  grouped = stats ().grouped_pages;
  ck_assert_uint_gt (grouped, 0);
  ck_assert_uint_lt (grouped, NR);
  for (i = memory->overdrawn / 1000000; i; i--)
    memory_tick (memory);
  ck_assert_uint_eq (stats ().grouped_pages, grouped);
  make_idle ();
  ck_assert_uint_eq (stats ().grouped_pages, NR);
  teardown ();
}
END_TEST

/* A page that was written comes back to its group, if that has room for
 * it, where there is not one unit to be had.
 */
START_TEST (test_at_the_limit)
{
  mem_limit = 32 << 20;
  setup ();
  make_idle ();
  memcpy (data[5], data[6], PAGE);
  ck_assert_int_eq (zram_write (store, data[5], PAGE, 5 * PAGE), 0);
  ck_assert_uint_eq (stats ().grouped_pages, NR - 1);
  memory->limit.max = limit_resident (&memory->limit);
  make_idle ();
  ck_assert_uint_eq (stats ().grouped_pages, NR);
  teardown ();
}
END_TEST

/* Reading must not use up what writers need. */
START_TEST (test_reads_near_the_limit)
{
  mem_limit = 32 << 20;
  setup ();
  make_idle ();
  memory->limit.max = limit_resident (&memory->limit);
  check_page (20);
  check_page (20);
  ck_assert_int_eq (slot_state (word_of (20)), SLOT_GROUP);
  teardown ();
}
END_TEST

/* No groups where the memory to make them is much of the limit. */
START_TEST (test_small_limit)
{
  mem_limit = 4 << 20;
  setup ();
  make_idle ();
  ck_assert_uint_eq (stats ().grouped_pages, 0);
  teardown ();
}
END_TEST

/* What does not shrink is tried once, and what is huge never. */
START_TEST (test_incompressible)
{
  unsigned i;

  setup ();
  for (i = 0; i < 16; i++)
    pages_fill (&rng, i < 8 ? PAGES_RANDOM : PAGES_WORD64, data[i], PAGE);
  ck_assert_int_eq (zram_write (store, data, 16 * PAGE, 0), 0);
  make_idle ();
  ck_assert_uint_eq (stats ().grouped_pages, NR - 16);
  for (i = 0; i < 16; i++)
    ck_assert_int_eq (slot_state (word_of (i)), SLOT_RAM);
  teardown ();
}
END_TEST

/* Noise in half of each page: compresses, but no better together. */
START_TEST (test_settled)
{
  unsigned i;

  setup ();
  for (i = 0; i < NR; i++) {
    pages_fill (&rng, PAGES_RANDOM, data[i], PAGE / 2);
    memset (data[i] + PAGE / 2, 0, PAGE / 2);
  }
  ck_assert_int_eq (zram_write (store, data, sizeof data, 0), 0);
  make_idle ();
  for (i = 0; i < NR; i++)
    if (slot_state (word_of (i)) == SLOT_RAM)
      ck_assert_uint_ne (word_of (i) & SLOT_SETTLED, 0);
  check_page (1);
  ck_assert_uint_eq (word_of (1) & SLOT_SETTLED, 0);
  teardown ();
}
END_TEST

/* Compaction moves groups, and all their slots follow. */
START_TEST (test_groups_are_moved)
{
  uint64_t before[NR];
  unsigned i, moved = 0;

  setup ();
  make_idle ();
  for (i = 0; i < NR; i++)
    before[i] = slot_offset (word_of (i));
  /* Free one group and fill its class with others is not in our hands:
   * move all there is to move, by freeing most of what came first.
   */
  for (i = 0; i < 32; i++)
    memset (data[i], 0, PAGE);
  ck_assert_int_eq (zram_trim (store, 32 * PAGE, 0), 0);
  zram_memory_settle (memory);
  check ();
  check_contents ();
  for (i = 32; i < NR; i++)
    moved += slot_offset (word_of (i)) != before[i];
  ck_assert_uint_eq (moved % 16, 0);
  teardown ();
}
END_TEST

START_TEST (test_bad_configurations)
{
  struct zram_memory_config config = {
    .recompress = { .codec = { ZRAM_ALGORITHM_ZSTD, 3 }, .group = 3 },
  };

  ck_assert_errno (zram_memory_create (&config) == NULL, EINVAL);
  config.recompress.group = 32;
  ck_assert_errno (zram_memory_create (&config) == NULL, EINVAL);
  config.recompress.group = 16;
  config.allocator = ZRAM_ALLOCATOR_ZBUD;
  ck_assert_errno (zram_memory_create (&config) == NULL, EINVAL);
  config.allocator = ZRAM_ALLOCATOR_ZSMALLOC;
  config.recompress.codec.algorithm = ZRAM_ALGORITHM_NONE;
  ck_assert_errno (zram_memory_create (&config) == NULL, EINVAL);
  config.recompress.codec = (struct zram_codec) { ZRAM_ALGORITHM_ZSTD, 99 };
  ck_assert_errno (zram_memory_create (&config) == NULL, EINVAL);
}
END_TEST

START_TEST (test_validator_sees_faults)
{
  FILE *null = fopen ("/dev/null", "w");
  struct group_header *header;

  setup ();
  make_idle ();
  header = group_header (&memory->pool, slot_offset (word_of (0)));
  header->live &= ~2;
  ck_assert_uint_ge (zram_memory_check (memory, null), 1);
  header->live |= 2;
  header->size++;
  ck_assert_uint_ge (zram_memory_check (memory, null), 1);
  header->size--;
  header->members &= ~4;
  ck_assert_uint_ge (zram_memory_check (memory, null), 1);
  header->members |= 4;
  fclose (null);
  teardown ();
}
END_TEST

/* A damaged group is an error for its pages, and never wrong data. */
START_TEST (test_damaged)
{
  struct group_header *header;
  unsigned char *frame;
  unsigned i;

  setup ();
  make_idle ();
  header = group_header (&memory->pool, slot_offset (word_of (0)));
  frame = (unsigned char *) (header + 1);
  frame[0] ^= 1;
  for (i = 0; i < 16; i++)
    ck_assert_errno (zram_read (store, back, PAGE, i * PAGE) == -1, EIO);
  check_page (16);
  frame[0] ^= 1;
  teardown ();
}
END_TEST

UNIT_MAIN ("group", test_idle_pages_are_grouped, test_sizes_of_groups,
           test_what_is_used_is_not_grouped, test_age,
           test_second_read_leaves_the_group, test_slow_reader,
           test_slower_reader,
           test_pages_leave_until_none_is_left, test_other_ways_to_leave,
           test_share_of_the_processor, test_at_the_limit,
           test_reads_near_the_limit, test_small_limit,
           test_incompressible, test_settled, test_groups_are_moved,
           test_bad_configurations, test_validator_sees_faults,
           test_damaged)
