/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* What is done in the background, and what at the limit.
 *
 * Free memory that is still resident makes the next writes cheap, so
 * some of it is kept; the rest goes back to the system in the
 * background.  At the limit all of it goes, and then the pool is
 * compacted by the writer itself: a write fails only if that frees
 * nothing.
 *
 * The background thread works in ticks (worker.h): grace periods, then
 * compaction, dictionaries, recompression, ages and idle pages, and last
 * the return of what that has freed.  While writers are busy it leaves the
 * processor to them.
 */

#include <config.h>

#include <errno.h>
#include <unistd.h>

#include "clock.h"
#include "memory.h"
#include "store.h"
#include "thread.h"

/* Free resident memory that is kept for the next writes: for objects,
 * and for slot tables.
 */
#define KEEP_POOL (64 * 1024)
#define KEEP_TABLE (16 * 1024)

/* The time that the background thread has in a tick, of 100 ms, for each
 * percent of a processor; and the objects that it compacts or recompresses
 * between two looks at the clock.
 */
#define PERCENT_NS UINT64_C (1000000)
#define COMPACT_PORTION 256
#define RECOMPRESS_PORTION 64

/* If so many pages were written in a tick it leaves the processor to the
 * writers: it does not recompress, and compacts only if more than this
 * part of the pool is not objects.  (Random overwrites alone waste some
 * 10 %, and what compaction gains of that is lost again at once.)
 */
#define BUSY_PAGES 1000
#define BUSY_WASTE 5

/* If so many pages were read or written in a tick, others want the
 * processor as well, and it takes this part of its time only.
 */
#define USED_PAGES 500
#define USED_PART 5

/* And it leaves them this part of the pool in free memory. */
#define KEEP_BUSY_PART 32

/* A writer at the limit moves at most so many objects before it tries
 * again.
 */
#define RECLAIM_PORTION 4096

/* ---- Background work ----------------------------------------------- */

static bool
compact_until (struct zram_memory *memory, uint64_t end)
{
  unsigned budget;
  bool done = false, more;

  do {
    budget = COMPACT_PORTION;
    more = pool_compact (&memory->pool, &budget, true);
    done |= more;
  } while (more && clock_ns () < end);
  return done;
}

static bool
recompress_until (struct zram_store *store, uint64_t end)
{
  unsigned budget;
  bool more;

  do {
    budget = RECOMPRESS_PORTION;
    more = recompress_some (store, &budget);
  } while (more && clock_ns () < end);
  return more;
}

static bool
is_busy (const struct zram_memory *memory)
{
  return codecs_compressed (memory->codecs) - memory->compressed
    > BUSY_PAGES;
}

/* Dictionaries, for which the system is asked for memory: not with
 * memory->lock held.
 */
static bool
train_stores (struct zram_memory *memory)
{
  struct zram_store *store;
  bool more = false;

  for (store = memory->stores; store; store = store->next)
    more |= dictionary_train (store);
  return more;
}

/* What is done for each store.  *LATER: there will be more to do. */
static bool
tick_stores (struct zram_memory *memory, bool busy, uint64_t end,
             bool *later)
{
  struct zram_store *store;
  bool more = false;

  pthread_mutex_lock (&memory->lock);
  turnover_pass_time (memory);
  for (store = memory->stores; store; store = store->next) {
    if (!busy)
      more |= recompress_until (store, end);
    more |= aging_walk (store, end, busy, later);
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

/* Whether compaction cannot wait until the writers are done. */
static bool
is_wasteful (struct zram_memory *memory)
{
  uint64_t used = pool_used (&memory->pool), objects = 0;
  const struct zram_store *store;

  pthread_mutex_lock (&memory->lock);
  for (store = memory->stores; store; store = store->next)
    objects += stats_read (&store->stats, STATS_OBJECT_BYTES);
  pthread_mutex_unlock (&memory->lock);
  return used > objects && used - objects > used / BUSY_WASTE;
}

/* Writers that replace pages free memory and want it again at once. */
static uint64_t
keep_for_writers (struct zram_memory *memory)
{
  return KEEP_POOL + pool_used (&memory->pool) / KEEP_BUSY_PART;
}

/* While the reserve is being filled its memory is for writers alone. */
static bool
is_short (struct zram_memory *memory)
{
  return arena_is_short (&memory->pool.arena)
    || arena_is_short (&memory->table.arena);
}

/* Whether requests have used pages since the last tick ended. */
static bool
is_used (const struct zram_memory *memory)
{
  return codecs_compressed (memory->codecs) - memory->compressed
    + codecs_read (memory->codecs) - memory->read > USED_PAGES;
}

static uint64_t
tick_budget (const struct zram_memory *memory)
{
  return memory->background_cpu * PERCENT_NS;
}

/* True if there may be more to do at once; *LATER, if there will be.
 * Compaction has half of the time, and if it needs less the rest has more.
 * REST: do neither, only what takes next to no time.
 */
static bool
tick (struct zram_memory *memory, bool rest, bool *later)
{
  uint64_t now = clock_ns ();
  uint64_t budget = tick_budget (memory) / (is_used (memory) ? USED_PART : 1);
  bool busy = is_busy (memory) || is_short (memory);
  bool more = table_poll (&memory->table) | writeback_poll (&memory->writeback);

  *later = busy || rest;
  if (!rest) {
    if (!busy || is_wasteful (memory))
      more |= compact_until (memory, now + budget / 2);
    pthread_mutex_lock (&memory->training);
    more |= train_stores (memory);
    more |= tick_stores (memory, busy, now + budget, later);
    pthread_mutex_unlock (&memory->training);
  }
  /* Not what we have compressed ourselves. */
  memory->compressed = codecs_compressed (memory->codecs);
  memory->read = codecs_read (memory->codecs);
  if (release (memory, busy ? keep_for_writers (memory) : KEEP_POOL,
               KEEP_TABLE)) {
    keeper_call (&memory->keeper);
    more = true;
  }
  return more;
}

/* Some portions take longer than a tick has: training, or a group with a
 * slow codec.  Then as many ticks are left out as that takes.
 */
bool
memory_tick (void *opaque)
{
  struct zram_memory *memory = opaque;
  uint64_t start = clock_thread_ns (), budget = tick_budget (memory), spent;
  bool later, more;

  if (memory->reserve && !memory->worker_has_stack) {
    thread_touch_stack ();
    memory->worker_has_stack = true;
  }
  more = tick (memory, memory->overdrawn >= budget, &later);
  spent = memory->overdrawn + clock_thread_ns () - start;
  memory->overdrawn = spent > budget ? spent - budget : 0;
  return more || later;
}

void
zram_mark_idle (struct zram_store *store, unsigned age)
{
  struct zram_memory *memory = store->memory;

  pthread_mutex_lock (&memory->lock);
  aging_mark_idle (store, age);
  pthread_mutex_unlock (&memory->lock);
  worker_poke (&memory->worker);
}

bool
zram_memory_settle (struct zram_memory *memory)
{
  unsigned rounds = 1000;       /* I/O that goes on may make ever more */
  bool busy, more, later;

  do {
    busy = is_busy (memory);
    more = tick (memory, false, &later);
  } while ((more || busy) && --rounds);
  return rounds > 0;
}

/* Tidying up short zspages (the pool's shrink) is no help here: it needs
 * memory first.
 */
void
memory_tidy (struct zram_memory *memory, unsigned budget)
{
  pool_compact (&memory->pool, &budget, false);
  release (memory, 0, 0);
}

static bool
reclaim (struct zram_memory *memory, uint64_t freed)
{
  table_poll (&memory->table);
  if (release (memory, 0, 0) || limit_freed (&memory->limit) != freed)
    return true;
  memory_tidy (memory, RECLAIM_PORTION);
  return limit_freed (&memory->limit) != freed;
}

bool
memory_reclaim (struct zram_memory *memory, uint64_t freed)
{
  int err = errno;
  bool r = (err == ENOSPC || err == ENOMEM) && reclaim (memory, freed);

  errno = err;
  return r;
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
