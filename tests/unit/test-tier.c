/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Pages leave RAM for a tier and come back; and what happens when the tier
 * fails.
 */

#include "unit.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model.h"
#include "pages.h"
#include "storage.h"
#include "tiered.h"
#include "writeback-work.h"

START_TEST (test_more_than_memory)
{
  setup (32 * MIB);
  write_all (0);
  ck_assert_uint_gt (stats ().bd_count, NR / 3);
  ck_assert_uint_eq (stats ().orig_data_size, (uint64_t) NR * PAGE);
  ck_assert_uint_le (limit_resident (&memory->limit), memory->limit.max);
  check_all (0);
  write_all (1);
  check_all (1);
  teardown ();
}
END_TEST

/* Segments are used again when all in them is gone. */
START_TEST (test_segments_come_back)
{
  unsigned round;

  setup (24 * MIB);
  for (round = 0; round < 8; round++) {
    write_all (round);
    zram_memory_settle (memory);
  }
  check_all (7);
  ck_assert_int_eq (zram_trim (store, (uint64_t) NR * PAGE, 0), 0);
  zram_memory_settle (memory);
  zram_memory_settle (memory);
  ck_assert_uint_eq (memory->tiers.order[0]->nr_free, 24 * 8 - 1);
  ck_assert_uint_gt (storage.discards, 20 * 8);
  teardown ();
}
END_TEST

/* One has the mark; with it there are 512 or more, where it can be. */
START_TEST (test_sizes)
{
  const struct {
    uint64_t size, segment, nr;
  } t[] = {
    { 2 * MIB, MIB / 8, 15 },
    { 64 * MIB, MIB / 8, 511 },
    { 128 * MIB - 1, MIB / 8, 127 * 8 + 6 },
    { 128 * MIB, MIB / 4, 511 },
    { 256 * MIB, MIB / 2, 511 },
    { 512 * MIB - 1, MIB / 2, 511 * 2 },
    { 512 * MIB, MIB, 511 },
    { 1500 * MIB, MIB, 1499 },
  };
  struct zram_memory_stats m;
  unsigned i;

  for (i = 0; i < sizeof t / sizeof t[0]; i++) {
    setup (t[i].size);
    zram_memory_stats (memory, &m);
    ck_assert_uint_eq (m.tiers[0].segment_size, t[i].segment);
    ck_assert_uint_eq (m.tiers[0].segments, t[i].nr);
    teardown ();
  }
}
END_TEST

START_TEST (test_second_read_brings_back)
{
  unsigned i;

  setup (32 * MIB);
  write_all (0);
  ck_assert_int_eq (zram_trim (store, 500 * PAGE, (NR - 500) * PAGE), 0);
  ck_assert (zram_memory_settle (memory));
  i = one_on_tier ();
  check_page (i, 0);
  ck_assert (is_on_tier (i));
  check_page (i, 0);
  ck_assert (!is_on_tier (i));
  check_page (i, 0);
  teardown ();
}
END_TEST

/* Parts of pages that are on the tier are written and zeroed. */
START_TEST (test_parts)
{
  unsigned i;

  setup (32 * MIB);
  write_all (0);
  i = one_on_tier ();
  ck_assert_int_eq (zram_write (store, "hello", 5, i * PAGE + 100), 0);
  ck_assert (!is_on_tier (i));
  make_page (i, 0);
  memcpy (page + 100, "hello", 5);
  ck_assert_int_eq (zram_read (store, back, PAGE, i * PAGE), 0);
  ck_assert_int_eq (memcmp (back, page, PAGE), 0);
  i = one_on_tier ();
  ck_assert_int_eq (zram_zero (store, 50, i * PAGE + 10), 0);
  make_page (i, 0);
  memset (page + 10, 0, 50);
  ck_assert_int_eq (zram_read (store, back, PAGE, i * PAGE), 0);
  ck_assert_int_eq (memcmp (back, page, PAGE), 0);
  teardown ();
}
END_TEST

/* Only when RAM and the tier are full, and then nothing is lost. */
START_TEST (test_full)
{
  unsigned i, n;

  setup (4 * MIB);
  for (n = 0; n < NR && write_page (n, 0) == 0; n++)
    ;
  ck_assert_int_eq (errno, ENOSPC);
  ck_assert_uint_gt (n, 1700);
  ck_assert_uint_lt (n, NR);
  for (i = 0; i < n; i++)
    check_page (i, 0);
  ck_assert_int_eq (zram_trim (store, 200 * PAGE, 0), 0);
  for (i = 0; i < 100; i++)
    ck_assert_int_eq (write_page (i, 1), 0);
  teardown ();
}
END_TEST

START_TEST (test_second_tier)
{
  struct zram_tier tier = storage_init (&second, 16 * MIB);
  struct zram_memory_stats m;

  setup (4 * MIB);
  ck_assert_int_eq (zram_add_tier (memory, &tier), 0);
  write_all (0);
  check_all (0);
  zram_memory_stats (memory, &m);
  ck_assert_uint_eq (m.nr_tiers, 2);
  /* Not much of it is free, and what is colder has moved down. */
  /* With 3 of 32 it has little room, and one moves down. */
  ck_assert_uint_le (m.tiers[0].free_segments, 4);
  ck_assert_uint_gt (m.tiers[1].pages, 0);
  teardown ();
  storage_destroy (&second);
}
END_TEST

/* A write that fails costs nothing: the pages are still in RAM. */
START_TEST (test_write_errors)
{
  unsigned i, n;

  setup (32 * MIB);
  storage.fail_writes = 1000000;
  for (n = 0; n < NR && write_page (n, 0) == 0; n++)
    ;
  ck_assert_int_eq (errno, ENOSPC);
  ck_assert_uint_eq (stats ().bd_count, 0);
  for (i = 0; i < n; i++)
    check_page (i, 0);
  ck_assert_uint_gt (memory->tiers.order[0]->write_errors, 0);
  storage.fail_writes = 0;
  zram_memory_settle (memory);
  zram_memory_settle (memory);
  write_all (1);
  check_all (1);
  teardown ();
}
END_TEST

/* Of a part that cannot be written, nothing but the room is lost, and that
 * comes back.
 */
static unsigned
fill (void)
{
  unsigned i, n;

  for (n = 0; n < 10000 && write_page (n, 0) == 0; n++)
    ;
  for (i = 0; i < n; i++)
    check_page (i, 0);
  ck_assert_uint_eq (zram_memory_check (memory, stderr), 0);
  ck_assert_int_eq (zram_trim (store, (uint64_t) n * PAGE, 0), 0);
  for (i = 0; i < 4; i++)
    zram_memory_settle (memory);
  return n;
}

START_TEST (test_bad_part)
{
  unsigned i, first, last;

  setup (32 * MIB);
  storage.bad = 10 * MIB;
  first = fill ();
  ck_assert_uint_lt (first, (8 + 10) * 256);
  for (i = 0; i < 5; i++)
    ck_assert_uint_ge (fill () + 256, first);
  storage.bad = 0;
  last = fill ();
  ck_assert_uint_gt (last, first + 18 * 256);
  ck_assert_uint_eq (memory->tiers.order[0]->nr_bad, 0);
  teardown ();
}
END_TEST

/* The next tier is used instead. */
START_TEST (test_one_of_two_fails)
{
  struct zram_tier tier = storage_init (&second, 32 * MIB);
  struct zram_memory_stats m;

  setup (32 * MIB);
  ck_assert_int_eq (zram_add_tier (memory, &tier), 0);
  storage.fail_writes = 1000000;
  write_all (0);
  check_all (0);
  zram_memory_stats (memory, &m);
  ck_assert_uint_eq (m.tiers[0].pages, 0);
  ck_assert_uint_gt (m.tiers[1].pages, 0);
  teardown ();
  storage_destroy (&second);
}
END_TEST

/* A read that fails is an error for that page, now. */
START_TEST (test_read_errors)
{
  unsigned i;

  setup (32 * MIB);
  write_all (0);
  i = one_on_tier ();
  storage.fail_reads = 1;
  ck_assert_errno (zram_read (store, back, PAGE, i * PAGE) == -1, EIO);
  ck_assert_uint_eq (stats ().failed_reads, 1);
  check_page (i, 0);
  storage.fail_reads = 1;
  i = one_on_tier ();
  ck_assert_errno (zram_write (store, "x", 1, i * PAGE + 7) == -1, EIO);
  check_page (i, 0);
  /* A whole page needs no reading. */
  storage.fail_reads = 1;
  i = one_on_tier ();
  ck_assert_int_eq (write_page (i, 3), 0);
  storage.fail_reads = 0;
  check_page (i, 3);
  teardown ();
}
END_TEST

/* One byte that changed is an error for one page, and never data. */
START_TEST (test_damaged_byte)
{
  unsigned i, bad = 0;
  uint64_t at;

  setup (32 * MIB);
  write_all (0);
  at = 1 * MIB + 300 * 1024 + 77;
  storage.bytes[at] ^= 1;
  for (i = 0; i < NR; i++) {
    make_page (i, 0);
    if (zram_read (store, back, PAGE, (uint64_t) i * PAGE) == -1) {
      ck_assert_int_eq (errno, EIO);
      bad++;
    }
    else
      ck_assert_int_eq (memcmp (back, page, PAGE), 0);
  }
  ck_assert_uint_eq (bad, 1);
  storage.bytes[at] ^= 1;
  check_all (0);
  teardown ();
}
END_TEST

/* A storage that was emptied behind our back. */
START_TEST (test_lost)
{
  unsigned i;

  setup (32 * MIB);
  write_all (0);
  i = one_on_tier ();
  memset (storage.bytes, 0, storage.size);
  ck_assert_errno (zram_read (store, back, PAGE, i * PAGE) == -1, EIO);
  teardown ();
}
END_TEST

/* What an earlier life of the segments left does not pass for what was
 * written, although it stands at the same places: a server that has lost
 * what it was last told, for one.
 */
START_TEST (test_earlier_life)
{
  unsigned char *saved = malloc (24 * MIB);
  unsigned i, round, wrong = 0, failed = 0;

  setup (24 * MIB);
  write_all (0);
  memcpy (saved, storage.bytes, 24 * MIB);
  for (round = 1; round < 8; round++)
    write_all (round);
  memcpy (storage.bytes, saved, 24 * MIB);
  free (saved);
  for (i = 0; i < NR; i++) {
    make_page (i, 7);
    if (zram_read (store, back, PAGE, (uint64_t) i * PAGE) == -1)
      failed++;
    else
      wrong += memcmp (back, page, PAGE) != 0;
  }
  ck_assert_uint_eq (wrong, 0);
  ck_assert_uint_gt (failed, 0);
  teardown ();
}
END_TEST

/* Segments that somebody may still be reading are waited for. */
static void *
leave_soon (void *opaque)
{
  usleep (300000);
  epoch_leave (opaque);
  return NULL;
}

START_TEST (test_reader_holds_segments)
{
  epoch_token *token;
  pthread_t thread;
  unsigned i, n;

  setup (4 * MIB);
  for (n = 0; n < NR && write_page (n, 0) == 0; n++)
    ;
  token = epoch_enter (&memory->table.epoch);
  for (i = 0; i < n; i++)
    if (is_on_tier (i))
      ck_assert_int_eq (zram_trim (store, PAGE, i * PAGE), 0);
  ck_assert_int_eq (pthread_create (&thread, NULL, leave_soon, token), 0);
  for (i = 0; i < 300; i++)
    ck_assert_int_eq (write_page (NR + i, 1), 0);
  pthread_join (thread, NULL);
  teardown ();
}
END_TEST

/* While memory is short, who writes whole pages waits for his turn, and who
 * writes parts of pages does not.
 */
static void *
write_first (void *opaque)
{
  const unsigned char *data = opaque;

  ck_assert_int_eq (zram_write (store, data, PAGE, 0), 0);
  return NULL;
}

START_TEST (test_turns)
{
  struct writeback *w;
  unsigned char first[PAGE];
  unsigned i, nr;
  pthread_t thread;

  setup (32 * MIB);
  w = &memory->writeback;
  ck_assert_int_eq (writeback_take_turn (w), NO_TURN);
  for (i = 0; !writeback_is_needed (w); i++)
    ck_assert_int_eq (write_page (i, 0), 0);
  memory->reserve = MIB;
  ck_assert_int_eq (writeback_take_turn (w), NO_TURN);
  memory->reserve = 0;
  nr = w->turns.nr;
  ck_assert_uint_ge (nr, 1);
  for (i = 0; i < nr; i++)
    ck_assert_int_ne (writeback_take_turn (w), NO_TURN);
  make_random (first, 0, 1);
  ck_assert_int_eq (pthread_create (&thread, NULL, write_first, first), 0);
  while (atomic_load (&w->turns.nr_waiting) == 0)
    sched_yield ();
  ck_assert_int_eq (zram_write (store, "part", 4, PAGE), 0);
  check_page (0, 0);
  for (i = 0; i < nr; i++)
    writeback_return_turn (w, i);
  pthread_join (thread, NULL);
  check_page (0, 1);
  teardown ();
}
END_TEST

/* One segment that cannot be cleaned does not keep others from it. */
START_TEST (test_clean_past_damage)
{
  unsigned i, n, first;

  setup (12 * MIB);
  for (n = 0; n < 2 * NR && write_page (n, 0) == 0; n++)
    ;
  for (first = 0; !is_on_tier (first); first++)
    ;
  /* The first record of the segment that will be the sparsest. */
  storage.bytes[segment_of (first) + 100] ^= 1;
  for (i = first; i < first + 2000; i++)
    if (is_on_tier (i) && i % 4 && (i < first + 25 || i % 4 == 1))
      ck_assert_int_eq (zram_trim (store, PAGE, i * PAGE), 0);
  for (i = 0; i < 300; i++)
    ck_assert_int_eq (write_page (2 * NR + i, 1), 0);
  teardown ();
}
END_TEST

START_TEST (test_groups_on_a_tier)
{
  struct zram_recompress recompress = {
    .codec = { ZRAM_ALGORITHM_ZSTD, 3 }, .age = 3600, .group = 16,
  };
  struct rng rng = { 3 };
  static unsigned char text[256][PAGE];
  unsigned i;

  setup_with (32 * MIB, &recompress);
  memory->limit.max = limit_resident (&memory->limit) + 6 * MIB;
  for (i = 0; i < 256; i++) {
    pages_fill (&rng, PAGES_TEXT, text[i], PAGE);
    ck_assert_int_eq (zram_write (store, text[i], PAGE,
                                  (uint64_t) (10000 + i) * PAGE), 0);
  }
  zram_mark_idle (store, 0);
  ck_assert (zram_memory_settle (memory));
  ck_assert_uint_eq (stats ().grouped_pages, 256);
  write_all (0);
  ck_assert_uint_eq (stats ().grouped_pages, 0);
  for (i = 0; i < 256; i++) {
    ck_assert_int_eq (zram_read (store, back, PAGE,
                                 (uint64_t) (10000 + i) * PAGE), 0);
    ck_assert_int_eq (memcmp (back, text[i], PAGE), 0);
  }
  ck_assert_int_eq (zram_trim (store, 100 * PAGE, 10003 * PAGE), 0);
  ck_assert_uint_eq (zram_memory_check (memory, stderr), 0);
  teardown ();
}
END_TEST

START_TEST (test_bad_tiers)
{
  struct zram_tier tier;

  setup (32 * MIB);
  tier = storage_init (&second, 2 * MIB - 1);
  ck_assert_errno (zram_add_tier (memory, &tier) == -1, EINVAL);
  ck_assert_uint_eq (second.closed, 1);
  storage_destroy (&second);
  ck_assert_errno (zram_tier_file ("/nowhere/tier", 4 * MIB, 0, &tier)
                   == -1, ENOENT);
  teardown ();
}
END_TEST

/* What is on a file is not overwritten, unless it is ours. */
START_TEST (test_file_of_others)
{
  struct zram_tier tier, second_tier;
  char name[] = "test-tier.XXXXXX";
  int fd = mkstemp (name);

  ck_assert_int_eq (pwrite (fd, "precious", 8, 5000), 8);
  ck_assert_errno (zram_tier_file (name, 4 * MIB, 0, &tier) == -1,
                   EEXIST);
  ck_assert_int_eq (pread (fd, back, 8, 5000), 8);
  ck_assert_int_eq (memcmp (back, "precious", 8), 0);
  ck_assert_int_eq (lseek (fd, 0, SEEK_END), 5008);
  ck_assert_int_eq (zram_tier_file (name, 4 * MIB, ZRAM_TIER_FORCE, &tier),
                    0);
  tier.ops->close (tier.opaque);
  ck_assert_int_eq (zram_tier_file (name, 0, 0, &tier), 0);
  ck_assert_uint_eq (tier.size, 4 * MIB);
  /* In use. */
  ck_assert_errno (zram_tier_file (name, 0, ZRAM_TIER_FORCE, &second_tier)
                   == -1, EBUSY);
  tier.ops->close (tier.opaque);
  close (fd);
  unlink (name);
}
END_TEST

/* Some have their signature at the end: the superblock of md 0.90 is 64 KiB
 * before it, that of DDF in its last sector.  What a tier has there is ours.
 */
START_TEST (test_file_of_others_at_its_end)
{
  struct zram_tier tier;
  char name[] = "test-tier.XXXXXX";
  int fd = mkstemp (name);
  unsigned i;

  for (i = 0; i < 2; i++) {
    off_t at = 8 * MIB + 512 - (i ? 512 : 65536);

    ck_assert_int_eq (ftruncate (fd, 0), 0);
    ck_assert_int_eq (ftruncate (fd, 8 * MIB + 512), 0);
    ck_assert_int_eq (pwrite (fd, "precious", 8, at), 8);
    ck_assert_errno (zram_tier_file (name, 0, 0, &tier) == -1, EEXIST);
    ck_assert_int_eq (pread (fd, back, 8, at), 8);
    ck_assert_int_eq (memcmp (back, "precious", 8), 0);
    ck_assert_int_eq (zram_tier_file (name, 0, ZRAM_TIER_FORCE, &tier), 0);
    tier.ops->close (tier.opaque);
    ck_assert_int_eq (zram_tier_file (name, 0, 0, &tier), 0);
    tier.ops->close (tier.opaque);
  }
  close (fd);
  unlink (name);
}
END_TEST

START_TEST (test_file)
{
  struct zram_tier tier;
  char name[] = "test-tier.XXXXXX";
  struct stat st;
  int fd = mkstemp (name);

  ck_assert_int_ge (fd, 0);
  close (fd);
  unlink (name);
  setup (2 * MIB);
  ck_assert_errno (zram_tier_file (name, MIB, 0, &tier) == -1, EINVAL);
  ck_assert_int_eq (zram_tier_file (name, 32 * MIB, 0, &tier), 0);
  ck_assert_uint_eq (tier.size, 32 * MIB);
  ck_assert_int_eq (stat (name, &st), 0);
  ck_assert_uint_eq (st.st_mode & 07777, 0600);
  ck_assert_int_eq (zram_add_tier (memory, &tier), 0);
  write_all (0);
  check_all (0);
  write_all (1);
  check_all (1);
  unlink (name);
  teardown ();
}
END_TEST

/* A page is written back, overwritten and taken again by a later walk of
 * the same round: what counts is the last.
 */
static _Atomic bool over;

static void *
overwrite (void *opaque)
{
  unsigned char mine[PAGE], got[PAGE];
  unsigned i, version, *wrong = opaque;

  for (version = 1; !over; version++)
    for (i = 0; i < 40; i++) {
      make_random (mine, i, version);
      if (zram_write (store, mine, PAGE, i * PAGE) == -1)
        abort ();
      sched_yield ();
      if (zram_read (store, got, PAGE, i * PAGE) == -1)
        abort ();
      *wrong += memcmp (mine, got, PAGE) != 0;
    }
  return NULL;
}

START_TEST (test_overwritten_while_gathered)
{
  unsigned i, wrong = 0;
  pthread_t thread;

  setup (32 * MIB);
  memset (page, 'x', PAGE);     /* makes walks longer */
  for (i = 0; i < 100000; i++)
    ck_assert_int_eq (zram_write (store, page, PAGE, (1000 + i) * PAGE), 0);
  over = false;
  ck_assert_int_eq (pthread_create (&thread, NULL, overwrite, &wrong), 0);
  for (i = 0; i < 300; i++)
    writeback_wait (&memory->writeback);
  over = true;
  pthread_join (thread, NULL);
  ck_assert_uint_eq (wrong, 0);
  teardown ();
}
END_TEST

/* The same, if a policy chose it first: of as many clusters as there are
 * levels, the first four.
 */
START_TEST (test_overwritten_since_chosen)
{
  const unsigned nr = SMQ_LEVELS * GROUP_PAGES_MAX;
  struct writeback_work *work;
  struct tier *tier;
  unsigned i;

  policy = ZRAM_POLICY_SMQ;
  setup (LARGE);                /* a segment has room for all of them */
  work = memory->writeback.work;
  tier = memory->tiers.order[0];
  for (i = 0; i < nr; i++)
    ck_assert_int_eq (write_page (i, 0), 0);
  pthread_mutex_lock (&memory->lock);
  while (slot_age (slot_peek (slots_find (&store->slots, 0))) < 3)
    aging_hurry (store, false);
  writeback_clear (work, tier->segment_size);
  policy_gather (memory, work);
  pthread_mutex_unlock (&memory->lock);
  ck_assert_uint_eq (work->nr, 4 * GROUP_PAGES_MAX);
  ck_assert_int_eq (write_page (7, 1), 0);
  work->walk.age = 0;           /* it has come so far */
  gather_oldest (memory, false);
  ck_assert_uint_gt (work->nr, 4 * GROUP_PAGES_MAX);
  ck_assert_uint_eq (work->entries[4 * GROUP_PAGES_MAX].page, 7);
  ck_assert (publish_segment (memory, tier,
                              tier_open_segment (&memory->tiers, tier, 0)));
  for (i = 0; i < nr; i++)
    check_page (i, i == 7);
  teardown ();
}
END_TEST

/* Whatever is in RAM is read whenever a segment is written: writers find room
 * all the same, and not more than every other segment is written in vain.
 */
static unsigned nr_written;

static void
read_what_is_in_ram (void)
{
  unsigned i;

  storage.on_write = read_what_is_in_ram;
  for (i = 0; i < nr_written; i++)
    if (!is_on_tier (i))
      check_page (i, 0);
}

START_TEST (test_all_is_read)
{
  unsigned char data[PAGE];
  struct zram_memory_stats m;

  for (policy = 0; policy < ZRAM_NR_POLICIES; policy++) {
    setup (64 * MIB);
    storage.on_write = read_what_is_in_ram;
    for (nr_written = 0; nr_written < NR; nr_written++) {
      make_random (data, nr_written, 0);
      ck_assert_int_eq (zram_write (store, data, PAGE,
                                    (uint64_t) nr_written * PAGE), 0);
    }
    storage.on_write = NULL;
    zram_memory_stats (memory, &m);
    ck_assert_uint_gt (m.tiers[0].bytes_in, 2 * MIB);
    ck_assert_uint_le (m.tiers[0].bytes_written,
                       m.tiers[0].bytes_in / 10 * 22);
    check_all (0);
    teardown ();
  }
}
END_TEST

/* A store of which so many pages have come back to RAM. */
#define NR_HOT 100
static unsigned hot[NR_HOT];

static void
setup_hot (void)
{
  unsigned i, nr = 0;

  setup (32 * MIB);
  write_all (0);
  ck_assert_int_eq (zram_trim (store, 500 * PAGE, (NR - 500) * PAGE), 0);
  ck_assert (zram_memory_settle (memory));
  for (i = 0; nr < NR_HOT; i++)
    if (is_on_tier (i)) {
      check_page (i, 0);
      check_page (i, 0);
      ck_assert (!is_on_tier (i));
      hot[nr++] = i;
    }
  ck_assert_uint_eq (memory->tiers.order[0]->copies, NR_HOT);
}

/* What has come back does not leave for a copy that is lost. */
START_TEST (test_copies_are_lost)
{
  unsigned i;

  for (policy = 0; policy < ZRAM_NR_POLICIES; policy++) {
    setup_hot ();
    memset (storage.bytes, 0, storage.size);
    i = one_on_tier ();
    ck_assert_errno (zram_read (store, back, PAGE, i * PAGE) == -1, EIO);
    for (i = NR; i < 2 * NR; i++)
      ck_assert_int_eq (write_page (i, 0), 0);
    for (i = 0; i < NR_HOT; i++)
      check_page (hot[i], 0);
    for (i = NR; i < 2 * NR; i++)
      check_page (i, 0);
    /* The validator would read what is lost. */
    ck_assert_int_eq (zram_zero (store, NR * PAGE, 0), 0);
    teardown ();
  }
}
END_TEST

/* Nor where that happens between a look and a write, and what is written then
 * is sound and would be looked at next.
 */
static bool was_in_ram[NR_HOT];

static void
lose_all (void)
{
  struct tier *tier = memory->tiers.order[0];
  unsigned i;

  memset (storage.bytes, 0, storage.size);
  for (i = 1; tier->segments[i].state != SEGMENT_OPEN; i++)
    ;
  tier->looked = i - 1;
  for (i = 0; i < NR_HOT; i++)
    was_in_ram[i] = !is_on_tier (hot[i]);
}

START_TEST (test_copies_are_lost_between)
{
  unsigned i, nr;

  for (policy = 0; policy < ZRAM_NR_POLICIES; policy++) {
    setup_hot ();
    storage.on_write = lose_all;
    for (i = NR; i < 2 * NR; i++)
      ck_assert_int_eq (write_page (i, 0), 0);
    ck_assert_ptr_null (storage.on_write);
    for (i = nr = 0; i < NR_HOT; i++)
      if (was_in_ram[i]) {
        check_page (hot[i], 0);
        nr++;
      }
    ck_assert_uint_ge (nr, NR_HOT / 2);
    ck_assert_int_eq (zram_zero (store, NR * PAGE, 0), 0);
    ck_assert_int_eq (zram_zero (store, NR * PAGE, NR * PAGE), 0);
    teardown ();
  }
}
END_TEST

/* A cluster of which nothing is old enough has not left. */
START_TEST (test_policy_keeps_the_young)
{
  struct smq *smq;
  const uint32_t nr = 64;
  unsigned i;

  policy = ZRAM_POLICY_SMQ;
  setup (4 * MIB);
  smq = &store->policy.smq;
  for (i = 0; i < nr * GROUP_PAGES_MAX; i++)
    ck_assert_int_eq (write_page (i, 0), 0);
  pthread_mutex_lock (&memory->lock);
  while (smq->ram.nr < nr)
    aging_hurry (store, false);
  writeback_clear (memory->writeback.work, memory->writeback.work->size);
  policy_gather (memory, memory->writeback.work);
  ck_assert_uint_eq (memory->writeback.work->nr, 0);
  ck_assert_uint_eq (smq->hotspot.nr, 0);
  ck_assert_uint_eq (smq->ram.nr, nr - 4);      /* they were asked for */
  while (smq->ram.nr < nr)
    aging_hurry (store, false);
  ck_assert_uint_eq (smq->ram.nr, nr);
  pthread_mutex_unlock (&memory->lock);
  teardown ();
}
END_TEST

/* What is beside many pages that are used comes back when it is read, and what
 * is beside one does not.
 */
START_TEST (test_policy_brings_back)
{
  struct zram_move out = {
    .from = ZRAM_LEVEL_RAM, .to = ZRAM_LEVEL_TIERS, .count = 32 * PAGE,
  };
  uint64_t moved;
  unsigned i, round;

  policy = ZRAM_POLICY_SMQ;
  setup (4 * MIB);
  for (i = 0; i < 32; i++)
    ck_assert_int_eq (write_page (i, 0), 0);
  ck_assert_int_eq (zram_move (store, &out, &moved), 0);
  ck_assert_uint_eq (moved, 32);
  for (round = 0; round < 8; round++) {
    check_page (3, 0);
    for (i = 16; i < 24; i++)
      check_page (i, 0);
    pthread_mutex_lock (&memory->lock);
    while (!aging_hurry (store, false))
      ;
    pthread_mutex_unlock (&memory->lock);
  }
  check_page (4, 0);
  ck_assert (is_on_tier (4));
  check_page (24, 0);
  ck_assert (!is_on_tier (24));
  teardown ();
}
END_TEST

/* Time goes by once for all stores, or for none. */
START_TEST (test_time_of_two_stores)
{
  struct zram_codec codec = { ZRAM_ALGORITHM_LZ4, 1 };
  struct zram_store *other;
  epoch_token *token;

  setup (32 * MIB);
  memory->limit.max += 4 * MIB;
  other = zram_open (memory, UINT64_C (1) << 20, &codec);
  ck_assert_ptr_nonnull (other);
  ck_assert_int_eq (write_page (0, 0), 0);
  ck_assert_int_eq (zram_write (other, page, PAGE, 0), 0);
  pthread_mutex_lock (&memory->lock);
  turnover_add (memory, 1000);
  turnover_pass_time (memory);
  ck_assert_uint_eq (memory->turnover.era, 1);
  turnover_add (memory, 1000);
  while (memory->turnover.era == 1) {
    token = epoch_enter (&memory->table.epoch);
    turnover_pass_time (memory);
    epoch_leave (token);
  }
  pthread_mutex_unlock (&memory->lock);
  ck_assert_uint_eq (slot_age (slot_peek (slots_find (&store->slots, 0))), 2);
  ck_assert_uint_eq (slot_age (slot_peek (slots_find (&other->slots, 0))), 2);
  zram_close (other);
  teardown ();
}
END_TEST

/* Where a tier is slow to answer, what is around a record is read too; but not
 * at the cost of the limit.
 */
START_TEST (test_no_room_to_widen)
{
  struct tier *tier;

  setup (32 * MIB);
  write_all (0);
  tier = memory->tiers.order[0];
  tier->byte_ps = 1;
  memory->limit.max = limit_resident (&memory->limit) + MIB;
  tier->read_ns = CLOCK_SECOND / 100;
  check_page (one_on_tier (), 0);
  ck_assert (!memory->tiers.buffers.wide);
  memory->limit.max += MIB;
  tier->read_ns = CLOCK_SECOND / 100;
  check_page (one_on_tier (), 0);
  ck_assert (memory->tiers.buffers.wide);
  check_all (0);
  teardown ();
}
END_TEST

/* For smq, one walk in three makes pages older that were not used just before
 * it; the others put off none.
 */
START_TEST (test_time_of_smq)
{
  static const unsigned ages[] = { 1, 1, 1, 2, 2, 2, 3 };
  uint64_t next = 0;
  unsigned i;

  policy = ZRAM_POLICY_SMQ;
  setup (32 * MIB);
  ck_assert_int_eq (write_page (0, 0), 0);
  pthread_mutex_lock (&memory->lock);
  for (i = 0; i < sizeof ages / sizeof ages[0]; i++) {
    turnover_add (memory, 1000);
    while (memory->turnover.walks == i)
      turnover_pass_time (memory);
    ck_assert_uint_eq (slot_age (slot_peek (slots_find (&store->slots, 0))),
                       ages[i]);
    ck_assert ((store->aging.next == next) == (i % 3 != 0));
    next = store->aging.next;
  }
  pthread_mutex_unlock (&memory->lock);
  teardown ();
}
END_TEST

/* When no tier has room only copies are looked for, and a policy does not
 * take that for all having left.
 */
START_TEST (test_policy_without_room)
{
  unsigned i;
  uint32_t nr;

  policy = ZRAM_POLICY_SMQ;
  setup (4 * MIB);
  for (i = 0; i < 1000; i++)
    ck_assert_int_eq (write_page (i, 0), 0);
  pthread_mutex_lock (&memory->lock);
  while (store->policy.smq.ram.nr == 0)
    aging_hurry (store, false);
  pthread_mutex_unlock (&memory->lock);
  nr = store->policy.smq.ram.nr;
  writeback_clear (memory->writeback.work, memory->writeback.work->size);
  gather_oldest (memory, true);
  ck_assert_uint_eq (store->policy.smq.ram.nr, nr);
  teardown ();
}
END_TEST

/* Several threads, the background threads, and a storage that fails now
 * and then.  Each has its own part.
 */
static void
run_threads (unsigned chance)
{
  struct zram_recompress recompress = {
    .codec = { ZRAM_ALGORITHM_ZSTD, 3 }, .age = 1, .group = 16,
  };
  pthread_t threads[4];
  uintptr_t i;

  setup_with (64 * MIB, &recompress);
  memory->limit.max = limit_resident (&memory->limit) + 2 * MIB;
  storage.chance = chance;
  ck_assert_int_eq (zram_memory_start (memory), 0);
  for (i = 0; i < 4; i++)
    ck_assert_int_eq (pthread_create (&threads[i], NULL, run_thread,
                                      (void *) i), 0);
  for (i = 0; i < 4; i++)
    pthread_join (threads[i], NULL);
  zram_memory_stop (memory);
  ck_assert_uint_gt (stats ().bd_writes, 0);
  teardown ();
}

START_TEST (test_threads)
{
  run_threads (0);
}
END_TEST

START_TEST (test_threads_and_faults)
{
  run_threads (3);
}
END_TEST

/* Up or down; what there is no room for stays. */
static void
move_some (struct rng *rng)
{
  bool up = rng_below (rng, 2);
  struct zram_move move = {
    .from = up ? ZRAM_LEVEL_TIERS : ZRAM_LEVEL_RAM,
    .to = up ? ZRAM_LEVEL_RAM : ZRAM_LEVEL_TIERS,
    .pages = rng_below (rng, ZRAM_NR_PAGES),
    .offset = rng_below (rng, 1000) * PAGE,
    .count = rng_below (rng, 1000) * PAGE,
    .limit = rng_below (rng, 400),
  };
  uint64_t moved;

  if (zram_move (store, &move, &moved) == -1)
    ck_assert (errno == ENOSPC || errno == EIO);
  ck_assert (move.limit == 0 || moved <= move.limit);
}

/* Random operations of one thread, and the validator after each. */
#define STEPS 2000

static uint64_t
nr_read_errors (void)
{
  struct zram_memory_stats m;
  uint64_t n = 0;
  unsigned i;

  zram_memory_stats (memory, &m);
  for (i = 0; i < m.nr_tiers; i++)
    n += m.tiers[i].read_errors;
  return n;
}

/* The validator, which takes what it reads wrongly for a fault. */
static void
check_memory (void)
{
  unsigned chance = storage.read_chance;

  storage.read_chance = second.read_chance = 0;
  model_check_memory (memory);
  storage.read_chance = second.read_chance = chance;
}

/* The number of the second tier, or -1. */
static int
second_number (void)
{
  struct zram_memory_stats m;

  zram_memory_stats (memory, &m);
  return m.nr_tiers > 1 ? (int) m.tiers[1].number : -1;
}

/* There is none. */
static void
forget_second (void)
{
  ck_assert_int_eq (second_number (), -1);
  ck_assert_uint_eq (second.closed, 1);
  storage_destroy (&second);
  second = (struct storage) { 0 };
}

/* What fails as often as the first one, if there is memory for it. */
static void
add_second (uint64_t size)
{
  struct zram_tier tier = storage_init (&second, size);

  second.chance = storage.chance;
  second.read_chance = storage.read_chance;
  if (zram_add_tier (memory, &tier) == 0)
    return;
  ck_assert_int_eq (errno, ENOSPC);
  forget_second ();
}

static unsigned nr_removed;

/* Whatever has no room elsewhere, or cannot be read, stays there. */
static void
remove_second (void)
{
  if (zram_remove_tier (memory, second_number (), NULL) == 0) {
    forget_second ();
    nr_removed++;
    return;
  }
  ck_assert (errno == ENOSPC || errno == EIO);
  ck_assert_uint_eq (second.closed, 0);
}

static void
change_second (struct rng *rng)
{
  if (second_number () == -1)
    add_second ((2 + rng_below (rng, 4)) * MIB);
  else
    remove_second ();
}

/* Pages of the first tier are read by many, and none of these reads returns:
 * the other tier can be read all the same.
 */
#define NR_STUCK 40

static _Atomic unsigned nr_stuck;
static _Atomic bool stuck;

static void
get_stuck (size_t count)
{
  (void) count;
  atomic_fetch_add (&nr_stuck, 1);
  while (stuck)
    usleep (1000);
}

static void *
read_stuck (void *opaque)
{
  unsigned char data[PAGE];

  ck_assert_int_eq (zram_read (store, data, PAGE, (uintptr_t) opaque * PAGE),
                    0);
  return NULL;
}

START_TEST (test_one_hangs)
{
  struct zram_move down = {
    .from = ZRAM_LEVEL_RAM, .to = 0, .count = NR_STUCK * PAGE,
  };
  pthread_t threads[NR_STUCK];
  uint64_t moved;
  uintptr_t i;

  setup (4 * MIB);
  add_second (4 * MIB);
  for (i = 0; i < NR_STUCK + 10; i++)
    ck_assert_int_eq (write_page (i, 0), 0);
  ck_assert_int_eq (zram_move (store, &down, &moved), 0);
  ck_assert_uint_eq (moved, NR_STUCK);
  down.to = second_number ();
  down.offset = down.count;
  down.count = 10 * PAGE;
  ck_assert_int_eq (zram_move (store, &down, &moved), 0);
  ck_assert_uint_eq (moved, 10);

  stuck = true;
  storage.on_read = get_stuck;
  for (i = 0; i < NR_STUCK; i++)
    ck_assert_int_eq (pthread_create (&threads[i], NULL, read_stuck,
                                      (void *) i), 0);
  while (nr_stuck < 16)
    usleep (1000);
  for (i = NR_STUCK; i < NR_STUCK + 10; i++)
    check_page (i, 0);
  ck_assert_uint_eq (nr_stuck, 16);
  stuck = false;
  for (i = 0; i < NR_STUCK; i++)
    pthread_join (threads[i], NULL);
  storage.on_read = NULL;
  teardown ();
  storage_destroy (&second);
}
END_TEST

/* Who makes a dictionary may have to wait for memory: not so that a writer at
 * the limit waits for him.
 */
START_TEST (test_training_is_not_waited_for)
{
  setup (32 * MIB);
  pthread_mutex_lock (&memory->training);
  write_all (0);
  ck_assert_uint_gt (stats ().bd_count, 0);
  pthread_mutex_unlock (&memory->training);
  check_all (0);
  teardown ();
}
END_TEST

/* With a tier of large segments below or, if it comes first, one of small
 * segments, which comes and goes.  One of CHANCE writes fails, and one of
 * READ_CHANCE reads.
 */
static void
run_model (uint64_t tier_size, uint64_t second_size, unsigned chance,
           unsigned read_chance, uint64_t seed)
{
  struct zram_recompress recompress = {
    .codec = { ZRAM_ALGORITHM_ZSTD, 3 }, .age = 3600, .group = 16,
  };
  struct rng rng = { seed };
  struct model model;
  unsigned step, steps = model_steps (STEPS);

  setup_with (tier_size, &recompress);
  if (tier_size == LARGE)
    leave_segments (0, 3);
  storage.chance = chance;
  storage.read_chance = read_chance;
  second = (struct storage) { 0 };
  if (second_size)
    add_second (second_size);
  memory->limit.max = limit_resident (&memory->limit) + MIB;
  model_init (&model, store, 0, 1200 * PAGE + 77);
  model.may_fill_up = true;
  model.may_fail_reads = read_chance > 0;
  for (step = 0; step < steps; step++) {
    model_step (&model, &rng, true);
    if (rng_below (&rng, 20) == 0)
      zram_mark_idle (store, 0);
    if (rng_below (&rng, 20) == 0)
      ck_assert (zram_memory_settle (memory));
    if (rng_below (&rng, 20) == 0)
      move_some (&rng);
    if (second_size && rng_below (&rng, 50) == 0)
      change_second (&rng);
    check_memory ();
  }
  storage.read_chance = second.read_chance = 0;
  model_verify (&model);
  ck_assert_uint_gt (stats ().bd_writes, 0);
  ck_assert (read_chance == 0 || nr_read_errors () > 0);
  model_destroy (&model);
  teardown ();
  storage_destroy (&second);
}

START_TEST (test_model)
{
  static const struct zram_codec codecs[] = {
    { ZRAM_ALGORITHM_LZ4, 1 }, { ZRAM_ALGORITHM_ZSTD, 1 },
    { ZRAM_ALGORITHM_ZSTD, 3 },
  };
  unsigned p;

  for (p = 0; p < ZRAM_NR_POLICIES; p++) {
    policy = p;
    store_codec = codecs[p % 3];
    run_model (32 * MIB, 0, 0, 0, 8 * p + 1);
    run_model (4 * MIB, 0, 0, 0, 8 * p + 2);
    run_model (32 * MIB, 0, 3, 0, 8 * p + 3);
    run_model (4 * MIB, 0, 2, 0, 8 * p + 4);
    run_model (3 * MIB, LARGE, 0, 0, 8 * p + 5);
    run_model (LARGE, 3 * MIB, 5, 0, 8 * p + 6);
    run_model (4 * MIB, 0, 0, 10, 8 * p + 7);
    run_model (LARGE, 3 * MIB, 5, 10, 8 * p + 8);
  }
  ck_assert_uint_gt (nr_removed, 0);
}
END_TEST

UNIT_MAIN ("tier", test_more_than_memory, test_sizes, test_segments_come_back,
           test_second_read_brings_back, test_parts, test_full,
           test_second_tier, test_write_errors, test_bad_part,
           test_one_of_two_fails, test_read_errors,
           test_damaged_byte, test_lost, test_earlier_life,
           test_reader_holds_segments, test_turns, test_clean_past_damage,
           test_groups_on_a_tier,
           test_bad_tiers, test_file_of_others,
           test_file_of_others_at_its_end, test_file,
           test_overwritten_while_gathered, test_overwritten_since_chosen,
           test_all_is_read, test_copies_are_lost,
           test_copies_are_lost_between,
           test_policy_keeps_the_young, test_policy_brings_back,
           test_time_of_two_stores, test_time_of_smq,
           test_no_room_to_widen,
           test_policy_without_room,
           test_one_hangs, test_training_is_not_waited_for,
           test_threads,
           test_threads_and_faults, test_model)
