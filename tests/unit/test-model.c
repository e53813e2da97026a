/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Random operations of one thread against the model, with the validator
 * after every step: both allocators, all codecs, with and without a
 * limit that is hit, and with a limit that strikes at random moments.
 */

#include "unit.h"

#include "memory.h"
#include "model.h"
#include "pages.h"

/* Not a multiple of the page size, and more than one leaf. */
#define SIZE (600 * ZRAM_PAGE_SIZE + 1234)
#define STEPS 500

enum limit_kind { LIMIT_NONE, LIMIT_HIT, LIMIT_STRIKES };

static const struct zram_codec codecs[] = {
  { ZRAM_ALGORITHM_NONE, 0 },
  { ZRAM_ALGORITHM_LZ4, 1 },
  { ZRAM_ALGORITHM_LZ4HC, 0 },
  { ZRAM_ALGORITHM_ZSTD, 1 },
  { ZRAM_ALGORITHM_ZSTD, -10 },
};
#define NR_CODECS (sizeof codecs / sizeof codecs[0])

static struct model model;

static void
run_model (enum zram_allocator allocator, const struct zram_codec *codec,
           enum limit_kind limit, uint64_t reserve, uint64_t seed)
{
  struct zram_memory_config config = {
    .allocator = allocator, .contexts = 1, .reserve = reserve,
  };
  struct rng rng = { seed };
  struct zram_memory *memory;
  struct zram_store *store;
  unsigned step;

  if (limit == LIMIT_HIT)
    config.mem_limit = zram_memory_minimum (&config, codec);
  memory = zram_memory_create (&config);
  ck_assert_ptr_nonnull (memory);
  store = zram_open (memory, SIZE, codec);
  ck_assert_ptr_nonnull (store);
  model_init (&model, store, 0, SIZE);
  model.may_fill_up = limit != LIMIT_NONE;

  for (step = 0; step < STEPS; step++) {
    if (limit == LIMIT_STRIKES)
      memory->limit.max = rng_below (&rng, 2) ? 0
        : limit_resident (&memory->limit) + rng_below (&rng, 60000);
    /* The validator wants no thread to be at work. */
    if (reserve)
      ck_assert_int_eq (zram_memory_start (memory), 0);
    model_step (&model, &rng, true);
    zram_memory_stop (memory);
    if (limit == LIMIT_STRIKES)
      memory->limit.max = 0;
    if (rng_below (&rng, 50) == 0)
      zram_memory_settle (memory);
    model_check_memory (memory);
  }
  model_verify (&model);
  model_extents (&model, SIZE, 0);
  if (limit == LIMIT_HIT) {
    struct zram_store_stats stats;

    zram_store_stats (store, &stats);
    if (codec->algorithm == ZRAM_ALGORITHM_NONE)
      ck_assert_uint_gt (stats.failed_writes, 0);
  }
  zram_close (store);
  model_check_memory (memory);
  zram_memory_destroy (memory);
  model_destroy (&model);
}

static void
run_all (enum zram_allocator allocator, uint64_t reserve)
{
  unsigned codec, limit;

  for (codec = 0; codec < NR_CODECS; codec++)
    for (limit = LIMIT_NONE; limit <= LIMIT_STRIKES; limit++)
      run_model (allocator, &codecs[codec], limit, reserve,
                 1 + codec * 100 + limit * 10 + allocator);
}

START_TEST (test_zsmalloc)
{
  run_all (ZRAM_ALLOCATOR_ZSMALLOC, 0);
}
END_TEST

START_TEST (test_zbud)
{
  run_all (ZRAM_ALLOCATOR_ZBUD, 0);
}
END_TEST

/* Less than a request may need, so that it has to wait for more. */
START_TEST (test_reserve)
{
  unsigned allocator;

  for (allocator = 0; allocator < ZRAM_NR_ALLOCATORS; allocator++)
    run_all (allocator, 256 * 1024);
}
END_TEST

UNIT_MAIN ("model", test_zsmalloc, test_zbud, test_reserve)
