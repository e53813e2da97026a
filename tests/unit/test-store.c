/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The interface of zram.h, case by case. */

#include "unit.h"

#include <pthread.h>
#include <unistd.h>

#include "pages.h"
#include "store.h"

#define PAGE ZRAM_PAGE_SIZE

static const struct zram_codec zstd = { ZRAM_ALGORITHM_ZSTD, 1 };
static const struct zram_codec lz4 = { ZRAM_ALGORITHM_LZ4, 0 };

static struct zram_memory *memory;
static struct zram_store *store;
static unsigned char buf[64 * PAGE], back[64 * PAGE];
static struct rng rng = { 99 };

static void
setup_codec (uint64_t size, const struct zram_codec *codec)
{
  struct zram_memory_config config = { .contexts = 2 };

  memory = zram_memory_create (&config);
  ck_assert_ptr_nonnull (memory);
  store = zram_open (memory, size, codec);
  ck_assert_ptr_nonnull (store);
}

static void
setup (uint64_t size)
{
  setup_codec (size, &zstd);
}

static void
teardown (void)
{
  ck_assert_uint_eq (zram_memory_check (memory, stderr), 0);
  zram_close (store);
  zram_memory_settle (memory);
  ck_assert_uint_eq (zram_memory_check (memory, stderr), 0);
  ck_assert_uint_eq (pool_used (&memory->pool), 0);
  zram_memory_destroy (memory);
}

static struct zram_store_stats
stats (void)
{
  struct zram_store_stats s;

  zram_store_stats (store, &s);
  return s;
}

static void
write_pages (enum pages_kind kind, uint64_t page, unsigned nr)
{
  unsigned i;

  for (i = 0; i < nr; i++) {
    pages_fill (&rng, kind, buf, PAGE);
    ck_assert_int_eq (zram_write (store, buf, PAGE, (page + i) * PAGE), 0);
  }
}

/* ---- Creating ------------------------------------------------------ */

START_TEST (test_bad_arguments)
{
  struct zram_memory_config config = { .arena_size = UINT64_C (1) << 41 };
  struct zram_codec bad = { ZRAM_ALGORITHM_ZSTD, 99 };

  ck_assert_errno (zram_memory_create (&config) == NULL, EINVAL);
  config = (struct zram_memory_config) { .allocator = ZRAM_NR_ALLOCATORS };
  ck_assert_errno (zram_memory_create (&config) == NULL, EINVAL);
  config = (struct zram_memory_config) { .mem_limit = 1 };
  ck_assert_errno (zram_memory_create (&config) == NULL, ENOSPC);

  setup (PAGE);
  ck_assert_errno (zram_open (memory, 0, &zstd) == NULL, EINVAL);
  ck_assert_errno (zram_open (memory, UINT64_C (1) << 63, &zstd) == NULL,
                   EINVAL);
  ck_assert_errno (zram_open (memory, PAGE, &bad) == NULL, EINVAL);
  teardown ();
}
END_TEST

START_TEST (test_minimum_is_enough)
{
  struct zram_memory_config config = { .contexts = 3 };

  config.mem_limit = zram_memory_minimum (&config, &zstd);
  ck_assert_uint_gt (config.mem_limit, 500000);
  memory = zram_memory_create (&config);
  ck_assert_ptr_nonnull (memory);
  store = zram_open (memory, UINT64_C (1) << 62, &zstd);
  ck_assert_ptr_nonnull (store);
  write_pages (PAGES_RANDOM, 0, 20);
  ck_assert_int_eq (zram_write (store, buf, PAGE,
                                (UINT64_C (1) << 62) - PAGE), 0);
  teardown ();
}
END_TEST

/* A store of any size costs the same: next to nothing. */
START_TEST (test_sizes)
{
  static const uint64_t sizes[] = {
    1, 511, PAGE, PAGE + 1, UINT64_C (1) << 30, (UINT64_C (1) << 60) + 12345,
    ZRAM_SIZE_MAX,
  };
  struct zram_memory_stats before, after;
  unsigned i;

  for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    uint64_t last = sizes[i] - 1;

    setup (sizes[i]);
    ck_assert_uint_eq (zram_size (store), sizes[i]);
    zram_memory_stats (memory, &before);
    ck_assert_uint_le (before.slot_table_size, PAGE);
    back[0] = 7;
    ck_assert_int_eq (zram_read (store, back, 1, last), 0);
    ck_assert_uint_eq (back[0], 0);
    ck_assert_int_eq (zram_write (store, "x", 1, last), 0);
    ck_assert_int_eq (zram_read (store, back, 1, last), 0);
    ck_assert_uint_eq (back[0], 'x');
    zram_memory_stats (memory, &after);
    ck_assert_uint_le (after.slot_table_size, 6 * PAGE);
    ck_assert_errno (zram_write (store, "xx", 2, last) == -1, EINVAL);
    ck_assert_int_eq (zram_trim (store, 1, last), 0);
    ck_assert_int_eq (zram_read (store, back, 1, last), 0);
    ck_assert_uint_eq (back[0], 0);
    teardown ();
  }
}
END_TEST

/* ---- Counters, as zram counts -------------------------------------- */

START_TEST (test_counters)
{
  struct zram_store_stats s;
  uint64_t bytes;

  setup (1000 * PAGE);
  write_pages (PAGES_ZERO, 0, 10);
  write_pages (PAGES_WORD32, 10, 5);
  write_pages (PAGES_WORD64, 20, 3);
  write_pages (PAGES_RANDOM, 30, 7);
  s = stats ();
  ck_assert_uint_eq (s.disksize, 1000 * PAGE);
  ck_assert_uint_eq (s.orig_data_size, 25 * PAGE);
  ck_assert_uint_eq (s.same_pages, 18);
  ck_assert_uint_eq (s.huge_pages, 7);
  ck_assert_uint_eq (s.huge_pages_since, 7);
  ck_assert_uint_eq (s.compr_data_size, 7 * PAGE);

  write_pages (PAGES_TEXT, 100, 20);
  s = stats ();
  ck_assert_uint_eq (s.orig_data_size, 45 * PAGE);
  bytes = s.compr_data_size - 7 * PAGE;
  ck_assert (bytes > 20 * 100 && bytes < 20 * PAGE / 2);

  /* Overwriting counts once. */
  write_pages (PAGES_ZERO, 100, 20);
  write_pages (PAGES_RANDOM, 30, 7);
  s = stats ();
  ck_assert_uint_eq (s.orig_data_size, 45 * PAGE);
  ck_assert_uint_eq (s.compr_data_size, 7 * PAGE);
  ck_assert_uint_eq (s.huge_pages, 7);
  ck_assert_uint_eq (s.huge_pages_since, 14);
  ck_assert_uint_eq (s.same_pages, 38);

  /* Freeing. */
  ck_assert_int_eq (zram_trim (store, 10 * PAGE, 0), 0);
  ck_assert_int_eq (zram_trim (store, 10 * PAGE, 0), 0);
  s = stats ();
  ck_assert_uint_eq (s.notify_free, 10);
  ck_assert_uint_eq (s.same_pages, 28);
  ck_assert_int_eq (zram_zero (store, 1000 * PAGE, 0), 0);
  s = stats ();
  ck_assert_uint_eq (s.notify_free, 10);
  ck_assert_uint_eq (s.orig_data_size, 0);
  ck_assert_uint_eq (s.compr_data_size, 0);
  ck_assert_uint_eq (s.same_pages, 0);
  ck_assert_uint_eq (s.huge_pages, 0);
  ck_assert_uint_eq (s.failed_writes, 0);
  ck_assert_uint_eq (s.invalid_io, 0);

  ck_assert_errno (zram_read (store, back, 1, 1000 * PAGE) == -1, EINVAL);
  ck_assert_errno (zram_trim (store, UINT64_MAX, 1) == -1, EINVAL);
  ck_assert_uint_eq (stats ().invalid_io, 2);
  ck_assert_int_eq (zram_read (store, back, 0, 1000 * PAGE), 0);
  ck_assert_int_eq (zram_zero (store, 0, 5), 0);
  teardown ();
}
END_TEST

/* ---- Slot tables --------------------------------------------------- */

/* A leaf of 4 KiB per 2 MiB that was written in, nothing elsewhere, and
 * a leaf that trim has emptied is given back.
 */
START_TEST (test_slot_table)
{
  struct zram_memory_stats m;
  uint64_t i, nr = 100, leaf = 2 << 20, stride = UINT64_C (1) << 32;

  setup (UINT64_C (1) << 40);
  for (i = 0; i < nr; i++)
    ck_assert_int_eq (zram_write (store, "x", 1, i * leaf), 0);
  zram_memory_stats (memory, &m);
  /* The root, one node below it, and the leaves. */
  ck_assert_uint_eq (m.slot_table_size, (nr + 2) * PAGE);

  /* All but one page of a leaf... */
  ck_assert_int_eq (zram_write (store, "x", 1, 511 * PAGE), 0);
  ck_assert_int_eq (zram_trim (store, 511 * PAGE, 0), 0);
  zram_memory_settle (memory);
  ck_assert_uint_eq (arena_used (&memory->table.arena), (nr + 2) * PAGE);
  /* ...and then that page, by parts of the leaf. */
  ck_assert_int_eq (zram_trim (store, PAGE, 511 * PAGE), 0);
  zram_memory_settle (memory);
  ck_assert_uint_eq (arena_used (&memory->table.arena), (nr + 1) * PAGE);

  ck_assert_int_eq (zram_trim (store, UINT64_C (1) << 40, 0), 0);
  zram_memory_settle (memory);
  /* The root. */
  ck_assert_uint_eq (arena_used (&memory->table.arena), PAGE);
  ck_assert_uint_eq (stats ().orig_data_size, 0);

  /* Far apart: a node each for these, as they are 4 GiB from each other. */
  for (i = 0; i < 10; i++)
    ck_assert_int_eq (zram_write (store, "x", 1, i * stride), 0);
  ck_assert_uint_eq (arena_used (&memory->table.arena), (1 + 10 + 10) * PAGE);
  teardown ();
}
END_TEST

static unsigned nr_extents;
static uint64_t extent_bytes;

static int
count_extent (void *opaque, uint64_t offset, uint64_t count,
              enum zram_extent type)
{
  (void) opaque;
  (void) offset;
  (void) type;
  nr_extents++;
  extent_bytes += count;
  return 0;
}

static int
stop_at_once (void *opaque, uint64_t offset, uint64_t count,
              enum zram_extent type)
{
  *(uint64_t *) opaque = offset + count + type;
  return 42;
}

START_TEST (test_extents)
{
  uint64_t size = UINT64_C (1) << 60, seen;

  setup (size);
  ck_assert_int_eq (zram_write (store, "x", 1, size / 2), 0);
  /* A hole, a page, a hole: and it does not walk 2^48 pages. */
  ck_assert_int_eq (zram_extents (store, size, 0, count_extent, NULL), 0);
  ck_assert_uint_eq (nr_extents, 3);
  ck_assert_uint_eq (extent_bytes, size);
  ck_assert_int_eq (zram_extents (store, size, 0, stop_at_once, &seen), 42);
  ck_assert_uint_eq (seen, size / 2 + ZRAM_EXTENT_HOLE);
  ck_assert_errno (zram_extents (store, 2, size - 1, count_extent, NULL)
                   == -1, EINVAL);
  /* It fits a page and the edges of the range. */
  ck_assert_int_eq (zram_extents (store, 2, size / 2 + 5, stop_at_once,
                                  &seen), 42);
  ck_assert_uint_eq (seen, size / 2 + 7 + ZRAM_EXTENT_DATA);
  teardown ();
}
END_TEST

/* ---- The limit ----------------------------------------------------- */

START_TEST (test_limit)
{
  struct zram_memory_config config = { .contexts = 1 };
  struct zram_memory_stats m;
  static unsigned char kept[64 * PAGE];
  unsigned i, n;

  config.mem_limit = zram_memory_minimum (&config, &lz4);
  memory = zram_memory_create (&config);
  store = zram_open (memory, UINT64_C (1) << 30, &lz4);
  ck_assert_ptr_nonnull (store);
  for (n = 0; ; n++) {
    pages_fill (&rng, PAGES_RANDOM, buf, PAGE);
    if (zram_write (store, buf, PAGE, n * PAGE) == -1)
      break;
    if (n < 64)
      memcpy (kept + n * PAGE, buf, PAGE);
  }
  ck_assert_int_eq (errno, ENOSPC);
  ck_assert_uint_gt (n, 100);
  zram_memory_stats (memory, &m);
  ck_assert_uint_le (m.resident, m.mem_limit);
  ck_assert_uint_eq (stats ().failed_writes, 1);
  ck_assert_uint_eq (stats ().orig_data_size, n * PAGE);

  /* A page whose write fails keeps its old data. */
  for (i = 0; i < 64; i++) {
    pages_fill (&rng, PAGES_RANDOM, buf, PAGE);
    if (zram_write (store, buf, PAGE, i * PAGE) == 0)
      memcpy (kept + i * PAGE, buf, PAGE);
  }
  ck_assert_int_eq (zram_read (store, back, 64 * PAGE, 0), 0);
  ck_assert_mem_eq (back, kept, 64 * PAGE);

  /* What takes no memory still works: same-filled pages and trim... */
  memset (buf, 0x55, PAGE);
  ck_assert_int_eq (zram_write (store, buf, PAGE, 10 * PAGE), 0);
  ck_assert_int_eq (zram_trim (store, 5 * PAGE, 0), 0);
  /* ...and then writes do again. */
  write_pages (PAGES_RANDOM, 0, 5);
  teardown ();
}
END_TEST

/* Memory comes back after a trim, down to what is kept for writes. */
/* Address space ends where no limit does: another error says so. */
/* To write all of the last page needs nothing of what was there. */
START_TEST (test_lost_tail)
{
  const uint64_t tail = 4 * PAGE;
  uint64_t old;
  slot *s;

  setup (tail + 1000);
  write_pages (PAGES_TEXT, 0, 4);
  ck_assert_int_eq (zram_write (store, buf, 1000, tail), 0);
  s = slots_find (&store->slots, 4);
  old = slot_peek (s);
  ck_assert (slot_try_change (s, old, slot_word_lost ()));
  page_replaced (store, old, slot_word_lost ());
  ck_assert_errno (zram_read (store, back, 1000, tail) == -1, EIO);
  ck_assert_errno (zram_write (store, buf, 999, tail) == -1, EIO);
  ck_assert_errno (zram_write (store, buf, 999, tail + 1) == -1, EIO);
  ck_assert_uint_eq (stats ().lost_pages, 1);
  ck_assert_int_eq (zram_write (store, buf, 1000, tail), 0);
  ck_assert_uint_eq (stats ().lost_pages, 0);
  ck_assert_int_eq (zram_read (store, back, 1000, tail), 0);
  ck_assert_int_eq (memcmp (buf, back, 1000), 0);
  teardown ();
}
END_TEST

/* What writes that fail have made of the directory goes again. */
START_TEST (test_failed_far_away)
{
  struct zram_memory_config config = { .contexts = 2 };
  struct zram_codec codec = { .algorithm = ZRAM_ALGORITHM_NONE };
  uint64_t range = INT64_MAX / PAGE, offset;
  unsigned i, n, left, fails = 0;

  pages_fill (&rng, PAGES_RANDOM, buf, PAGE);
  config.mem_limit = zram_memory_minimum (&config, &codec) + (2 << 20);
  memory = zram_memory_create (&config);
  ck_assert_ptr_nonnull (memory);
  store = zram_open (memory, INT64_MAX, &codec);
  ck_assert_ptr_nonnull (store);
  for (n = 0; zram_write (store, buf, PAGE, n * PAGE) == 0; n++)
    ;
  ck_assert_uint_gt (n, 300);
  for (left = n; left > n / 2;) {
    offset = (range / 2 + rng_below (&rng, range / 2)) * PAGE;
    if (zram_write (store, buf, PAGE, offset) == 0) {
      ck_assert_int_eq (zram_trim (store, PAGE, offset), 0);
      left--;
      continue;
    }
    fails++;
    ck_assert_int_eq (zram_trim (store, PAGE, --left * PAGE), 0);
  }
  ck_assert_uint_gt (fails, 2);
  ck_assert_int_eq (zram_trim (store, INT64_MAX, 0), 0);
  zram_memory_settle (memory);
  ck_assert_uint_eq (slots_nr_table_pages (&store->slots), 1);
  for (i = 0; i < n; i++)
    ck_assert_int_eq (zram_write (store, buf, PAGE, i * PAGE), 0);
  ck_assert_uint_eq (zram_memory_check (memory, stderr), 0);
  zram_close (store);
  zram_memory_destroy (memory);
}
END_TEST

/* A store for which there is no room leaves no dictionary behind. */
START_TEST (test_failed_open)
{
  static unsigned char dictionary[4096];
  struct zram_memory_config config = { .contexts = 2 };
  struct zram_codec codec = {
    .algorithm = ZRAM_ALGORITHM_ZSTD, .level = 3,
    .dictionary = dictionary, .dictionary_size = sizeof dictionary,
  };
  unsigned indexes[64], failed = 0;

  pages_fill (&rng, PAGES_RANDOM, dictionary, sizeof dictionary);
  for (config.mem_limit = 65536;; config.mem_limit += PAGE) {
    memory = zram_memory_create (&config);
    if (memory == NULL)
      continue;
    store = zram_open (memory, 1 << 20, &codec);
    if (store)
      break;
    failed++;
    ck_assert_int_eq (errno, ENOSPC);
    zram_memory_settle (memory);
    zram_memory_settle (memory);
    ck_assert_uint_eq (codecs_dictionaries (memory->codecs, indexes, 64), 0);
    zram_memory_destroy (memory);
  }
  ck_assert_uint_gt (failed, 3);
  ck_assert_uint_eq (codecs_dictionaries (memory->codecs, indexes, 64), 1);
  zram_close (store);
  zram_memory_destroy (memory);
}
END_TEST

START_TEST (test_address_space_ends)
{
  struct zram_memory_config config = {
    .contexts = 1, .arena_size = UINT64_C (64) << 20,
  };
  struct zram_codec none = { ZRAM_ALGORITHM_NONE, 0 };
  uint64_t offset;

  memory = zram_memory_create (&config);
  store = zram_open (memory, UINT64_C (1) << 30, &none);
  ck_assert_ptr_nonnull (store);
  pages_fill (&rng, PAGES_RANDOM, buf, PAGE);
  for (offset = 0; zram_write (store, buf, PAGE, offset) == 0;
       offset += PAGE)
    ;
  ck_assert_int_eq (errno, ENOMEM);
  /* All but the first chunk, which is never used. */
  ck_assert_uint_eq (offset, config.arena_size - ARENA_CHUNK_UNITS * PAGE);
  ck_assert_int_eq (zram_trim (store, offset, 0), 0);
  ck_assert_int_eq (zram_write (store, buf, PAGE, 0), 0);
  teardown ();
}
END_TEST

START_TEST (test_memory_returns)
{
  struct zram_memory_stats before, after;
  unsigned i;

  setup (UINT64_C (1) << 30);
  zram_memory_stats (memory, &before);
  for (i = 0; i < 5000; i++)
    write_pages (i % 2 ? PAGES_RANDOM : PAGES_MIXED, i, 1);
  zram_memory_stats (memory, &after);
  ck_assert_uint_gt (after.resident, before.resident + 5000 * 2500);
  ck_assert_int_eq (zram_trim (store, UINT64_C (1) << 30, 0), 0);
  zram_memory_settle (memory);
  zram_memory_stats (memory, &after);
  ck_assert_uint_le (after.resident, before.resident + (5 << 18));
  ck_assert_uint_eq (after.mem_used_total, 0);
  ck_assert_uint_gt (after.mem_used_max, 5000 * 2500);
  teardown ();
}
END_TEST

/* The background thread does it without being asked. */
START_TEST (test_worker)
{
  struct zram_memory_stats m;
  unsigned i;

  setup (UINT64_C (1) << 30);
  ck_assert_int_eq (zram_memory_start (memory), 0);
  ck_assert_int_eq (zram_memory_start (memory), 0);
  for (i = 0; i < 2; i++) {
    write_pages (PAGES_RANDOM, 0, 2000);
    ck_assert_int_eq (zram_trim (store, UINT64_C (1) << 30, 0), 0);
    do {
      usleep (10000);
      zram_memory_stats (memory, &m);
    } while (m.resident > 5 << 20);
    /* Long enough for it to fall asleep: it must wake up again. */
    usleep (500000);
  }
  zram_memory_stop (memory);
  zram_memory_stop (memory);
  ck_assert_int_eq (zram_memory_start (memory), 0);
  zram_memory_stop (memory);
  teardown ();
}
END_TEST

/* ---- Several stores ------------------------------------------------ */

START_TEST (test_two_stores)
{
  struct zram_memory_stats m;
  struct zram_store *other;
  unsigned i;

  setup (UINT64_C (1) << 30);
  other = zram_open (memory, 100 * PAGE + 1, &lz4);
  ck_assert_ptr_nonnull (other);
  for (i = 0; i < 100; i++) {
    pages_fill (&rng, PAGES_TEXT, buf, PAGE);
    ck_assert_int_eq (zram_write (store, buf, PAGE, i * PAGE), 0);
    buf[0] ^= 1;
    ck_assert_int_eq (zram_write (other, buf, PAGE, i * PAGE), 0);
    ck_assert_int_eq (zram_read (store, back, PAGE, i * PAGE), 0);
    ck_assert_uint_eq (back[0] ^ 1, buf[0]);
    ck_assert_mem_eq (back + 1, buf + 1, PAGE - 1);
    ck_assert_int_eq (zram_read (other, back, PAGE, i * PAGE), 0);
    ck_assert_mem_eq (back, buf, PAGE);
  }
  ck_assert_uint_eq (zram_memory_check (memory, stderr), 0);

  /* They share the pool: closing one frees its part and no more. */
  zram_memory_stats (memory, &m);
  zram_close (other);
  ck_assert_uint_eq (zram_memory_check (memory, stderr), 0);
  ck_assert_uint_lt (pool_used (&memory->pool), m.mem_used_total);
  ck_assert_uint_eq (stats ().orig_data_size, 100 * PAGE);
  teardown ();
}
END_TEST

/* One store can use up what they share, and the other then gives room. */
START_TEST (test_two_stores_share_the_limit)
{
  struct zram_memory_config config = { .contexts = 1 };
  struct zram_store *other;
  unsigned n;

  config.mem_limit = zram_memory_minimum (&config, &lz4);
  memory = zram_memory_create (&config);
  store = zram_open (memory, 1 << 30, &lz4);
  other = zram_open (memory, 1 << 30, &lz4);
  ck_assert_ptr_nonnull (other);
  pages_fill (&rng, PAGES_RANDOM, buf, PAGE);
  for (n = 0; zram_write (other, buf, PAGE, n * PAGE) == 0; n++)
    ;
  ck_assert_errno (zram_write (store, buf, PAGE, 0) == -1, ENOSPC);
  ck_assert_int_eq (zram_trim (other, 1 << 20, 0), 0);
  ck_assert_int_eq (zram_write (store, buf, PAGE, 0), 0);
  zram_close (other);
  teardown ();
}
END_TEST

/* ---- Damage -------------------------------------------------------- */

/* An object that is damaged fails the reads of its page, and no other,
 * until the page is written again.
 */
START_TEST (test_damaged_object)
{
  uint64_t word;
  unsigned i;

  for (i = 0; i < 2; i++) {
    setup_codec (100 * PAGE, i ? &zstd : &lz4);
    write_pages (PAGES_TEXT, 0, 10);
    word = slot_peek (slots_find (&store->slots, 3));
    memset (pool_object (&memory->pool, slot_offset (word)), 0xff,
            slot_size (word));
    ck_assert_errno (zram_read (store, back, PAGE, 3 * PAGE) == -1, EIO);
    ck_assert_errno (zram_read (store, back, 10 * PAGE, 0) == -1, EIO);
    ck_assert_errno (zram_write (store, "x", 1, 3 * PAGE + 7) == -1, EIO);
    ck_assert_int_eq (zram_read (store, back, 3 * PAGE, 0), 0);
    ck_assert_int_eq (zram_read (store, back, 6 * PAGE, 4 * PAGE), 0);
    ck_assert_uint_eq (stats ().failed_reads, 2);
    ck_assert_uint_eq (stats ().failed_writes, 1);
    write_pages (PAGES_TEXT, 3, 1);
    ck_assert_int_eq (zram_read (store, back, PAGE, 3 * PAGE), 0);
    ck_assert_mem_eq (back, buf, PAGE);
    teardown ();
  }
}
END_TEST

START_TEST (test_validator_sees_faults)
{
  FILE *null = fopen ("/dev/null", "w");
  uint64_t word;
  slot *s;

  setup (100 * PAGE);
  write_pages (PAGES_TEXT, 0, 10);
  s = slots_find (&store->slots, 4);
  word = slot_peek (s);
  *s = 0;                       /* an object that nobody names */
  ck_assert_uint_ge (zram_memory_check (memory, null), 2);
  *s = slot_peek (s + 1);       /* one that two name */
  ck_assert_uint_ge (zram_memory_check (memory, null), 1);
  *s = word | SLOT_LOCK;
  ck_assert_uint_ge (zram_memory_check (memory, null), 1);
  *s = word;
  ck_assert_uint_eq (zram_memory_check (memory, stderr), 0);
  stats_add (&store->stats, STATS_SAME, 1);
  ck_assert_uint_eq (zram_memory_check (memory, null), 1);
  stats_add (&store->stats, STATS_SAME, -1);
  ck_assert (limit_charge (&memory->limit, 1));
  ck_assert_uint_eq (zram_memory_check (memory, null), 1);
  limit_uncharge (&memory->limit, 1);
  fclose (null);
  teardown ();
}
END_TEST

UNIT_MAIN ("store", test_bad_arguments, test_minimum_is_enough, test_sizes,
           test_counters, test_slot_table, test_extents, test_limit,
           test_lost_tail, test_failed_far_away, test_failed_open,
           test_address_space_ends, test_memory_returns, test_worker,
           test_two_stores, test_two_stores_share_the_limit,
           test_damaged_object, test_validator_sees_faults)
