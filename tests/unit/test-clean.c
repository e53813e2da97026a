/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Cleaning of tiers: which segments, what is in the way, and when it ends.
 */

#include "unit.h"

#include "pages.h"
#include "tiered.h"
#include "writeback-work.h"

/* Pages until neither RAM nor tiers have room. */
static unsigned
fill_up (void)
{
  unsigned n;

  for (n = 0; n < 2 * NR && write_page (n, 0) == 0; n++)
    ;
  ck_assert_int_eq (errno, ENOSPC);
  return n;
}

/* Of PART pages on tiers one is left. */
static void
thin_out (unsigned n, unsigned part)
{
  unsigned i;

  for (i = 0; i < n; i++)
    if (is_on_tier (i) && i % part)
      ck_assert_int_eq (zram_trim (store, PAGE, (uint64_t) i * PAGE), 0);
}

static void
write_more (unsigned nr)
{
  unsigned i;

  for (i = 0; i < nr; i++)
    ck_assert_int_eq (write_page (2 * NR + i, 1), 0);
}

static void
check_rest (unsigned n, unsigned part)
{
  unsigned i;

  for (i = 0; i < n; i += part)
    check_page (i, 0);
  ck_assert_uint_eq (zram_memory_check (memory, stderr), 0);
}

/* (1 - u) * age / (1 + u), where u is what is left. */
START_TEST (test_which)
{
  struct segment segments[] = {
    { 0 },
    { .state = SEGMENT_FULL, .written = 1000, .weight = 700, .sequence = 0 },
    { .state = SEGMENT_FULL, .written = 1000, .weight = 600, .sequence = 90 },
    { .state = SEGMENT_FULL, .written = 1000, .weight = 875, .sequence = 0 },
    { .state = SEGMENT_OPEN, .written = 1000, .weight = 1, .sequence = 0 },
  };
  struct tier tier = {
    .nr_segments = 5, .segments = segments, .opened = 100,
  };

  /* 17.6 and 2.5. */
  ck_assert_uint_eq (tier_to_clean (&tier, 8, 0), 1);
  /* The second has been cleaned as often as the open one; but see above. */
  segments[1].cleaned = 1;
  ck_assert_uint_eq (tier_to_clean (&tier, 8, 4), 1);
  /* 17.6 and 13.0: more than 0.7 of it; and 12.2, which is less. */
  segments[2].sequence = 48;
  ck_assert_uint_eq (tier_to_clean (&tier, 8, 4), 2);
  segments[2].sequence = 51;
  ck_assert_uint_eq (tier_to_clean (&tier, 8, 4), 1);
  ck_assert_uint_eq (tier_to_clean (&tier, 8, 1), 1);
  /* 17.6 and 25. */
  segments[2].sequence = 0;
  ck_assert_uint_eq (tier_to_clean (&tier, 8, 0), 2);
  tier_set_aside (&tier, 2);
  ck_assert_uint_eq (tier_to_clean (&tier, 8, 0), 1);
  tier_no_gain (&tier, 1);
  ck_assert_uint_eq (tier_to_clean (&tier, 8, 0), 0);
  /* Nothing else was left. */
  ck_assert_uint_eq (tier_to_clean (&tier, 8, 0), 2);
}
END_TEST

/* A bad segment does not keep others from being cleaned. */
START_TEST (test_beside_bad)
{
  unsigned n;

  setup (12 * MIB);
  storage.bad = 5 * MIB;
  storage.bad_end = 6 * MIB;
  n = fill_up ();
  thin_out (n, 2);
  write_more (600);
  check_rest (n, 2);
  teardown ();
}
END_TEST

/* Neither does a second tier that always fails. */
START_TEST (test_beside_failing_tier)
{
  struct zram_tier tier = storage_init (&second, 4 * MIB);
  unsigned n;

  setup (12 * MIB);
  second.fail_writes = 1000000;
  ck_assert_int_eq (zram_add_tier (memory, &tier), 0);
  n = fill_up ();
  thin_out (n, 2);
  write_more (600);
  check_rest (n, 2);
  teardown ();
  storage_destroy (&second);
}
END_TEST

/* Of a large tier more than one is left for cleaning. */
START_TEST (test_spare)
{
  struct tiers *tiers;
  struct tier *tier;
  unsigned i;

  setup (1100 * MIB);
  tiers = &memory->tiers;
  tier = tiers->order[0];
  /* The first one is not used, and two are left. */
  for (i = 0; i < 1100 - 1 - 2; i++) {
    ck_assert (tiers_have_good_room (tiers));
    tier_close_segment (tier, tier_open_segment (tiers, tier, 0), 0);
  }
  ck_assert (!tier_has_room (tiers, tier));
  ck_assert (!tiers_have_good_room (tiers));
  ck_assert_uint_eq (tier_open_segment (tiers, tier, 0), 0);
  for (i = 0; i < 2; i++) {
    ck_assert (tier_has_spare (tiers, tier));
    tier_close_segment (tier, tier_open_segment (tiers, tier, 1), 0);
  }
  ck_assert (!tier_has_spare (tiers, tier));
  teardown ();
}
END_TEST

/* What fits can be overwritten, too, though no segment has lost an eighth. */
START_TEST (test_nearly_full)
{
  const unsigned in_ram = 1700, in_segment = 31, segments = 40 * 8 - 2;
  const unsigned nr = in_ram + segments * in_segment * 9 / 10;
  struct rng rng = { 5 };
  unsigned i;

  setup (40 * MIB);             /* one has the mark, one is to spare */
  for (i = 0; i < nr; i++)
    ck_assert_int_eq (write_page (i, 0), 0);
  for (i = 0; i < 3000; i++)
    ck_assert_int_eq (write_page (rng_below (&rng, nr), 0), 0);
  ck_assert_uint_eq (zram_memory_check (memory, stderr), 0);
  for (i = 0; i < nr; i++)
    check_page (i, 0);
  teardown ();
}
END_TEST

/* The segment to spare is not lost if it cannot be written for once. */
START_TEST (test_fails_once)
{
  unsigned n;

  setup (12 * MIB);
  n = fill_up ();
  thin_out (n, 2);
  storage.fail_writes = 1;
  write_more (1000);
  check_rest (n, 2);
  teardown ();
}
END_TEST

static bool
is (unsigned i, enum slot_state state)
{
  slot *s = slots_find (&store->slots, i);

  return s && slot_state (slot_peek (s)) == state;
}

/* Where no segment is free and sparse ones are, these are cleaned for what is
 * old, before what has just been read goes because it need not be written.
 */
START_TEST (test_before_copies)
{
  unsigned hot[100], n, i, nr = 0;

  setup (8 * MIB);
  n = fill_up ();
  thin_out (n, 2);
  for (i = 0; i < n && nr < 400; i++)
    if (is (i, SLOT_RAM)) {
      ck_assert_int_eq (zram_trim (store, PAGE, (uint64_t) i * PAGE), 0);
      nr++;
    }
  zram_memory_settle (memory);
  zram_mark_idle (store, 0);
  for (i = 0, nr = 0; i < n && nr < 100; i++)
    if (is_on_tier (i)) {
      check_page (i, 0);
      check_page (i, 0);
      ck_assert (is (i, SLOT_CLEAN));
      hot[nr++] = i;
    }
  ck_assert_uint_eq (nr, 100);
  ck_assert (!tiers_have_room (&memory->tiers));
  ck_assert (writeback_wait (&memory->writeback));
  for (i = 0; i < 100; i++)
    ck_assert (!is_on_tier (hot[i]));
  teardown ();
}
END_TEST

/* Everything is trimmed while segments are read to be cleaned: the first of
 * READS, and then the whole disk.
 */
static unsigned nr_pages, reads;

static void
trim_meanwhile (size_t count)
{
  uint32_t segment = tier_to_clean (memory->tiers.order[0], 8, 0);
  unsigned i;

  if (count < TIER_SEGMENT_MIN || reads == 0)
    return;
  if (--reads == 0) {
    ck_assert_int_eq (zram_trim (store, UINT64_C (1) << 30, 0), 0);
    return;
  }
  for (i = 0; i < nr_pages; i++)
    if (is_on_tier (i)
        && slot_segment (slot_peek (slots_find (&store->slots, i)))
           == segment)
      ck_assert_int_eq (zram_trim (store, PAGE, (uint64_t) i * PAGE), 0);
}

START_TEST (test_trimmed_meanwhile)
{
  unsigned nr;

  for (nr = 1; nr <= 2; nr++) {
    setup (12 * MIB);
    nr_pages = fill_up ();
    thin_out (nr_pages, 2);
    reads = nr;
    storage.on_read = trim_meanwhile;
    write_more (2);
    ck_assert_uint_eq (reads, 0);
    storage.on_read = NULL;
    ck_assert_uint_eq (zram_memory_check (memory, stderr), 0);
    teardown ();
  }
}
END_TEST

/* A tier full of groups.  A group is copied whole, so where each has a page
 * left nothing is gained, and nothing is written for nothing.
 */
static unsigned
fill_with_groups (void)
{
  struct zram_move down = {
    .from = ZRAM_LEVEL_RAM, .to = ZRAM_LEVEL_TIERS,
  };
  struct rng rng = { 3 };
  uint64_t moved;
  unsigned n = 0, i;

  do {
    for (i = 0; i < 5820; i++, n++) {
      pages_fill (&rng, PAGES_TEXT, page, PAGE);
      if (zram_write (store, page, PAGE, (uint64_t) n * PAGE) == -1)
        return n;
    }
    zram_mark_idle (store, 0);
    zram_memory_settle (memory);
  } while (zram_move (store, &down, &moved) == 0);
  return n;
}

START_TEST (test_groups)
{
  struct zram_recompress recompress = {
    .codec = { ZRAM_ALGORITHM_ZSTD, 3 }, .age = 3600, .group = 16,
  };
  unsigned n, i, before;
  int r;

  setup_with (40 * MIB, &recompress);
  n = fill_with_groups ();
  thin_out (n, 16);
  zram_memory_settle (memory);
  memory->limit.max = limit_resident (&memory->limit) + 2 * MIB;
  for (i = 0, r = 0; i < 3000 && r == 0; i++) {
    before = storage.writes;
    r = write_page (n + i, 0);
    ck_assert_uint_le (storage.writes - before, 2);
  }
  ck_assert_uint_eq (zram_memory_check (memory, stderr), 0);
  teardown ();
}
END_TEST

UNIT_MAIN ("clean", test_which, test_beside_bad, test_beside_failing_tier,
           test_spare, test_nearly_full, test_fails_once,
           test_before_copies,
           test_trimmed_meanwhile, test_groups)
