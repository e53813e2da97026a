/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Several threads against one memory, with the background thread at
 * work.  Each thread has a model of its own part of a store, which ends
 * in the middle of a page that the next part begins in: so neighbours
 * write to the same page all the time.  All of them also write to, read
 * and trim a few pages that they share, which must always be whole.
 */

#include "unit.h"

#include <pthread.h>
#include <stdatomic.h>

#include "memory.h"
#include "model.h"
#include "pages.h"

#define PAGE ZRAM_PAGE_SIZE
#define NR_THREADS 4
#define PART (150 * PAGE + 1000)
#define SHARED_PAGES 3
#define STEPS 2500

static struct zram_memory *memory;
static struct zram_store *store, *shared;

struct thread {
  unsigned number;
  bool may_fill_up;
  _Atomic unsigned *running;
};

/* A page that shows if it is mixed from two: its first word determines
 * all others.
 */
static void
make_whole_page (uint64_t seed, uint64_t *page)
{
  struct rng rng = { seed | 1 };
  unsigned i;

  page[0] = seed;
  for (i = 1; i < PAGE / 8; i++)
    page[i] = i % 4 ? page[i - 1] : rng_next (&rng);
}

static void
check_whole_page (const uint64_t *page)
{
  static const uint64_t zeroes[PAGE / 8];
  uint64_t right[PAGE / 8];

  make_whole_page (page[0], right);
  if (memcmp (page, zeroes, PAGE) != 0 && memcmp (page, right, PAGE) != 0) {
    fprintf (stderr, "a page is mixed from two writes\n");
    abort ();
  }
}

static void
use_shared_page (struct rng *rng)
{
  uint64_t offset = rng_below (rng, SHARED_PAGES) * PAGE;
  uint64_t page[PAGE / 8];

  switch (rng_below (rng, 4)) {
  case 0:
    make_whole_page (rng_next (rng), page);
    if (zram_write (shared, page, PAGE, offset) == -1 && errno != ENOSPC)
      abort ();
    break;
  case 1:
    if (zram_trim (shared, PAGE, offset) == -1)
      abort ();
    break;
  default:
    if (zram_read (shared, page, PAGE, offset) == -1)
      abort ();
    check_whole_page (page);
  }
}

static void *
run_thread (void *opaque)
{
  struct thread *t = opaque;
  struct rng rng = { t->number + 1 };
  struct model model;
  unsigned step;

  model_init (&model, store, (uint64_t) t->number * PART, PART);
  model.may_fill_up = t->may_fill_up;
  for (step = 0; step < STEPS; step++) {
    if (step % 3)
      use_shared_page (&rng);
    else
      model_step (&model, &rng, false);
  }
  model_verify (&model);
  model_destroy (&model);
  atomic_fetch_sub (t->running, 1);
  return NULL;
}

static void
run (const struct zram_memory_config *config, const struct zram_codec *codec,
     uint64_t strike)
{
  struct thread t[NR_THREADS];
  pthread_t threads[NR_THREADS];
  _Atomic unsigned running = NR_THREADS;
  struct zram_store_stats stats;
  unsigned i;

  memory = zram_memory_create (config);
  ck_assert_ptr_nonnull (memory);
  store = zram_open (memory, NR_THREADS * PART, codec);
  shared = zram_open (memory, UINT64_C (1) << 40, codec);
  ck_assert_ptr_nonnull (shared);
  if (strike)
    memory->limit.max = limit_resident (&memory->limit) + strike;
  ck_assert_int_eq (zram_memory_start (memory), 0);
  for (i = 0; i < NR_THREADS; i++) {
    t[i] = (struct thread) { i, strike > 0, &running };
    ck_assert_int_eq (pthread_create (&threads[i], NULL, run_thread, &t[i]),
                      0);
  }
  while (atomic_load (&running)) {
    struct zram_memory_stats m;

    zram_store_stats (store, &stats);
    zram_memory_stats (memory, &m);
    if (m.mem_limit)
      ck_assert_uint_le (m.resident, m.mem_limit);
    if (config->recompress.group) {
      zram_mark_idle (store, 0);
      zram_mark_idle (shared, 0);
    }
    sched_yield ();
  }
  for (i = 0; i < NR_THREADS; i++)
    pthread_join (threads[i], NULL);
  zram_memory_stop (memory);
  model_check_memory (memory);
  zram_close (store);
  zram_close (shared);
  model_check_memory (memory);
  zram_memory_destroy (memory);
}

START_TEST (test_zsmalloc_zstd)
{
  struct zram_memory_config config = { .contexts = 2 };
  struct zram_codec codec = { ZRAM_ALGORITHM_ZSTD, 1 };

  run (&config, &codec, 0);
}
END_TEST

START_TEST (test_zsmalloc_lz4_limit)
{
  struct zram_memory_config config = { .contexts = 3 };
  struct zram_codec codec = { ZRAM_ALGORITHM_LZ4, 1 };

  run (&config, &codec, 800000);
}
END_TEST

START_TEST (test_zbud_lz4)
{
  struct zram_memory_config config = {
    .allocator = ZRAM_ALLOCATOR_ZBUD, .contexts = 2,
  };
  struct zram_codec codec = { ZRAM_ALGORITHM_LZ4, 1 };

  run (&config, &codec, 0);
}
END_TEST

START_TEST (test_zbud_zstd_limit)
{
  struct zram_memory_config config = {
    .allocator = ZRAM_ALLOCATOR_ZBUD, .contexts = 2,
  };
  struct zram_codec codec = { ZRAM_ALGORITHM_ZSTD, 1 };

  run (&config, &codec, 1000000);
}
END_TEST

START_TEST (test_reserve)
{
  struct zram_memory_config config = { .contexts = 2, .reserve = 1 << 20 };
  struct zram_codec codec = { ZRAM_ALGORITHM_ZSTD, 1 };

  run (&config, &codec, 0);
}
END_TEST

START_TEST (test_reserve_limit)
{
  struct zram_memory_config config = { .contexts = 2, .reserve = 256 << 10 };
  struct zram_codec codec = { ZRAM_ALGORITHM_LZ4, 1 };

  run (&config, &codec, 1000000);
}
END_TEST

START_TEST (test_groups)
{
  struct zram_memory_config config = {
    .contexts = 2, .background_cpu = 100,
    .recompress = {
      .codec = { ZRAM_ALGORITHM_ZSTD, 3 }, .age = 1, .group = 16,
    },
  };
  struct zram_codec codec = { ZRAM_ALGORITHM_LZ4, 1 };

  run (&config, &codec, 0);
  run (&config, &codec, 1200000);
}
END_TEST

UNIT_MAIN ("threads", test_zsmalloc_zstd, test_zsmalloc_lz4_limit,
           test_zbud_lz4, test_zbud_zstd_limit,
           test_reserve, test_reserve_limit, test_groups)
