/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Pages that are moved by hand, clean copies of them, and tiers that come
 * and go.
 */

#include "unit.h"

#include <pthread.h>
#include <unistd.h>

#include "model.h"
#include "pages.h"
#include "tiered.h"
#include "writeback-work.h"

#define NR_TEXT 1000            /* pages that compress */

static void
make_text (unsigned i, unsigned version)
{
  struct rng rng = { i * UINT64_C (1000) + version + 7 };

  pages_fill (&rng, PAGES_TEXT, page, PAGE);
}

static void
write_text (unsigned version)
{
  unsigned i;

  for (i = 0; i < NR_TEXT; i++) {
    make_text (i, version);
    ck_assert_int_eq (zram_write (store, page, PAGE, (uint64_t) i * PAGE), 0);
  }
}

static void
check_text_page (unsigned i, unsigned version)
{
  make_text (i, version);
  ck_assert_int_eq (zram_read (store, back, PAGE, (uint64_t) i * PAGE), 0);
  ck_assert_int_eq (memcmp (back, page, PAGE), 0);
}

static void
check_text (unsigned version)
{
  unsigned i;

  for (i = 0; i < NR_TEXT; i++)
    check_text_page (i, version);
  ck_assert_uint_eq (zram_memory_check (memory, stderr), 0);
}

static uint64_t
move (int from, int to)
{
  struct zram_move move = { .from = from, .to = to };
  uint64_t moved;

  ck_assert_int_eq (zram_move (store, &move, &moved), 0);
  ck_assert_uint_eq (zram_memory_check (memory, stderr), 0);
  return moved;
}

static void
move_fails (int from, int to, int err)
{
  struct zram_move move = { .from = from, .to = to };
  uint64_t moved;

  ck_assert_errno (zram_move (store, &move, &moved) == -1, err);
  ck_assert_uint_eq (zram_memory_check (memory, stderr), 0);
}

static struct zram_tier_stats
tier_stats_of (unsigned i)
{
  struct zram_memory_stats m;

  zram_memory_stats (memory, &m);
  ck_assert_uint_lt (i, m.nr_tiers);
  return m.tiers[i];
}

static enum slot_state
state_of (unsigned i)
{
  return slot_state (slot_peek (slots_find (&store->slots, i)));
}

START_TEST (test_down_and_up)
{
  setup (32 * MIB);
  write_text (0);
  ck_assert_uint_eq (move (ZRAM_LEVEL_RAM, ZRAM_LEVEL_TIERS), NR_TEXT);
  ck_assert_uint_eq (stats ().bd_count, NR_TEXT);
  ck_assert_uint_eq (pool_used (&memory->pool), 0);
  check_text (0);
  ck_assert_uint_eq (move (ZRAM_LEVEL_TIERS, ZRAM_LEVEL_RAM), NR_TEXT);
  ck_assert_uint_eq (stats ().bd_count, 0);
  check_text (0);
  ck_assert_uint_eq (move (0, ZRAM_LEVEL_RAM), 0);
  teardown ();
}
END_TEST

/* A page that comes back leaves its record, and needs not be written to go
 * there again.
 */
START_TEST (test_clean_copies)
{
  uint64_t written;

  setup (32 * MIB);
  write_text (0);
  move (ZRAM_LEVEL_RAM, 0);
  written = tier_stats_of (0).bytes_written;
  ck_assert_uint_gt (written, 0);
  check_text_page (5, 0);
  ck_assert_int_eq (state_of (5), SLOT_TIER);
  check_text_page (5, 0);
  ck_assert_int_eq (state_of (5), SLOT_CLEAN);
  ck_assert_uint_eq (tier_stats_of (0).clean_pages, 1);
  ck_assert_uint_eq (tier_stats_of (0).pages, NR_TEXT - 1);
  ck_assert_uint_eq (zram_memory_check (memory, stderr), 0);

  ck_assert_uint_eq (move (ZRAM_LEVEL_TIERS, ZRAM_LEVEL_RAM), NR_TEXT - 1);
  ck_assert_uint_eq (tier_stats_of (0).clean_pages, NR_TEXT);
  check_text (0);
  ck_assert_uint_eq (move (ZRAM_LEVEL_RAM, 0), NR_TEXT);
  ck_assert_uint_eq (tier_stats_of (0).bytes_written, written);
  ck_assert_uint_eq (tier_stats_of (0).clean_pages, 0);
  check_text (0);

  /* What is written does not have it any more, in whole or in part. */
  move (ZRAM_LEVEL_TIERS, ZRAM_LEVEL_RAM);
  make_text (7, 1);
  ck_assert_int_eq (zram_write (store, page, PAGE, 7 * PAGE), 0);
  make_text (8, 1);
  ck_assert_int_eq (zram_write (store, page, 100, 8 * PAGE), 0);
  ck_assert_int_eq (zram_trim (store, PAGE, 9 * PAGE), 0);
  ck_assert_int_eq (state_of (7), SLOT_RAM);
  ck_assert_int_eq (state_of (8), SLOT_RAM);
  ck_assert_uint_eq (tier_stats_of (0).clean_pages, NR_TEXT - 3);
  ck_assert_uint_eq (zram_memory_check (memory, stderr), 0);
  check_text_page (7, 1);
  write_text (2);
  ck_assert_uint_eq (tier_stats_of (0).clean_pages, 0);
  check_text (2);
  teardown ();
}
END_TEST

/* So do huge pages, though with the copy's name they take more than a page;
 * and where the allocator has nothing of that size they leave their record.
 */
START_TEST (test_clean_copies_of_huge_pages)
{
  uint64_t written, room;
  unsigned i;

  setup (32 * MIB);
  for (i = 0; i < 600; i++)
    ck_assert_int_eq (write_page (i, 0), 0);
  move (ZRAM_LEVEL_RAM, 0);
  written = tier_stats_of (0).bytes_written;
  ck_assert_uint_eq (move (0, ZRAM_LEVEL_RAM), 600);
  ck_assert_uint_eq (tier_stats_of (0).clean_pages, 600);
  ck_assert_int_eq (state_of (5), SLOT_CLEAN);
  ck_assert_uint_eq (stats ().huge_pages, 600);
  room = pool_used (&memory->pool);
  ck_assert_uint_le (room, 600 * UINT64_C (4370) + 16 * PAGE);
  for (i = 0; i < 600; i++)
    check_page (i, 0);

  ck_assert_int_eq (write_page (7, 1), 0);
  ck_assert_int_eq (zram_trim (store, PAGE, 9 * PAGE), 0);
  ck_assert_uint_eq (tier_stats_of (0).clean_pages, 598);
  ck_assert_int_eq (zram_trim (store, PAGE, 7 * PAGE), 0);
  ck_assert_uint_eq (move (ZRAM_LEVEL_RAM, 0), 598);
  ck_assert_uint_eq (tier_stats_of (0).bytes_written, written);
  ck_assert_uint_eq (pool_used (&memory->pool), 0);
  for (i = 0; i < 600; i++)
    if (i != 7 && i != 9)
      check_page (i, 0);
  teardown ();

  allocator = ZRAM_ALLOCATOR_ZBUD;
  setup (32 * MIB);
  ck_assert_int_eq (write_page (5, 0), 0);
  move (ZRAM_LEVEL_RAM, 0);
  ck_assert_uint_eq (move (0, ZRAM_LEVEL_RAM), 1);
  ck_assert_int_eq (state_of (5), SLOT_RAM);
  ck_assert_uint_eq (tier_stats_of (0).clean_pages, 0);
  check_page (5, 0);
  teardown ();
}
END_TEST

/* Groups are taken apart by the pages that come back; their record stays
 * the copy of each.
 */
START_TEST (test_clean_copies_of_groups)
{
  struct zram_recompress recompress = {
    .codec = { ZRAM_ALGORITHM_ZSTD, 3 }, .age = 3600, .group = 16,
  };
  uint64_t written;

  setup_with (32 * MIB, &recompress);
  write_text (0);
  zram_mark_idle (store, 0);
  ck_assert (zram_memory_settle (memory));
  ck_assert_uint_eq (stats ().grouped_pages, NR_TEXT);
  move (ZRAM_LEVEL_RAM, 0);
  written = tier_stats_of (0).bytes_written;
  ck_assert_int_eq (state_of (5), SLOT_TIER_GROUP);
  move (0, ZRAM_LEVEL_RAM);
  ck_assert_int_eq (state_of (5), SLOT_CLEAN);
  check_text (0);
  move (ZRAM_LEVEL_RAM, 0);
  ck_assert_int_eq (state_of (5), SLOT_TIER_GROUP);
  ck_assert_uint_eq (tier_stats_of (0).bytes_written, written);
  check_text (0);
  teardown ();
}
END_TEST

/* All text in groups on the tier; where the record of page I's begins there,
 * and how long it is.
 */
static uint64_t
group_on_tier (unsigned i, size_t *size)
{
  struct zram_recompress recompress = {
    .codec = { ZRAM_ALGORITHM_ZSTD, 3 }, .age = 3600, .group = 16,
  };
  uint64_t word;

  setup_with (32 * MIB, &recompress);
  write_text (0);
  zram_mark_idle (store, 0);
  ck_assert (zram_memory_settle (memory));
  move (ZRAM_LEVEL_RAM, 0);
  word = slot_peek (slots_find (&store->slots, i));
  ck_assert_int_eq (slot_state (word), SLOT_TIER_GROUP);
  *size = tier_length_bytes (SLOT_TIER_GROUP, slot_tier_length (word));
  return segment_of (i) + slot_tier_offset (word);
}

/* One byte that changed costs nothing, wherever in a group it is: the header,
 * the pages, what lies behind them, the parity.  Nor do all of a row.
 */
START_TEST (test_damaged_byte_of_group)
{
  uint64_t corrected = 0, at;
  size_t size, i;

  at = group_on_tier (37, &size);
  ck_assert_uint_gt (size, 1000);
  for (i = 0; i < size; i += i < 64 ? 1 : 61) {
    storage.bytes[at + i] ^= 64;
    zram_mark_idle (store, 0);  /* so that it does not come back */
    check_text_page (37, 0);
    storage.bytes[at + i] ^= 64;
    corrected += i < size - 64; /* nothing wants the parity then */
  }
  /* (Padding and parity are not covered by the checksum.) */
  ck_assert_uint_le (tier_stats_of (0).corrected_errors, corrected);
  ck_assert_uint_ge (tier_stats_of (0).corrected_errors, corrected - 2);
  for (i = 0; i < 64; i++)
    storage.bytes[at + 128 + i] ^= 1 + i;
  check_text (0);
  ck_assert_uint_eq (tier_stats_of (0).read_errors, 0);
  teardown ();
}
END_TEST

/* More than that costs the group that it is in, and no other. */
START_TEST (test_damaged_group)
{
  uint64_t at;
  size_t size;
  unsigned i;

  at = group_on_tier (37, &size);
  storage.bytes[at + 127] ^= 64;
  storage.bytes[at + 128] ^= 64;
  for (i = 0; i < NR_TEXT; i++)
    if (i / 16 == 37 / 16)
      ck_assert_errno (zram_read (store, back, PAGE, (uint64_t) i * PAGE)
                       == -1, EIO);
    else
      check_text_page (i, 0);
  ck_assert_uint_eq (tier_stats_of (0).corrected_errors, 0);
  storage.bytes[at + 127] ^= 64;
  storage.bytes[at + 128] ^= 64;
  check_text (0);
  teardown ();
}
END_TEST

/* As if it had been tried in vain to group it. */
static void
settle_page (unsigned i)
{
  slot *s = slots_find (&store->slots, i);
  uint64_t word = slot_peek (s);

  ck_assert_int_eq (slot_state (word), SLOT_RAM);
  ck_assert (slot_try_change (s, word, word | SLOT_SETTLED));
}

START_TEST (test_which_pages)
{
  struct zram_move move = { ZRAM_LEVEL_RAM, ZRAM_LEVEL_TIERS };
  uint64_t moved;
  unsigned i;

  setup (32 * MIB);
  write_text (0);
  for (i = 0; i < 100; i++)
    ck_assert_int_eq (write_page (NR_TEXT + i, 0), 0);
  move.pages = ZRAM_PAGES_HUGE_IDLE;
  ck_assert_int_eq (zram_move (store, &move, &moved), 0);
  ck_assert_uint_eq (moved, 0);
  move.pages = ZRAM_PAGES_HUGE;
  move.limit = 30;
  ck_assert_int_eq (zram_move (store, &move, &moved), 0);
  ck_assert_uint_eq (moved, 30);
  move.limit = 0;
  move.pages = ZRAM_PAGES_INCOMPRESSIBLE;
  for (i = 20; i < 25; i++)
    settle_page (i);
  ck_assert_int_eq (zram_move (store, &move, &moved), 0);
  ck_assert_uint_eq (moved, 70 + 5);
  ck_assert (!is_on_tier (19) && is_on_tier (20) && is_on_tier (24));
  ck_assert_uint_eq (stats ().huge_pages, 0);
  move.pages = ZRAM_PAGES_IDLE;
  ck_assert_int_eq (zram_move (store, &move, &moved), 0);
  ck_assert_uint_eq (moved, 0);
  zram_mark_idle (store, 0);
  check_text_page (3, 0);
  move.offset = PAGE;
  move.count = 10 * PAGE;
  ck_assert_int_eq (zram_move (store, &move, &moved), 0);
  ck_assert_uint_eq (moved, 9);
  ck_assert (!is_on_tier (0) && is_on_tier (1) && !is_on_tier (3)
             && is_on_tier (10) && !is_on_tier (11));
  check_text (0);
  teardown ();
}
END_TEST

START_TEST (test_bad_moves)
{
  struct zram_move move = { ZRAM_LEVEL_RAM, 1 };
  uint64_t moved = 1;

  setup (32 * MIB);
  ck_assert_errno (zram_move (store, &move, &moved) == -1, EINVAL);
  ck_assert_uint_eq (moved, 0);
  move.to = ZRAM_LEVEL_RAM;
  ck_assert_errno (zram_move (store, &move, &moved) == -1, EINVAL);
  move.from = -3;
  ck_assert_errno (zram_move (store, &move, &moved) == -1, EINVAL);
  move.from = 0;
  move.offset = store->size;
  ck_assert_errno (zram_move (store, &move, &moved) == -1, EINVAL);
  move.offset = PAGE;
  move.count = store->size;
  ck_assert_errno (zram_move (store, &move, &moved) == -1, EINVAL);
  move.count = UINT64_MAX;
  ck_assert_errno (zram_move (store, &move, &moved) == -1, EINVAL);
  ck_assert_errno (zram_remove_tier (memory, 1, NULL) == -1, EINVAL);
  zram_interrupt (memory);
  move.count = PAGE;
  ck_assert_errno (zram_move (store, &move, &moved) == -1, EINTR);
  teardown ();
}
END_TEST

static void
add_second (uint64_t size)
{
  struct zram_tier tier = storage_init (&second, size);

  ck_assert_int_eq (zram_add_tier (memory, &tier), 0);
}

START_TEST (test_across)
{
  struct zram_move move_some = { 0, 1, .offset = PAGE, .count = 700 * PAGE,
                                 .limit = 500 };
  struct zram_tier_stats s;
  uint64_t moved;

  setup (32 * MIB);
  add_second (32 * MIB);
  write_text (0);
  move (ZRAM_LEVEL_RAM, 0);
  check_text_page (0, 0);
  check_text_page (0, 0);       /* it has a copy, which stays */
  ck_assert_int_eq (zram_move (store, &move_some, &moved), 0);
  ck_assert_uint_eq (moved, 500);
  ck_assert_uint_eq (tier_stats_of (0).clean_pages, 1);
  ck_assert_uint_eq (tier_stats_of (0).pages, NR_TEXT - 501);
  ck_assert_uint_eq (tier_stats_of (1).pages, 500);
  ck_assert_uint_eq (move (0, 1), NR_TEXT - 501);
  s = tier_stats_of (1);
  ck_assert_uint_eq (s.pages, NR_TEXT - 1);
  /* All of it has come there, and once. */
  ck_assert_uint_le (s.bytes_in, s.bytes_written);
  ck_assert_uint_gt (s.bytes_in, s.bytes_written / 10 * 9);
  check_text (0);
  teardown ();
  storage_destroy (&second);
}
END_TEST

/* Tiers whose segments are of other sizes, either way. */
START_TEST (test_across_sizes)
{
  struct zram_tier_stats s;

  setup (32 * MIB);
  add_second (LARGE);
  leave_segments (1, 30);
  write_all (0);
  ck_assert_uint_gt (move (0, 1), 1000);
  s = tier_stats_of (1);
  ck_assert_uint_eq (s.pages, stats ().bd_count);
  /* They were filled. */
  ck_assert_uint_ge (s.pages, (s.writes - 1) * (MIB / (PAGE + 32)));
  check_all (0);
  ck_assert_uint_eq (move (1, 0), s.pages);
  ck_assert_uint_eq (tier_stats_of (0).pages, s.pages);
  check_all (0);

  /* What the one cannot take goes to the other. */
  second.fail_writes = 1000000;
  move_fails (0, 1, EIO);
  storage.fail_writes = 1000000;
  second.fail_writes = 0;
  while (tiers_retry_time (&memory->tiers))
    usleep (1000);
  write_all (1);
  ck_assert_uint_gt (tier_stats_of (1).pages, 1000);
  storage.fail_writes = 0;
  second.fail_writes = 1000000;
  write_all (2);
  second.fail_writes = 0;
  check_all (2);
  teardown ();
  storage_destroy (&second);
}
END_TEST

/* What moves on is corrected, and sound where it comes to. */
START_TEST (test_damaged_group_moves)
{
  uint64_t at;
  size_t size;

  at = group_on_tier (37, &size);
  storage.bytes[at + 200] ^= 64;
  add_second (32 * MIB);
  ck_assert_int_eq (zram_remove_tier (memory, 0, NULL), 0);
  check_text (0);
  ck_assert_uint_eq (tier_stats_of (0).corrected_errors, 0);
  teardown ();
  storage_destroy (&second);
}
END_TEST

START_TEST (test_remove)
{
  setup (32 * MIB);
  add_second (32 * MIB);
  write_all (0);
  ck_assert_uint_gt (tier_stats_of (0).pages, 1000);
  ck_assert_int_eq (zram_remove_tier (memory, 0, NULL), 0);
  ck_assert_uint_eq (storage.closed, 1);
  storage.closed = 0;
  ck_assert_uint_eq (memory->tiers.nr, 1);
  ck_assert_uint_eq (tier_stats_of (0).number, 1);
  ck_assert_uint_gt (tier_stats_of (0).pages, 1000);
  check_all (0);
  /* There is no other, and no room in RAM. */
  ck_assert_errno (zram_remove_tier (memory, 1, NULL) == -1, ENOSPC);
  check_all (0);
  write_all (1);
  check_all (1);
  ck_assert_int_eq (zram_trim (store, (NR - 1000) * PAGE, 0), 0);
  ck_assert_int_eq (zram_remove_tier (memory, 1, NULL), 0);
  ck_assert_uint_eq (second.closed, 1);
  ck_assert_uint_eq (memory->tiers.nr, 0);
  ck_assert_uint_eq (zram_memory_check (memory, stderr), 0);
  check_page (NR - 1, 1);
  storage_destroy (&second);
  storage_destroy (&storage);
  add_second (32 * MIB);
  ck_assert_uint_eq (tier_stats_of (0).number, 0);
  write_all (2);
  check_all (2);
  zram_close (store);
  zram_memory_destroy (memory);
  ck_assert_uint_eq (second.closed, 1);
  storage_destroy (&second);
}
END_TEST

/* To close a storage may take long, and nobody waits for that who may have
 * to write back.
 */
static void
expect_nobody_works (void)
{
  ck_assert_int_eq (pthread_mutex_trylock (&memory->writeback.working), 0);
  pthread_mutex_unlock (&memory->writeback.working);
}

START_TEST (test_remove_slowly)
{
  setup (32 * MIB);
  add_second (32 * MIB);
  write_all (0);
  second.on_close = expect_nobody_works;
  move (0, 1);
  ck_assert_int_eq (zram_remove_tier (memory, 1, NULL), 0);
  ck_assert_uint_eq (second.closed, 1);
  check_all (0);
  teardown ();
  storage_destroy (&second);
}
END_TEST

/* What cannot be read keeps the tier in use. */
START_TEST (test_remove_unreadable)
{
  unsigned i;

  setup (32 * MIB);
  add_second (32 * MIB);
  write_all (0);
  storage.fail_reads = 1000000;
  ck_assert_errno (zram_remove_tier (memory, 0, NULL) == -1, EIO);
  storage.fail_reads = 0;
  check_all (0);
  i = one_on_tier ();
  storage.bytes[segment_of (i) + 1000] ^= 1;
  ck_assert_errno (zram_remove_tier (memory, 0, NULL) == -1, EIO);
  ck_assert_int_eq (zram_trim (store, NR * PAGE, 0), 0);
  ck_assert_int_eq (zram_remove_tier (memory, 0, NULL), 0);
  zram_close (store);
  zram_memory_destroy (memory);
  storage_destroy (&storage);
  storage_destroy (&second);
}
END_TEST

/* An object as a writer makes it, and the word that names it. */
static uint64_t
make_object (slot *s, const unsigned char *data)
{
  unsigned codec = atomic_load (&store->codec);
  struct codec_context *context = codecs_get (memory->codecs);
  size_t size = codecs_compress (memory->codecs, context, codec, data, PAGE);
  uint64_t offset = pool_alloc (&memory->pool, size,
                                table_owner (&memory->table, s));

  ck_assert_uint_ne (offset, 0);
  memcpy (pool_object (&memory->pool, offset), context->object, size);
  codecs_put (memory->codecs, context);
  return slot_word_ram (codec, size, offset);
}

static void
walk (uint64_t slots)
{
  bool later = false;

  pthread_mutex_lock (&memory->lock);
  aging_walk (store, slots, false, &later);
  pthread_mutex_unlock (&memory->lock);
}

/* A writer has changed the slot of a page in a group, and loses its processor
 * before it leaves the group.  Meanwhile the page comes to another group, and
 * both leave RAM: it must not be looked for in the first one.
 */
START_TEST (test_stale_member)
{
  struct zram_recompress recompress = {
    .codec = { ZRAM_ALGORITHM_ZSTD, 3 }, .age = 3600, .group = 16,
  };
  struct zram_move down = { ZRAM_LEVEL_RAM, ZRAM_LEVEL_TIERS };
  const unsigned first = 512;
  uint64_t old, new, max, moved;
  slot *s;
  unsigned i;

  policy = ZRAM_POLICY_MFU;
  setup_with (40 * MIB, &recompress);
  make_text (100, 0);           /* so that a walk does not begin here */
  ck_assert_int_eq (zram_write (store, page, PAGE, 0), 0);
  for (i = first; i < first + 16; i++) {
    make_text (i, 0);
    ck_assert_int_eq (zram_write (store, page, PAGE, i * PAGE), 0);
  }
  zram_mark_idle (store, 0);
  zram_memory_settle (memory);
  s = slots_find (&store->slots, first + 3);
  old = slot_peek (s);
  ck_assert_int_eq (slot_state (old), SLOT_GROUP);

  /* The first page is young, and stays in the group; the sixth has left it,
   * and will be somebody to make another group with.
   */
  max = memory->limit.max;
  memory->limit.max = limit_resident (&memory->limit) + 65536;
  for (i = 0; i < 8; i++)
    check_text_page (first, 0);
  memory->limit.max = max;
  ck_assert_int_eq (state_of (first), SLOT_GROUP);
  make_text (first + 5, 1);
  ck_assert_int_eq (zram_write (store, page, PAGE, (first + 5) * PAGE), 0);

  store->aging.next = 0;
  store->aging.wanted = false;
  for (i = 0; i < 10 && !store->aging.walking; i++)
    walk (0);
  ck_assert (store->aging.walking);
  make_text (first + 3, 1);
  new = slot_word_aged (make_object (s, page), AGING_IDLE - 1);
  ck_assert (slot_try_change (s, old, new));
  walk (UINT64_MAX);
  ck_assert_int_eq (slot_state (slot_peek (s)), SLOT_GROUP);
  ck_assert_int_eq (zram_move (store, &down, &moved), 0);
  page_replaced (store, old, new);

  check_text_page (first + 3, 1);
  check_text_page (first + 5, 1);
  check_text_page (first + 4, 0);
  ck_assert_uint_eq (zram_memory_check (memory, stderr), 0);
  teardown ();
}
END_TEST

/* One byte of page I's record, or of the header before it. */
static void
damage (unsigned i)
{
  uint64_t word = slot_peek (slots_find (&store->slots, i));

  storage.bytes[segment_of (i) + slot_tier_offset (word) + 100] ^= 1;
}

static enum zram_extent found_extent;

static int
note_extent (void *opaque, uint64_t offset, uint64_t count,
             enum zram_extent extent)
{
  (void) opaque;
  (void) offset;
  (void) count;
  found_extent = extent;
  return 0;
}

/* With force, what cannot be read is lost, and nothing else is. */
START_TEST (test_remove_by_force)
{
  uint64_t lost = 99;
  unsigned i;

  setup (32 * MIB);
  add_second (32 * MIB);
  write_all (0);
  i = one_on_tier ();
  damage (i);
  ck_assert_errno (zram_remove_tier (memory, 0, NULL) == -1, EIO);
  ck_assert_uint_eq (stats ().lost_pages, 0);
  ck_assert_int_eq (zram_remove_tier (memory, 0, &lost), 0);
  ck_assert_uint_eq (lost, 1);
  ck_assert_uint_eq (storage.closed, 1);
  ck_assert_uint_eq (stats ().lost_pages, 1);
  ck_assert_uint_eq (stats ().same_pages, 0);
  ck_assert_uint_eq (stats ().orig_data_size, NR * PAGE);
  ck_assert_uint_eq (zram_memory_check (memory, stderr), 0);

  /* It is there, but not to be read, and not to be changed in part. */
  ck_assert_errno (zram_read (store, back, PAGE, i * PAGE) == -1, EIO);
  ck_assert_errno (zram_read (store, back, 1, i * PAGE + 9) == -1, EIO);
  ck_assert_errno (zram_write (store, back, 1, i * PAGE + 9) == -1, EIO);
  ck_assert_int_eq (zram_extents (store, PAGE, i * PAGE, note_extent, NULL),
                    0);
  ck_assert_int_eq (found_extent, ZRAM_EXTENT_DATA);
  ck_assert_int_eq (write_page (i, 0), 0);
  ck_assert_uint_eq (stats ().lost_pages, 0);
  check_all (0);
  teardown ();
  storage_destroy (&second);
}
END_TEST

/* The same of a tier that is dead. */
START_TEST (test_remove_dead)
{
  uint64_t lost, on_tier;
  unsigned i;

  setup (32 * MIB);
  write_all (0);
  on_tier = tier_stats_of (0).pages;
  ck_assert_uint_gt (on_tier, 1000);
  storage.fail_reads = UINT32_MAX;
  ck_assert_int_eq (zram_remove_tier (memory, 0, NULL), -1);
  ck_assert_uint_eq (stats ().lost_pages, 0);
  ck_assert_int_eq (zram_remove_tier (memory, 0, &lost), 0);
  ck_assert_uint_eq (lost, on_tier);
  ck_assert_uint_eq (stats ().lost_pages, lost);
  ck_assert_uint_eq (stats ().bd_count, 0);
  for (i = 0; i < NR; i++)
    lost -= zram_read (store, back, PAGE, i * PAGE) == -1;
  ck_assert_uint_eq (lost, 0);
  ck_assert_uint_eq (zram_memory_check (memory, stderr), 0);
  ck_assert_int_eq (zram_zero (store, NR * PAGE, 0), 0);
  ck_assert_uint_eq (stats ().lost_pages, 0);
  ck_assert_uint_eq (zram_memory_check (memory, stderr), 0);
  zram_close (store);
  zram_memory_destroy (memory);
  storage_destroy (&storage);
}
END_TEST

/* What can be read is not given up, room or no room. */
START_TEST (test_remove_no_room)
{
  uint64_t lost = 99;
  unsigned i;

  setup (32 * MIB);
  write_all (0);
  i = one_on_tier ();
  damage (i);
  ck_assert_errno (zram_remove_tier (memory, 0, &lost) == -1, ENOSPC);
  ck_assert_uint_eq (lost, 1);
  ck_assert_uint_eq (stats ().lost_pages, 1);
  ck_assert_int_eq (write_page (i, 0), 0);
  check_all (0);
  teardown ();
}
END_TEST

/* A write and a discard that were sent and not answered may be carried out
 * when something else was written since: not where they were meant for.
 */
START_TEST (test_late_requests)
{
  uint64_t late, used = 0;
  unsigned i;

  setup (8 * MIB);
  write_text (0);
  storage.late_writes = 1;
  move_fails (ZRAM_LEVEL_RAM, 0, EIO);
  late = storage.late;
  ck_assert_uint_ne (late, 0);
  check_text (0);
  zram_memory_settle (memory);
  ck_assert_uint_eq (tier_stats_of (0).abandoned_segments, 1);
  while (tiers_retry_time (&memory->tiers))
    usleep (1000);
  move (ZRAM_LEVEL_RAM, 0);
  memset (storage.bytes + late, 0x77, TIER_SEGMENT_MIN);
  check_text (0);

  storage.late_discards = 1;
  ck_assert_int_eq (zram_trim (store, NR_TEXT * PAGE, 0), 0);
  zram_memory_settle (memory);
  ck_assert_uint_ne (storage.late, late);
  ck_assert_uint_eq (tier_stats_of (0).abandoned_segments, 2);
  ck_assert_uint_eq (tier_stats_of (0).free_segments, 8 * 8 - 1 - 2);

  /* However full the tier gets, and whatever is bad. */
  storage.fail_writes = 3;
  for (i = 0; i < NR && write_page (i, 0) == 0; i++)
    ;
  ck_assert_uint_eq (zram_memory_check (memory, stderr), 0);
  memset (storage.bytes + late, 0x77, TIER_SEGMENT_MIN);
  memset (storage.bytes + storage.late, 0xaa, TIER_SEGMENT_MIN);
  while (i--) {
    check_page (i, 0);
    used += is_on_tier (i);
  }
  ck_assert_uint_gt (used, 1000);
  ck_assert_int_eq (zram_trim (store, NR * PAGE, 0), 0);
  ck_assert_int_eq (zram_remove_tier (memory, 0, NULL), 0);
  zram_close (store);
  zram_memory_destroy (memory);
  storage_destroy (&storage);
}
END_TEST

/* With a reserve that cannot be filled, since everything is full, nothing
 * comes back; who asks for it is told so.
 */
START_TEST (test_up_at_the_limit)
{
  struct zram_codec codec = { ZRAM_ALGORITHM_LZ4, 1 };
  struct zram_memory_config config = { .contexts = 2, .reserve = 4 * MIB };
  struct zram_tier tier = storage_init (&storage, 20 * MIB);
  struct zram_move down = {
    .from = ZRAM_LEVEL_RAM, .to = 0, .count = 100 * PAGE,
  };
  struct zram_move up = { .from = 0, .to = ZRAM_LEVEL_RAM };
  uint64_t moved;
  unsigned i;

  config.mem_limit = zram_memory_minimum (&config, &codec) + 8 * MIB;
  memory = zram_memory_create (&config);
  ck_assert_ptr_nonnull (memory);
  ck_assert_int_eq (zram_add_tier (memory, &tier), 0);
  store = zram_open (memory, UINT64_C (1) << 30, &codec);
  ck_assert_ptr_nonnull (store);
  ck_assert_int_eq (zram_memory_start (memory), 0);
  for (i = 0; i < 200; i++)
    ck_assert_int_eq (write_page (i, 0), 0);
  ck_assert_int_eq (zram_move (store, &down, &moved), 0);
  while (write_page (i, 0) == 0)
    i++;
  ck_assert_uint_gt (i, 4000);
  ck_assert (arena_is_low (&memory->pool.arena));
  ck_assert_errno (zram_move (store, &up, &moved) == -1, ENOSPC);
  zram_memory_stop (memory);
  while (i--)
    check_page (i, 0);
  teardown ();
}
END_TEST

static unsigned large_reads, held;

static void
note_read (size_t count)
{
  if (count < TIER_SEGMENT_MIN)
    return;
  large_reads++;
  if (pthread_mutex_trylock (&memory->writeback.working))
    held++;
  else
    pthread_mutex_unlock (&memory->writeback.working);
  zram_interrupt (memory);
}

/* One page, and a few pages when somebody waits, are not worth reading all of
 * a tier.
 */
START_TEST (test_across_in_steps)
{
  struct zram_move one = { .from = 0, .to = 1, .count = PAGE, .limit = 1 };
  struct zram_move last = {
    .from = 0, .to = 1, .offset = (NR - 1) * PAGE, .count = PAGE,
  };
  uint64_t moved;

  setup (32 * MIB);
  add_second (32 * MIB);
  write_all (0);
  move (ZRAM_LEVEL_RAM, 0);
  storage.reads = 0;
  ck_assert_int_eq (zram_move (store, &one, &moved), 0);
  ck_assert_uint_eq (moved, 1);
  ck_assert_uint_le (storage.reads, 2);

  storage.on_read = note_read;
  ck_assert_errno (zram_move (store, &last, &moved) == -1, EINTR);
  ck_assert_uint_le (large_reads, 4 * MIB / TIER_SEGMENT_MIN);
  ck_assert_uint_eq (held, large_reads);
  storage.on_read = NULL;
  atomic_store (&memory->interrupted, false);
  check_all (0);
  teardown ();
  storage_destroy (&second);
}
END_TEST

/* If all that is on it is in RAM as well, it need not be. */
START_TEST (test_remove_copies)
{
  setup (32 * MIB);
  write_text (0);
  move (ZRAM_LEVEL_RAM, 0);
  move (0, ZRAM_LEVEL_RAM);
  ck_assert_uint_eq (tier_stats_of (0).clean_pages, NR_TEXT);
  storage.fail_reads = 1000000;
  ck_assert_int_eq (zram_remove_tier (memory, 0, NULL), 0);
  ck_assert_uint_eq (storage.closed, 1);
  check_text (0);
  zram_close (store);
  zram_memory_destroy (memory);
  storage_destroy (&storage);
}
END_TEST

/* One comes when all is full. */
START_TEST (test_add_at_the_limit)
{
  unsigned i, n;

  setup (4 * MIB);
  for (n = 0; n < NR && write_page (n, 0) == 0; n++)
    ;
  ck_assert_uint_lt (n, NR);
  ck_assert_int_eq (zram_trim (store, 300 * PAGE, 0), 0);
  for (i = 0; write_page (NR + i, 0) == 0; i++)
    ;
  ck_assert_int_eq (zram_trim (store, 20 * PAGE, NR * PAGE), 0);
  add_second (32 * MIB);
  for (i = 0; i < NR; i++)
    ck_assert_int_eq (write_page (i, 1), 0);
  check_all (1);
  teardown ();
  storage_destroy (&second);
}
END_TEST

/* Where each read takes long its neighbours come along. */
START_TEST (test_companions)
{
  unsigned i, n = 0;

  setup (32 * MIB);
  write_text (0);
  move (ZRAM_LEVEL_RAM, 0);
  storage.delay = 2000;
  memory->tiers.order[0]->read_ns = 0;  /* not known yet */
  check_text_page (500, 0);
  ck_assert_uint_eq (stats ().bd_count, NR_TEXT);
  check_text_page (520, 0);
  for (i = 500; i < 540; i++)
    n += state_of (i) == SLOT_CLEAN;
  ck_assert_uint_gt (n, 8);
  ck_assert_uint_gt (tier_stats_of (0).read_latency.p50, 2000000);
  ck_assert_uint_ge (tier_stats_of (0).read_latency.max,
                     tier_stats_of (0).read_latency.p99);
  check_text (0);
  teardown ();
}
END_TEST

/* A tier that is full, but for its spare segment, of pages that compress.
 * Of each four of them one is left.
 */
static unsigned nr_text;

static void
fill_with_text (void)
{
  struct zram_move down = { .from = ZRAM_LEVEL_RAM, .to = 0 };
  uint64_t moved;
  unsigned i;

  nr_text = 0;
  do {
    for (i = 0; i < 500; i++, nr_text++) {
      make_text (nr_text, 0);
      ck_assert_int_eq (zram_write (store, page, PAGE,
                                    (uint64_t) nr_text * PAGE), 0);
    }
  } while (zram_move (store, &down, &moved) == 0);
  ck_assert_int_eq (errno, ENOSPC);
  for (i = 0; i < nr_text; i++)
    if (i % 4)
      ck_assert_int_eq (zram_trim (store, PAGE, (uint64_t) i * PAGE), 0);
}

static void
check_what_is_left (void)
{
  unsigned i;

  for (i = 0; i < nr_text; i += 4)
    check_text_page (i, 0);
  ck_assert_uint_eq (zram_memory_check (memory, stderr), 0);
}

/* What comes back while its segment is cleaned does not keep that in use:
 * the tier would have no segment to spare any more, and never again.
 */
static uint32_t sparsest;

static void
read_sparsest (void)
{
  unsigned i;

  for (i = 0; i < nr_text; i++)
    if (is_on_tier (i)
        && slot_segment (slot_peek (slots_find (&store->slots, i)))
           == sparsest) {
      check_text_page (i, 0);
      check_text_page (i, 0);
      ck_assert_int_eq (state_of (i), SLOT_CLEAN);
    }
}

START_TEST (test_read_while_cleaned)
{
  struct tier *tier;
  unsigned i;

  setup (8 * MIB);
  tier = memory->tiers.order[0];
  fill_with_text ();
  ck_assert_uint_eq (tier->nr_free, 1);
  sparsest = tier_to_clean (tier, 8, 0);
  ck_assert_uint_ne (sparsest, 0);
  storage.on_write = read_sparsest;
  for (i = 0; i < 20; i++)
    writeback_wait (&memory->writeback);
  ck_assert_ptr_null (storage.on_write);
  zram_memory_settle (memory);
  ck_assert_uint_gt (tier->nr_free, 0);
  check_what_is_left ();
  teardown ();
}
END_TEST

/* What is moved by hand has sparse segments cleaned, too, if there is no other
 * room.
 */
START_TEST (test_down_to_a_full_tier)
{
  struct zram_move down = { .from = ZRAM_LEVEL_RAM, .to = 0 };
  uint64_t moved, in_ram;
  unsigned i, nr;

  setup (8 * MIB);
  fill_with_text ();
  for (i = 0, nr = nr_text; i < 200; i++, nr++) {
    make_text (nr, 0);
    ck_assert_int_eq (zram_write (store, page, PAGE, (uint64_t) nr * PAGE), 0);
  }
  in_ram = stats ().orig_data_size / PAGE - stats ().bd_count;
  ck_assert_uint_ge (in_ram, 200);
  ck_assert_int_eq (zram_move (store, &down, &moved), 0);
  ck_assert_uint_ge (moved, 200);
  check_what_is_left ();
  for (i = nr_text; i < nr; i++) {
    ck_assert (is_on_tier (i));
    check_text_page (i, 0);
  }
  teardown ();
}
END_TEST

/* What moves down moves once. */
START_TEST (test_down_once)
{
  struct zram_tier_stats s;

  setup (8 * MIB);
  fill_with_text ();
  add_second (8 * MIB);
  writeback_wait (&memory->writeback);
  s = tier_stats_of (1);
  ck_assert_uint_gt (s.pages, 0);
  ck_assert_uint_gt (s.bytes_live, s.bytes_written / 10 * 9);
  check_what_is_left ();
  teardown ();
  storage_destroy (&second);
}
END_TEST

/* Pages that are overwritten while they are on their way leave room in a
 * segment that can be had by cleaning it.
 */
static void
overwrite_half (void)
{
  unsigned i;

  for (i = 0; i < NR_TEXT; i += 2) {
    make_text (i, 1);
    ck_assert_int_eq (zram_write (store, page, PAGE, (uint64_t) i * PAGE), 0);
  }
}

START_TEST (test_overwritten_on_the_way)
{
  setup (32 * MIB);
  write_text (0);
  storage.on_write = overwrite_half;
  move (ZRAM_LEVEL_RAM, 0);
  ck_assert_uint_ne (tier_to_clean (memory->tiers.order[0], 8, 0), 0);
  teardown ();
}
END_TEST

static void
make_tiny (uint32_t i)
{
  memset (page, 0, PAGE);
  memcpy (page + 100, &i, sizeof i);
  page[200] = 1;
}

/* Segments that are full of pages, and not of bytes, are as full as they can
 * be: there would be no end of cleaning them.
 */
START_TEST (test_clean_tiny)
{
  uint8_t got[PAGE];
  uint32_t nr = 0, i;

  setup (LARGE);
  leave_segments (0, 5);
  do {
    for (i = 0; i < 4000; i++, nr++) {
      make_tiny (nr);
      ck_assert_int_eq (zram_write (store, page, PAGE, (uint64_t) nr * PAGE),
                        0);
    }
    while (writeback_wait (&memory->writeback))
      ;
  } while (stats ().bd_count == nr);
  ck_assert_uint_gt (nr, 4 * WRITEBACK_ENTRIES);
  for (i = 0; i < nr; i += 4)
    ck_assert_int_eq (zram_trim (store, PAGE, (uint64_t) i * PAGE), 0);
  ck_assert (writeback_wait (&memory->writeback));
  for (i = 0; i < nr; i++)
    if (i % 4) {
      make_tiny (i);
      ck_assert_int_eq (zram_read (store, got, PAGE, (uint64_t) i * PAGE), 0);
      ck_assert_mem_eq (got, page, PAGE);
    }
  teardown ();
}
END_TEST

/* The same of groups: what has no room any more is counted, and that must not
 * come in the way of what has.
 */
START_TEST (test_clean_tiny_groups)
{
  struct zram_recompress recompress = {
    .codec = { ZRAM_ALGORITHM_ZSTD, 3 }, .age = 3600, .group = 16,
  };
  struct zram_move out = {
    .from = ZRAM_LEVEL_RAM, .to = ZRAM_LEVEL_TIERS,
  };
  const uint32_t nr = 4 * WRITEBACK_ENTRIES;
  uint8_t got[PAGE];
  uint64_t moved;
  uint32_t i;

  setup_with (LARGE, &recompress);
  for (i = 0; i < nr; i++) {
    make_tiny (i);
    ck_assert_int_eq (zram_write (store, page, PAGE, (uint64_t) i * PAGE), 0);
  }
  zram_mark_idle (store, 0);
  ck_assert (zram_memory_settle (memory));
  ck_assert_uint_eq (stats ().grouped_pages, nr);
  ck_assert_int_eq (zram_move (store, &out, &moved), 0);
  ck_assert_uint_eq (moved, nr);
  for (i = 0; i < nr; i += 64)
    ck_assert_int_eq (zram_trim (store, 16 * PAGE, (uint64_t) i * PAGE), 0);
  leave_segments (0, 1);
  ck_assert_uint_eq (tier_count_segments (memory->tiers.order[0]).free, 1);
  pthread_mutex_lock (&memory->writeback.working);
  writeback_make_room (memory);
  pthread_mutex_unlock (&memory->writeback.working);
  ck_assert_uint_gt (tier_count_segments (memory->tiers.order[0]).free, 1);
  for (i = 0; i < nr; i++)
    if (i % 64 >= 16) {
      make_tiny (i);
      ck_assert_int_eq (zram_read (store, got, PAGE, (uint64_t) i * PAGE), 0);
      ck_assert_mem_eq (got, page, PAGE);
    }
  teardown ();
}
END_TEST

/* No more than a day's in any 24 hours: what is spent comes again when it is
 * a day old, to the hour, and no more than a day's is kept.  (Time goes by for
 * whoever sets the beginning back.)
 */
static void
check_budget (struct budget *budget, unsigned hours, uint64_t left)
{
  budget->start -= hours * BUDGET_HOUR;
  ck_assert_uint_eq (budget_left (budget), left);
}

START_TEST (test_budget)
{
  struct budget budget;

  budget_init (&budget, 24 * MIB);
  check_budget (&budget, 0, 24 * MIB);
  check_budget (&budget, 1000, 24 * MIB);
  budget_spend (&budget, 4 * MIB);
  budget_spend (&budget, 1);
  check_budget (&budget, 0, 20 * MIB - 1);
  check_budget (&budget, 5, 20 * MIB - 1);
  budget_spend (&budget, 15 * MIB);
  check_budget (&budget, 19, 5 * MIB - 1);
  check_budget (&budget, 1, 9 * MIB);   /* 25 hours after the first */
  budget_spend (&budget, 9 * MIB);
  check_budget (&budget, 4, 0);
  check_budget (&budget, 1, 15 * MIB);
  budget_spend (&budget, 16 * MIB);     /* more than there was */
  check_budget (&budget, 19, 0);
  check_budget (&budget, 1, 8 * MIB);
  check_budget (&budget, 5, 24 * MIB);
}
END_TEST

/* However it is spent, and however long there was a rest before. */
START_TEST (test_budget_day)
{
  uint64_t spent[200], day, left;
  struct budget budget;
  unsigned hour, i;

  budget_init (&budget, 24 * MIB);
  for (hour = 0; hour < 200; hour++) {
    left = budget_left (&budget);
    spent[hour] = hour < 30 ? 0 : hour % 7 == 0 ? left : left / 5;
    budget_spend (&budget, spent[hour]);
    day = 0;
    for (i = 0; i <= 24 && i <= hour; i++)
      day += spent[hour - i];
    ck_assert_uint_le (day, 24 * MIB);
    ck_assert_uint_eq (budget_left (&budget), 24 * MIB - day);
    budget.start -= BUDGET_HOUR;
  }
}
END_TEST

/* A tier that must not be written is not read to be cleaned either. */
START_TEST (test_no_cleaning_for_nothing)
{
  struct budget *budget;
  unsigned reads;

  setup (8 * MIB);
  fill_with_text ();
  budget = &memory->tiers.budget;
  budget_init (budget, MIB);
  budget_spend (budget, MIB);
  reads = storage.reads;
  ck_assert (!writeback_wait (&memory->writeback));
  ck_assert_uint_eq (storage.reads, reads);
  budget_init (budget, 0);
  ck_assert (writeback_wait (&memory->writeback));
  ck_assert_uint_gt (storage.reads, reads);
  teardown ();
}
END_TEST

/* What others have freed while a writer waited in vain will do. */
static void
trim_some (void)
{
  ck_assert_int_eq (zram_trim (store, 500 * PAGE, 0), 0);
}

START_TEST (test_others_free_memory)
{
  unsigned n;

  setup (32 * MIB);
  storage.fail_writes = 1000000;
  for (n = 0; n < NR && write_page (n, 0) == 0; n++)
    ;
  ck_assert_int_eq (errno, ENOSPC);
  storage.on_write = trim_some;
  ck_assert_int_eq (write_page (n, 0), 0);
  ck_assert_ptr_null (storage.on_write);
  check_page (n, 0);
  teardown ();
}
END_TEST

START_TEST (test_writeback_limit)
{
  unsigned n;

  writeback_limit = 2 * MIB;
  setup (32 * MIB);
  for (n = 0; n < NR && write_page (n, 0) == 0; n++)
    ;
  ck_assert_int_eq (errno, ENOSPC);
  ck_assert_uint_eq (tier_stats_of (0).writes, 2 * 8);
  teardown ();
}
END_TEST

/* All that there is, while two threads do I/O. */
static void
juggle (unsigned round)
{
  struct zram_move moves[] = {
    { ZRAM_LEVEL_RAM, 0 }, { 0, 1 }, { ZRAM_LEVEL_TIERS, ZRAM_LEVEL_RAM },
    { ZRAM_LEVEL_RAM, ZRAM_LEVEL_TIERS, ZRAM_PAGES_HUGE }, { 1, 0 },
  };
  uint64_t moved;

  zram_move (store, &moves[round % 5], &moved);
  if (round % 7 == 6 && zram_remove_tier (memory, 1, NULL) == 0) {
    storage_destroy (&second);
    add_second (16 * MIB);
  }
}

START_TEST (test_juggle)
{
  struct zram_recompress recompress = {
    .codec = { ZRAM_ALGORITHM_ZSTD, 3 }, .age = 1, .group = 16,
  };
  pthread_t threads[2];
  uintptr_t i;

  setup_with (32 * MIB, &recompress);
  add_second (16 * MIB);
  memory->limit.max = limit_resident (&memory->limit) + 2 * MIB;
  ck_assert_int_eq (zram_memory_start (memory), 0);
  for (i = 0; i < 2; i++)
    ck_assert_int_eq (pthread_create (&threads[i], NULL, run_thread,
                                      (void *) i), 0);
  for (i = 0; i < 60; i++)
    juggle (i);
  for (i = 0; i < 2; i++)
    pthread_join (threads[i], NULL);
  zram_memory_stop (memory);
  ck_assert_uint_eq (zram_memory_check (memory, stderr), 0);
  teardown ();
  storage_destroy (&second);
}
END_TEST

UNIT_MAIN ("move", test_down_and_up, test_clean_copies,
           test_clean_copies_of_huge_pages,
           test_clean_copies_of_groups, test_damaged_byte_of_group,
           test_damaged_group, test_damaged_group_moves, test_budget,
           test_budget_day,
           test_which_pages, test_bad_moves,
           test_across, test_across_sizes, test_remove, test_remove_copies,
           test_add_at_the_limit,
           test_remove_slowly, test_stale_member, test_late_requests,
           test_up_at_the_limit, test_across_in_steps, test_remove_unreadable,
           test_remove_by_force, test_remove_dead, test_remove_no_room,
           test_companions,
           test_read_while_cleaned, test_down_to_a_full_tier, test_down_once,
           test_overwritten_on_the_way, test_clean_tiny,
           test_clean_tiny_groups,
           test_no_cleaning_for_nothing, test_others_free_memory,
           test_writeback_limit, test_juggle)
