/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Random operations of one thread against the model, with the validator
 * after every step: both allocators, all codecs, with and without a
 * limit that is hit, and with a limit that strikes at random moments.
 * MODEL_SEED=N in the environment makes other operations.
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
run_model (const struct zram_memory_config *base,
           const struct zram_codec *codec, enum limit_kind limit,
           uint64_t seed)
{
  struct zram_memory_config config = *base;
  const char *other = getenv ("MODEL_SEED");
  struct rng rng = { seed + (other ? strtoul (other, NULL, 10) * 1000 : 0) };
  struct zram_memory *memory;
  struct zram_store *store;
  unsigned step, steps = model_steps (STEPS);

  if (limit == LIMIT_HIT)
    config.mem_limit = zram_memory_minimum (&config, codec);
  memory = zram_memory_create (&config);
  ck_assert_ptr_nonnull (memory);
  store = zram_open (memory, SIZE, codec);
  ck_assert_ptr_nonnull (store);
  model_init (&model, store, 0, SIZE);
  model.may_fill_up = limit != LIMIT_NONE;

  for (step = 0; step < steps; step++) {
    if (limit == LIMIT_STRIKES)
      memory->limit.max = rng_below (&rng, 2) ? 0
        : limit_resident (&memory->limit) + rng_below (&rng, 60000);
    /* The validator wants no thread to be at work. */
    if (config.reserve)
      ck_assert_int_eq (zram_memory_start (memory), 0);
    model_step (&model, &rng, true);
    zram_memory_stop (memory);
    if (limit == LIMIT_STRIKES)
      memory->limit.max = 0;
    if (config.recompress.group && rng_below (&rng, 10) == 0)
      zram_mark_idle (store, 0);
    if (rng_below (&rng, config.recompress.group ? 15 : 50) == 0)
      ck_assert (zram_memory_settle (memory));
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
run_all (const struct zram_memory_config *config)
{
  unsigned codec, limit;

  for (codec = 0; codec < NR_CODECS; codec++)
    for (limit = LIMIT_NONE; limit <= LIMIT_STRIKES; limit++)
      run_model (config, &codecs[codec], limit,
                 1 + codec * 100 + limit * 10 + config->allocator);
}

START_TEST (test_zsmalloc)
{
  struct zram_memory_config config = { .contexts = 1 };

  run_all (&config);
}
END_TEST

START_TEST (test_zbud)
{
  struct zram_memory_config config = {
    .contexts = 1, .allocator = ZRAM_ALLOCATOR_ZBUD,
  };

  run_all (&config);
}
END_TEST

/* Less than a request may need, so that it has to wait for more. */
START_TEST (test_reserve)
{
  struct zram_memory_config config = { .contexts = 1, .reserve = 256 << 10 };

  run_all (&config);
  config.allocator = ZRAM_ALLOCATOR_ZBUD;
  run_all (&config);
}
END_TEST

START_TEST (test_groups)
{
  struct zram_memory_config config = {
    .contexts = 1,
    .recompress = {
      .codec = { ZRAM_ALGORITHM_ZSTD, 3 }, .age = 3600, .group = 16,
    },
  };

  run_all (&config);
  config.recompress.group = 4;
  config.recompress.codec = (struct zram_codec) { ZRAM_ALGORITHM_LZ4HC, 9 };
  run_all (&config);
}
END_TEST

UNIT_MAIN ("model", test_zsmalloc, test_zbud, test_reserve, test_groups)
