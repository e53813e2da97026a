/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* What stores share: puts the parts together, and says what is done in
 * the background and what at the limit.
 *
 * Free memory that is still resident makes the next writes cheap, so
 * some of it is kept; the rest goes back to the system in the
 * background.  At the limit all of it goes, and then the pool is
 * compacted by the writer itself: a write fails only if that frees
 * nothing.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "memory.h"
#include "store.h"

/* Free resident memory that is kept for the next writes: for objects,
 * and for slot tables.
 */
#define KEEP_POOL (256 * 1024)
#define KEEP_TABLE (64 * 1024)

/* Address space: the least that we start with, and how much of it goes to
 * slot tables: 8 bytes for a page, whose object may take an eighth of it.
 */
#define ARENA_SIZE_MIN (UINT64_C (64) << 20)
#define POOL_TO_TABLE (ZRAM_PAGE_SIZE / sizeof (slot) / 8)
#define TABLE_SIZE_MIN (UINT64_C (16) << 20)

/* More contexts than this are of no use however many processors. */
#define CONTEXTS_MAX 128

/* Room above what an empty store takes, to call a limit usable. */
#define ROOM_MIN (512 * 1024)

/* The background thread may compact for so long in a tick of 100 ms, and
 * recompress for so long; the portions are objects, between two looks at
 * the clock.
 */
#define COMPACT_NS 20000000
#define COMPACT_PORTION 256
#define RECOMPRESS_NS 20000000
#define RECOMPRESS_PORTION 64

/* If so many pages were written in a tick it leaves the processor to the
 * writers: it does not recompress, and compacts for this long only.
 */
#define BUSY_PAGES 1000
#define COMPACT_BUSY_NS 3000000

/* And it leaves them this part of the pool in free memory. */
#define KEEP_BUSY_PART 32

/* A writer at the limit moves at most so many objects before it tries
 * again.
 */
#define RECLAIM_PORTION 4096

/* ---- Background work ----------------------------------------------- */

static uint64_t
now_ns (void)
{
  struct timespec t;

  clock_gettime (CLOCK_MONOTONIC, &t);
  return t.tv_sec * UINT64_C (1000000000) + t.tv_nsec;
}

static bool
compact_for (struct zram_memory *memory, uint64_t ns)
{
  uint64_t end = now_ns () + ns;
  unsigned budget;
  bool done = false, more;

  do {
    budget = COMPACT_PORTION;
    more = pool_compact (&memory->pool, &budget, true);
    done |= more;
  } while (more && now_ns () < end);
  return done;
}

static bool
recompress_for (struct zram_store *store, uint64_t ns)
{
  uint64_t end = now_ns () + ns;
  unsigned budget;
  bool more;

  do {
    budget = RECOMPRESS_PORTION;
    more = recompress_some (store, &budget);
  } while (more && now_ns () < end);
  return more;
}

static bool
is_busy (const struct zram_memory *memory)
{
  return codecs_compressed (memory->codecs) - memory->compressed
    > BUSY_PAGES;
}

/* What is done for each store. */
static bool
tick_stores (struct zram_memory *memory, bool busy)
{
  struct zram_store *store;
  bool more = busy;

  pthread_mutex_lock (&memory->lock);
  for (store = memory->stores; store; store = store->next) {
    more |= dictionary_train (store);
    if (!busy)
      more |= recompress_for (store, RECOMPRESS_NS);
  }
  more |= dictionary_reap (memory);
  pthread_mutex_unlock (&memory->lock);
  return more;
}

/* Return free memory to the system, but for what is to be kept.  One at a
 * time: while a unit is on its way it is neither free nor charged less,
 * and whoever looks for memory then must wait for it.
 */
static uint64_t
release (struct zram_memory *memory, uint64_t keep_pool, uint64_t keep_table)
{
  uint64_t released;

  pthread_mutex_lock (&memory->reclaiming);
  released = arena_release (&memory->pool.arena, keep_pool)
    + arena_release (&memory->table.arena, keep_table);
  pthread_mutex_unlock (&memory->reclaiming);
  return released;
}

/* Writers that replace pages free memory and want it again at once. */
static uint64_t
keep_for_writers (struct zram_memory *memory)
{
  return KEEP_POOL + pool_used (&memory->pool) / KEEP_BUSY_PART;
}

static bool
tick (void *opaque)
{
  struct zram_memory *memory = opaque;
  bool busy = is_busy (memory);
  bool more = table_poll (&memory->table);

  more |= tick_stores (memory, busy);
  memory->compressed = codecs_compressed (memory->codecs);
  more |= compact_for (memory, busy ? COMPACT_BUSY_NS : COMPACT_NS);
  more |= release (memory, busy ? keep_for_writers (memory) : KEEP_POOL,
                   KEEP_TABLE) > 0;
  return more;
}

void
zram_memory_settle (struct zram_memory *memory)
{
  unsigned rounds = 1000;       /* I/O that goes on may make ever more */

  while (rounds-- && tick (memory))
    ;
}

/* Tidying (the pool's shrink) is no help here: it needs memory first. */
bool
memory_reclaim (struct zram_memory *memory, uint64_t freed)
{
  unsigned budget = RECLAIM_PORTION;

  if (errno != ENOSPC && errno != ENOMEM)
    return false;
  table_poll (&memory->table);
  if (release (memory, 0, 0) || limit_freed (&memory->limit) != freed)
    return true;
  pool_compact (&memory->pool, &budget, false);
  release (memory, 0, 0);
  return limit_freed (&memory->limit) != freed;
}

bool
memory_wait_for_leaves (struct zram_memory *memory)
{
  unsigned polls;

  if (table_nr_waiting (&memory->table) == 0)
    return false;
  /* The requests that they wait for take milliseconds. */
  for (polls = 0; polls < 1000 && table_poll (&memory->table); polls++)
    usleep (100);
  return true;
}

int
zram_memory_start (struct zram_memory *memory)
{
  return worker_start (&memory->worker);
}

void
zram_memory_stop (struct zram_memory *memory)
{
  worker_stop (&memory->worker);
}

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
    if (errno != ENOMEM || size < ARENA_SIZE_MIN)
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

struct zram_memory *
zram_memory_create (const struct zram_memory_config *config)
{
  struct zram_memory *memory;

  if (config->arena_size > SLOT_OFFSET_MAX
      || config->arena_size % (ARENA_CHUNK_UNITS * ARENA_UNIT)
      || (unsigned) config->allocator >= ZRAM_NR_ALLOCATORS) {
    errno = EINVAL;
    return NULL;
  }
  memory = aligned_alloc (_Alignof (struct zram_memory), sizeof *memory);
  if (memory == NULL)
    return NULL;
  *memory = (struct zram_memory) { .limit.max = config->mem_limit };
  pthread_mutex_init (&memory->lock, NULL);
  pthread_mutex_init (&memory->reclaiming, NULL);
  worker_init (&memory->worker, tick, memory);
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
  worker_stop (&memory->worker);
  worker_destroy (&memory->worker);
  codecs_destroy (memory->codecs);
  pool_destroy (&memory->pool);
  table_destroy (&memory->table);
  pthread_mutex_destroy (&memory->reclaiming);
  pthread_mutex_destroy (&memory->lock);
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
  unlimited.contexts = 1;
  memory = zram_memory_create (&unlimited);
  store = memory ? zram_open (memory, 1, codec) : NULL;
  if (store)
    size = limit_resident (&memory->limit)
      + codecs_size_with (nr_contexts (config), codec)
      + ROOM_MIN;
  zram_close (store);
  zram_memory_destroy (memory);
  return size;
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
}
