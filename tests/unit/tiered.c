/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

#include "unit.h"

#include "model.h"
#include "pages.h"
#include "tiered.h"

struct zram_memory *memory;
struct zram_store *store;
struct storage storage, second;
unsigned char page[PAGE], back[PAGE];
enum zram_policy policy;
enum zram_allocator allocator;
uint64_t writeback_limit;
struct zram_codec store_codec = { ZRAM_ALGORITHM_LZ4, 1 };

/* A store of incompressible pages, of which RAM holds less than half. */
void
setup_with (uint64_t tier_size, const struct zram_recompress *recompress)
{
  struct zram_memory_config config = { .contexts = 2 };
  struct zram_tier tier = storage_init (&storage, tier_size);

  config.policy = policy;
  config.allocator = allocator;
  config.writeback_limit = writeback_limit;
  config.mem_limit = zram_memory_minimum (&config, &store_codec) + 8 * MIB;
  if (recompress) {
    config.recompress = *recompress;
    config.mem_limit += 16 * MIB;       /* to be made less by the test */
  }
  memory = zram_memory_create (&config);
  ck_assert_ptr_nonnull (memory);
  ck_assert_int_eq (zram_add_tier (memory, &tier), 0);
  /* It is known to be quick, whatever the first read takes.  Where one takes
   * long neighbours come along, and pages are not where a test wants them.
   */
  memory->tiers.order[0]->read_ns = 1;
  store = zram_open (memory, UINT64_C (1) << 30, &store_codec);
  ck_assert_ptr_nonnull (store);
}

void
setup (uint64_t tier_size)
{
  setup_with (tier_size, NULL);
}

void
teardown (void)
{
  ck_assert_uint_eq (zram_memory_check (memory, stderr), 0);
  zram_close (store);
  zram_memory_settle (memory);
  zram_memory_settle (memory);
  ck_assert_uint_eq (zram_memory_check (memory, stderr), 0);
  ck_assert_uint_eq (pool_used (&memory->pool), 0);
  ck_assert_uint_eq (memory->tiers.order[0]->pages, 0);
  zram_memory_destroy (memory);
  ck_assert_uint_eq (storage.closed, 1);
  storage_destroy (&storage);
}

void
leave_segments (unsigned n, unsigned nr)
{
  struct tier *tier = memory->tiers.order[n];

  while (tier->nr_free > nr)
    ck_assert_uint_ne (tier_open_segment (&memory->tiers, tier, 1), 0);
}

struct zram_store_stats
stats (void)
{
  struct zram_store_stats s;

  zram_store_stats (store, &s);
  return s;
}

/* The contents of a page, the VERSIONth. */
void
make_random (unsigned char *data, unsigned i, unsigned version)
{
  struct rng rng = { i * UINT64_C (1000) + version + 1 };

  pages_fill (&rng, PAGES_RANDOM, data, PAGE);
}

void
make_page (unsigned i, unsigned version)
{
  make_random (page, i, version);
}

int
write_page (unsigned i, unsigned version)
{
  make_page (i, version);
  return zram_write (store, page, PAGE, (uint64_t) i * PAGE);
}

void
check_page (unsigned i, unsigned version)
{
  make_page (i, version);
  ck_assert_int_eq (zram_read (store, back, PAGE, (uint64_t) i * PAGE), 0);
  ck_assert_int_eq (memcmp (back, page, PAGE), 0);
}

void
write_all (unsigned version)
{
  unsigned i;

  for (i = 0; i < NR; i++)
    ck_assert_int_eq (write_page (i, version), 0);
  ck_assert_uint_eq (zram_memory_check (memory, stderr), 0);
}

void
check_all (unsigned version)
{
  unsigned i;

  for (i = 0; i < NR; i++)
    check_page (i, version);
  ck_assert_uint_eq (zram_memory_check (memory, stderr), 0);
}

bool
is_on_tier (unsigned i)
{
  return slot_on_tier (slot_peek (slots_find (&store->slots, i)));
}

/* A page that is on the tier. */
uint64_t
segment_of (unsigned i)
{
  uint64_t word = slot_peek (slots_find (&store->slots, i));

  return tier_segment_offset (tiers_of (&memory->tiers, word),
                              slot_segment (word));
}

unsigned
one_on_tier (void)
{
  unsigned i;

  for (i = 0; i < NR; i++)
    if (is_on_tier (i))
      return i;
  ck_abort_msg ("nothing is on the tier");
}

void *
run_thread (void *opaque)
{
  struct rng rng = { (uintptr_t) opaque + 1 };
  struct model model;
  unsigned step;

  model_init (&model, store, (uintptr_t) opaque * 700 * PAGE + 100,
              700 * PAGE);
  model.may_fill_up = true;
  for (step = 0; step < 1500; step++)
    model_step (&model, &rng, false);
  model_verify (&model);
  model_destroy (&model);
  return NULL;
}
