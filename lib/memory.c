/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* What stores share: puts the parts together and takes them apart. */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "memory.h"
#include "store.h"

/* Address space: the least that we start with, and how much of it goes to
 * slot tables: 8 bytes for a page, whose object may take an eighth of it.
 */
#define ARENA_SIZE_MIN (UINT64_C (64) << 20)
#define POOL_TO_TABLE (ZRAM_PAGE_SIZE / sizeof (slot) / 8)
#define TABLE_SIZE_MIN (UINT64_C (16) << 20)

/* More contexts than this are of no use however many processors. */
#define CONTEXTS_MAX 128

/* Percent of one processor, if the user does not say. */
#define BACKGROUND_CPU 25

/* Room above what an empty store takes, to call a limit usable. */
#define ROOM_MIN (512 * 1024)

/* The reserve that slot tables get of all that there is: a leaf for 128
 * units of objects would do if pages compressed 4 to 1.
 */
#define TABLE_RESERVE_PART 16
#define CHUNK_SIZE (ARENA_CHUNK_UNITS * ARENA_UNIT)

/* ---- Life ---------------------------------------------------------- */

static unsigned
nr_contexts (const struct zram_memory_config *config)
{
  long processors = sysconf (_SC_NPROCESSORS_ONLN);

  if (config->contexts)
    return config->contexts;
  if (processors < 1)
    processors = 1;
  return processors < CONTEXTS_MAX / 2 ? 2 * processors : CONTEXTS_MAX;
}

bool
memory_charge_codecs (struct zram_memory *memory)
{
  uint64_t size = codecs_size (memory->codecs);

  if (size < memory->codecs_charged)
    limit_uncharge (&memory->limit, memory->codecs_charged - size);
  else if (!limit_charge (&memory->limit, size - memory->codecs_charged))
    return false;
  memory->codecs_charged = size;
  return true;
}

uint64_t
memory_available (struct zram_memory *memory)
{
  uint64_t resident = limit_resident (&memory->limit);
  uint64_t spare = arena_unreserved (&memory->pool.arena);
  uint64_t used = resident > spare ? resident - spare : 0;

  return memory->limit.max > used ? memory->limit.max - used : 0;
}

/* Reserve address space for objects, SIZE bytes, and for as many slots
 * as they can have.
 */
static int
make_arenas (struct zram_memory *memory, enum zram_allocator allocator,
             uint64_t size)
{
  uint64_t table_size = size / POOL_TO_TABLE;

  if (table_size < TABLE_SIZE_MIN)
    table_size = TABLE_SIZE_MIN;
  if (table_size > TABLE_SIZE_MAX)
    table_size = TABLE_SIZE_MAX;
  if (table_init (&memory->table, &memory->limit, table_size) == -1)
    return -1;
  if (pool_init (&memory->pool, &memory->table, &memory->limit, allocator,
                 size) == 0)
    return 0;
  table_destroy (&memory->table);
  return -1;
}

/* As large as the system allows (ulimit -v, strict overcommit), but then
 * leave half of what it would allow to others.
 */
static int
make_arenas_that_fit (struct zram_memory *memory,
                      const struct zram_memory_config *config)
{
  uint64_t size = config->arena_size ? : SLOT_OFFSET_MAX;
  uint64_t wanted = size;

  while (make_arenas (memory, config->allocator, size) == -1) {
    size /= 2;
    if (errno == ENOSPC || size < ARENA_SIZE_MIN)
      return -1;
  }
  if (size == wanted)
    return 0;
  pool_destroy (&memory->pool);
  table_destroy (&memory->table);
  return make_arenas (memory, config->allocator, size / 2);
}

static int
make_parts (struct zram_memory *memory,
            const struct zram_memory_config *config)
{
  if (!limit_charge (&memory->limit, sizeof *memory)) {
    errno = ENOSPC;
    return -1;
  }
  if (make_arenas_that_fit (memory, config) == -1)
    return -1;
  memory->codecs = codecs_create (nr_contexts (config));
  if (memory->codecs == NULL)
    return -1;
  if (!memory_charge_codecs (memory)) {
    errno = ENOSPC;
    return -1;
  }
  return 0;
}

static bool
is_valid_recompress (const struct zram_memory_config *config)
{
  const struct zram_recompress *r = &config->recompress;
  int min, max, preset;

  if (r->group == 0)
    return true;
  if ((unsigned) r->codec.algorithm >= ZRAM_NR_ALGORITHMS)
    return false;
  zram_algorithm_levels (r->codec.algorithm, &min, &max, &preset);
  return r->codec.level >= min && r->codec.level <= max
    && r->codec.algorithm != ZRAM_ALGORITHM_NONE
    && r->group >= 2 && r->group <= GROUP_PAGES_MAX
    && (r->group & (r->group - 1)) == 0
    && config->allocator == ZRAM_ALLOCATOR_ZSMALLOC;
}

static bool
is_valid (const struct zram_memory_config *config)
{
  return config->reserve <= ZRAM_RESERVE_MAX
    && config->arena_size <= SLOT_OFFSET_MAX
    && config->arena_size % CHUNK_SIZE == 0
    && (unsigned) config->allocator < ZRAM_NR_ALLOCATORS
    && config->background_cpu <= 100
    && (unsigned) config->policy < ZRAM_NR_POLICIES
    && (config->writeback_limit == 0
        || config->writeback_limit >= TIER_SEGMENT_MAX)
    && is_valid_recompress (config);
}

struct zram_memory *
zram_memory_create (const struct zram_memory_config *config)
{
  struct zram_memory *memory;

  if (!is_valid (config)) {
    errno = EINVAL;
    return NULL;
  }
  memory = aligned_alloc (_Alignof (struct zram_memory), sizeof *memory);
  if (memory == NULL)
    return NULL;
  *memory = (struct zram_memory) {
    .limit.max = config->mem_limit,
    .reserve = config->reserve,
    .background_cpu = config->background_cpu ? : BACKGROUND_CPU,
    .policy = config->policy,
  };
  regroup_init (&memory->regroup, &config->recompress);
  writeback_init (&memory->writeback, memory);
  pthread_mutex_init (&memory->training, NULL);
  pthread_mutex_init (&memory->lock, NULL);
  pthread_mutex_init (&memory->reclaiming, NULL);
  worker_init (&memory->worker, memory_tick, memory);
  tiers_init (&memory->tiers, &memory->limit, &memory->table.epoch,
              config->writeback_limit);
  keeper_init (&memory->keeper, &memory->pool.arena, &memory->table.arena);
  if (make_parts (memory, config) == -1) {
    int err = errno;

    zram_memory_destroy (memory);
    errno = err;
    return NULL;
  }
  return memory;
}

void
zram_memory_destroy (struct zram_memory *memory)
{
  if (memory == NULL)
    return;
  zram_memory_stop (memory);
  worker_destroy (&memory->worker);
  keeper_destroy (&memory->keeper);
  writeback_destroy (&memory->writeback);
  tiers_destroy (&memory->tiers);
  regroup_destroy (memory);
  limit_uncharge (&memory->limit, memory->regroup.charged);
  codecs_destroy (memory->codecs);
  pool_destroy (&memory->pool);
  table_destroy (&memory->table);
  pthread_mutex_destroy (&memory->reclaiming);
  pthread_mutex_destroy (&memory->lock);
  pthread_mutex_destroy (&memory->training);
  free (memory);
}

/* Measured on one that has no limit. */
uint64_t
zram_memory_minimum (const struct zram_memory_config *config,
                     const struct zram_codec *codec)
{
  struct zram_memory_config unlimited = *config;
  struct zram_memory *memory;
  struct zram_store *store;
  uint64_t size = 0;

  unlimited.mem_limit = 0;
  unlimited.reserve = 0;
  unlimited.contexts = 1;
  memory = zram_memory_create (&unlimited);
  store = memory ? zram_open (memory, 1, codec) : NULL;
  if (store)
    size = limit_resident (&memory->limit)
      + codecs_size_with (nr_contexts (config), codec)
      + config->reserve
      + (config->tiers ? tier_buffers_size_max () + writeback_size_max () : 0)
      + ROOM_MIN;
  zram_close (store);
  zram_memory_destroy (memory);
  return size;
}

/* In whole chunks, and at least one. */
static uint64_t
whole_chunks (uint64_t bytes)
{
  return (bytes + CHUNK_SIZE - 1) / CHUNK_SIZE * CHUNK_SIZE;
}

static int
start_keeper (struct zram_memory *memory)
{
  uint64_t table = whole_chunks (memory->reserve / TABLE_RESERVE_PART + 1);

  if (memory->reserve == 0)
    return 0;
  return keeper_start (&memory->keeper, whole_chunks (memory->reserve - table),
                       table);
}

/* What was made before a fork is shared with the other process until it is
 * written, and that would take memory.
 */
static void
touch_parts (struct zram_memory *memory)
{
  struct zram_store *store;

  tiers_touch (&memory->tiers);
  writeback_touch (&memory->writeback);
  regroup_touch (memory);
  for (store = memory->stores; store; store = store->next)
    policy_reserve (store);
}

int
zram_memory_start (struct zram_memory *memory)
{
  if (memory->reserve)
    touch_parts (memory);
  if (start_keeper (memory) == -1
      || writeback_start (&memory->writeback) == -1)
    return -1;
  return worker_start (&memory->worker);
}

void
zram_memory_stop (struct zram_memory *memory)
{
  worker_stop (&memory->worker);
  memory->worker_has_stack = false;     /* another one has not */
  writeback_stop (&memory->writeback);
  keeper_stop (&memory->keeper);
}

static void
put_tiers (struct tiers *tiers, struct zram_memory_stats *stats)
{
  unsigned i;

  stats->writeback_left = tiers->budget.limit ? budget_left (&tiers->budget)
    : 0;
  pthread_mutex_lock (&tiers->lock);
  stats->nr_tiers = tiers->nr;
  for (i = 0; i < tiers->nr; i++)
    tier_stats (tiers->order[i], &stats->tiers[i]);
  pthread_mutex_unlock (&tiers->lock);
}

static void
put_reserve (struct zram_memory *memory, struct zram_memory_stats *stats)
{
  struct arena_reserve_stats pool, table;

  arena_reserve_stats (&memory->pool.arena, &pool);
  arena_reserve_stats (&memory->table.arena, &table);
  stats->reserve_size = pool.target + table.target;
  stats->reserve_filled = pool.filled + table.filled;
  stats->reserve_low = pool.low + table.low;
  stats->reserve_waits = pool.waits + table.waits;
}

void
zram_memory_stats (struct zram_memory *memory,
                   struct zram_memory_stats *stats)
{
  int64_t compacted = atomic_load (&memory->pool.pages_compacted);

  *stats = (struct zram_memory_stats) {
    .mem_used_total = pool_used (&memory->pool),
    .mem_used_max = pool_used_max (&memory->pool),
    .mem_limit = memory->limit.max,
    .resident = limit_resident (&memory->limit),
    .slot_table_size = arena_resident (&memory->table.arena),
    .pages_compacted = compacted > 0 ? compacted : 0,
  };
  put_reserve (memory, stats);
  put_tiers (&memory->tiers, stats);
}
