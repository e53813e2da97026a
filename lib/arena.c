/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The arena hands out runs of 1 to 16 units of 4 KiB.
 *
 *     chunk 0   chunk 1            chunk 2
 *     (unused)  [uuuuUUUU....uuuu] [................] ...
 *                ^ run  ^ run ^ free, may still be resident
 *
 * Each chunk of 16 units has two bitmaps: units that are handed out, and
 * units that hold memory.  A unit is resident from the moment it is
 * first handed out until arena_release gives it back; a free unit that
 * is still resident is the cheapest to hand out again, so within a chunk
 * it is tried first.  Chunks stand in bins by their longest free run, so
 * a run is found in a few instructions, and best fit keeps long runs
 * whole.
 *
 * Why return single units, and not whole chunks?  Because then a chunk
 * with one long-lived run in it costs that run and not 64 KiB.  Holes in
 * the address space are free; memory is not.  So nothing ever has to be
 * moved between chunks.
 *
 * With a reserve (arena_set_reserve) nobody who allocates may make a
 * unit resident, since the kernel could make him wait for memory.  So
 * only resident units are handed out, chunks stand in the bins by those,
 * and a keeper's thread makes whole chunks resident ahead of need
 * (arena_refill).  It takes chunks of which nothing is resident: they
 * stand in bin 0.  Whoever finds nothing waits for it.
 *
 * Invariants (arena_check): a chunk is on the list of its bin and on no
 * other; `used' and `resident' equal the population of the bitmaps (all
 * chunks together); no unit is used that is not resident; `filled' is the
 * number of chunks that are free and resident from end to end.
 *
 * Locks: one mutex, held for some tens of instructions and never across
 * a system call.  It is taken once for a run of units, that is once in
 * tens of objects, and not for each.
 *
 * Chunk 0 is never used, so that unit 0 can mean `none'.
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>

#include "arena.h"
#include "mapping.h"

#define CHUNK_SIZE (ARENA_CHUNK_UNITS * ARENA_UNIT)
#define WHOLE_CHUNK ((1u << ARENA_CHUNK_UNITS) - 1)

/* Call the keeper when so much of the reserve is gone, and not for each
 * chunk: the call can cost a system call.
 */
#define RESERVE_SLACK 8

struct arena_chunk {
  uint16_t used;                /* bitmap of units handed out */
  uint16_t resident;            /* bitmap of units that hold memory */
  uint32_t prev, next;          /* neighbours in the bin, 0: none */
};

/* The caller's part of what is written down of a chunk. */
static size_t
callers_size (const struct arena *arena)
{
  return arena->record_size - sizeof (struct arena_chunk);
}

static void
release_mappings (struct arena *arena)
{
  mapping_release (arena->records, arena->nr_chunks * callers_size (arena));
  mapping_release (arena->chunks,
                   arena->nr_chunks * sizeof (struct arena_chunk));
  mapping_release (arena->base, arena->size);
  arena->base = NULL;
}

int
arena_init (struct arena *arena, struct limit *limit, uint64_t size,
            size_t record_size)
{
  *arena = (struct arena) {
    .limit = limit,
    .record_size = record_size + sizeof (struct arena_chunk),
    .size = size,
    .nr_chunks = size / CHUNK_SIZE,
    .made = 1,
    .cursor = 1,
  };

  arena->base = mapping_reserve (size);
  if (arena->base == NULL)
    return -1;
  arena->chunks = mapping_reserve (arena->nr_chunks
                                   * sizeof (struct arena_chunk));
  if (record_size)
    arena->records = mapping_reserve (arena->nr_chunks * record_size);
  if (arena->chunks == NULL || (record_size && arena->records == NULL)) {
    int err = errno;

    release_mappings (arena);
    errno = err;
    return -1;
  }
  pthread_mutex_init (&arena->lock, NULL);
  pthread_cond_init (&arena->reserve.answered, NULL);
  return 0;
}

void
arena_destroy (struct arena *arena)
{
  if (arena->base == NULL)
    return;
  release_mappings (arena);
  pthread_cond_destroy (&arena->reserve.answered);
  pthread_mutex_destroy (&arena->lock);
  limit_uncharge (arena->limit,
                  arena->resident * ARENA_UNIT
                  + (arena->made - 1) * arena->record_size);
}

/* ---- Bitmaps of 16 units ------------------------------------------- */

static unsigned
longest_run (unsigned map)
{
  unsigned n;

  for (n = 0; map; n++)
    map &= map << 1;
  return n;
}

/* The place of the first run of UNITS set bits, or -1. */
static int
find_run (unsigned map, unsigned units)
{
  while (--units)
    map &= map >> 1;
  return map ? __builtin_ctz (map) : -1;
}

static unsigned
run_bits (unsigned place, unsigned units)
{
  return ((1u << units) - 1) << place;
}

static unsigned
chunk_free (const struct arena_chunk *chunk)
{
  return (uint16_t) ~chunk->used;
}

/* Units that are free and hold memory all the same. */
static unsigned
chunk_spare (const struct arena_chunk *chunk)
{
  return chunk_free (chunk) & chunk->resident;
}

/* Whether all of it is free and holds memory, and whether none does. */
static bool
chunk_is_filled (const struct arena_chunk *chunk)
{
  return chunk_spare (chunk) == WHOLE_CHUNK;
}

static bool
chunk_is_absent (const struct arena_chunk *chunk)
{
  return (chunk->used | chunk->resident) == 0;
}

/* ---- Bins ---------------------------------------------------------- */

/* The bin that a chunk belongs in, or -1. */
static int
bin_of (const struct arena *arena, const struct arena_chunk *chunk)
{
  unsigned bin;

  if (arena->reserve.target == 0)
    bin = longest_run (chunk_free (chunk));
  else if (chunk_is_absent (chunk))
    return 0;
  else
    bin = longest_run (chunk_spare (chunk));
  return bin ? (int) bin : -1;
}

static void
bin_remove (struct arena *arena, uint32_t c)
{
  struct arena_chunk *chunk = &arena->chunks[c];
  int bin = bin_of (arena, chunk);

  if (chunk_is_filled (chunk))
    arena->reserve.filled--;
  if (bin == -1)
    return;
  if (chunk->prev)
    arena->chunks[chunk->prev].next = chunk->next;
  else
    arena->bins[bin] = chunk->next;
  if (chunk->next)
    arena->chunks[chunk->next].prev = chunk->prev;
  if (arena->bins[bin] == 0)
    arena->bin_map &= ~(1u << bin);
}

static void
bin_insert (struct arena *arena, uint32_t c)
{
  struct arena_chunk *chunk = &arena->chunks[c];
  int bin = bin_of (arena, chunk);

  if (chunk_is_filled (chunk))
    arena->reserve.filled++;
  if (bin == -1)
    return;
  chunk->prev = 0;
  chunk->next = arena->bins[bin];
  if (chunk->next)
    arena->chunks[chunk->next].prev = c;
  arena->bins[bin] = c;
  arena->bin_map |= 1u << bin;
}

static void
chunk_set (struct arena *arena, uint32_t c, unsigned used, unsigned resident)
{
  bin_remove (arena, c);
  arena->chunks[c].used = used;
  arena->chunks[c].resident = resident;
  bin_insert (arena, c);
}

/* ---- Taking and giving back ---------------------------------------- */

/* A chunk that has a free run of UNITS, or 0 and errno. */
static uint32_t
find_chunk (struct arena *arena, unsigned units)
{
  uint32_t fitting = arena->bin_map >> units << units;

  if (fitting)
    return arena->bins[__builtin_ctz (fitting)];
  if (arena->reserve.target) {
    errno = EAGAIN;
    return 0;
  }
  if (arena->made == arena->nr_chunks) {
    errno = ENOMEM;
    return 0;
  }
  if (!limit_charge (arena->limit, arena->record_size)) {
    errno = ENOSPC;
    return 0;
  }
  bin_insert (arena, arena->made);
  return arena->made++;
}

static uint32_t
alloc_locked (struct arena *arena, unsigned units)
{
  uint32_t c = find_chunk (arena, units);
  struct arena_chunk *chunk = &arena->chunks[c];
  unsigned run, fresh;
  int place;

  if (c == 0)
    return 0;
  place = find_run (chunk_spare (chunk), units);
  if (place == -1)
    place = find_run (chunk_free (chunk), units);
  assert (place >= 0);
  run = run_bits (place, units);
  fresh = __builtin_popcount (run & ~chunk->resident);
  if (!limit_charge (arena->limit, (uint64_t) fresh * ARENA_UNIT)) {
    errno = ENOSPC;
    return 0;
  }

  arena->resident += fresh;
  chunk_set (arena, c, chunk->used | run, chunk->resident | run);
  arena->used += units;
  if (arena->used > arena->used_max)
    arena->used_max = arena->used;
  return c * ARENA_CHUNK_UNITS + place;
}

/* Something was taken, perhaps of the reserve. */
static void
note_reserve (struct arena *arena)
{
  struct arena_reserve *r = &arena->reserve;

  if (r->target == 0)
    return;
  if (r->filled < r->low)
    r->low = r->filled;
  if (r->target - r->filled > r->target / RESERVE_SLACK
      && r->filled < r->target)
    r->wake (r->opaque);
}

/* Those who wait shall look again; or be told, if it is an error, that it
 * is in vain.
 */
static void
answer (struct arena *arena, int error)
{
  struct arena_reserve *r = &arena->reserve;

  r->error = error;
  r->answers++;
  if (r->waiting)
    pthread_cond_broadcast (&r->answered);
}

/* Wait until there may be memory; false and errno if there will not. */
static bool
wait_for_keeper (struct arena *arena)
{
  struct arena_reserve *r = &arena->reserve;
  uint32_t answers = r->answers;

  r->wake (r->opaque);
  r->waiting++;
  while (r->target && r->answers == answers)
    pthread_cond_wait (&r->answered, &arena->lock);
  r->waiting--;
  r->waits += r->error == 0;
  errno = r->error;
  return r->error == 0;
}

static uint32_t
alloc (struct arena *arena, unsigned units, bool wait)
{
  uint32_t unit;

  pthread_mutex_lock (&arena->lock);
  do
    unit = alloc_locked (arena, units);
  while (unit == 0 && errno == EAGAIN && wait && wait_for_keeper (arena));
  note_reserve (arena);
  pthread_mutex_unlock (&arena->lock);
  return unit;
}

uint32_t
arena_alloc (struct arena *arena, unsigned units)
{
  return alloc (arena, units, true);
}

uint32_t
arena_try_alloc (struct arena *arena, unsigned units)
{
  return alloc (arena, units, false);
}

void
arena_free (struct arena *arena, uint32_t unit, unsigned units)
{
  uint32_t c = unit / ARENA_CHUNK_UNITS;
  const struct arena_chunk *chunk = &arena->chunks[c];
  unsigned run = run_bits (unit % ARENA_CHUNK_UNITS, units);

  pthread_mutex_lock (&arena->lock);
  assert ((chunk->used & run) == run);
  chunk_set (arena, c, chunk->used & ~run, chunk->resident);
  arena->used -= units;
  if (arena->reserve.waiting)
    answer (arena, 0);
  pthread_mutex_unlock (&arena->lock);
  limit_note_freed (arena->limit);
}

/* ---- Returning memory to the system -------------------------------- */

/* Discard the units of MAP; returns the map of those that are gone. */
static unsigned
discard_units (struct arena *arena, uint32_t c, unsigned map)
{
  unsigned char *base = arena->base + (uint64_t) c * CHUNK_SIZE;
  unsigned gone = 0;

  while (map) {
    unsigned place = __builtin_ctz (map);
    unsigned units = __builtin_ctz (~(map >> place));
    unsigned run = run_bits (place, units);

    if (mapping_discard (base + place * ARENA_UNIT, units * ARENA_UNIT))
      gone |= run;
    map &= ~run;
  }
  return gone;
}

/* Take the spare units of a chunk away from everybody, let go of the
 * lock while the system takes their memory, and make them free again.
 */
static uint64_t
release_chunk (struct arena *arena, uint32_t c)
{
  struct arena_chunk *chunk = &arena->chunks[c];
  unsigned spare = chunk_spare (chunk);
  unsigned gone, n;

  chunk_set (arena, c, chunk->used | spare, chunk->resident);
  pthread_mutex_unlock (&arena->lock);
  gone = discard_units (arena, c, spare);
  pthread_mutex_lock (&arena->lock);
  chunk_set (arena, c, chunk->used & ~spare, chunk->resident & ~gone);
  n = __builtin_popcount (gone);
  arena->resident -= n;
  limit_uncharge (arena->limit, (uint64_t) n * ARENA_UNIT);
  return (uint64_t) n * ARENA_UNIT;
}

/* Whether there is memory in a chunk that can go. */
static bool
is_releasable (const struct arena *arena, const struct arena_chunk *chunk)
{
  const struct arena_reserve *r = &arena->reserve;

  if (chunk_is_filled (chunk) && r->filled <= r->target)
    return false;
  return chunk_spare (chunk);
}

/* Exact under the lock; without it, never below zero. */
uint64_t
arena_unreserved (const struct arena *arena)
{
  const struct arena_reserve *r = &arena->reserve;
  uint64_t reserved = r->filled < r->target ? r->filled : r->target;
  uint64_t resident = arena_resident (arena);
  uint64_t taken = arena_used (arena) + reserved * CHUNK_SIZE;

  return resident > taken ? resident - taken : 0;
}

uint64_t
arena_release (struct arena *arena, uint64_t keep)
{
  /* Other threads get a turn at the lock after so many chunks. */
  const uint32_t slice = 4096;
  uint64_t released = 0;
  uint32_t i, todo;

  pthread_mutex_lock (&arena->lock);
  for (todo = arena->made, i = 0; i < todo; i++) {
    if (arena_unreserved (arena) <= keep)
      break;
    if (++arena->cursor >= arena->made)
      arena->cursor = 1;
    if (arena->cursor < arena->made
        && is_releasable (arena, &arena->chunks[arena->cursor]))
      released += release_chunk (arena, arena->cursor);
    if (i % slice == slice - 1) {
      pthread_mutex_unlock (&arena->lock);
      pthread_mutex_lock (&arena->lock);
    }
  }
  pthread_mutex_unlock (&arena->lock);
  return released;
}

/* ---- The reserve --------------------------------------------------- */

/* Put all chunks into bins anew, by another rule. */
static void
set_target (struct arena *arena, uint32_t target)
{
  uint32_t c;

  for (c = 1; c < arena->made; c++)
    bin_remove (arena, c);
  arena->reserve.target = target;
  for (c = 1; c < arena->made; c++)
    bin_insert (arena, c);
}

void
arena_set_reserve (struct arena *arena, uint64_t bytes,
                   void (*wake) (void *), void *opaque)
{
  struct arena_reserve *r = &arena->reserve;

  pthread_mutex_lock (&arena->lock);
  set_target (arena, bytes / CHUNK_SIZE);
  r->low = r->target;
  r->error = 0;
  r->wake = wake;
  r->opaque = opaque;
  pthread_cond_broadcast (&r->answered);
  pthread_mutex_unlock (&arena->lock);
}

/* Take a chunk that is absent out of its bin, or make one.  Nobody else
 * makes any while there is a reserve, so `made' stands still while what is
 * written down of the next one is faulted in.  0 and errno on failure.
 */
static uint32_t
take_absent (struct arena *arena)
{
  uint32_t c = arena->bins[0];

  if (c) {
    bin_remove (arena, c);
    return c;
  }
  c = arena->made;
  if (c == arena->nr_chunks) {
    errno = ENOMEM;
    return 0;
  }
  if (!limit_charge (arena->limit, arena->record_size)) {
    errno = ENOSPC;
    return 0;
  }
  pthread_mutex_unlock (&arena->lock);
  mapping_touch (&arena->chunks[c], sizeof *arena->chunks);
  mapping_touch ((char *) arena->records + c * callers_size (arena),
                 callers_size (arena));
  pthread_mutex_lock (&arena->lock);
  arena->made++;
  return c;
}

/* The chunk is on no list.  False and errno if there is no memory:
 * EAGAIN if it is the system that has none.
 */
static bool
fill_chunk (struct arena *arena, uint32_t c)
{
  bool filled;

  if (!limit_charge (arena->limit, CHUNK_SIZE)) {
    errno = ENOSPC;
    return false;
  }
  pthread_mutex_unlock (&arena->lock);
  filled = mapping_populate (arena->base + (uint64_t) c * CHUNK_SIZE,
                             CHUNK_SIZE);
  pthread_mutex_lock (&arena->lock);
  if (!filled) {
    limit_uncharge (arena->limit, CHUNK_SIZE);
    errno = EAGAIN;
    return false;
  }
  arena->chunks[c].resident = WHOLE_CHUNK;
  arena->resident += ARENA_CHUNK_UNITS;
  return true;
}

static bool
refill (struct arena *arena)
{
  uint32_t c = take_absent (arena);
  bool filled;

  if (c == 0)
    return false;
  filled = fill_chunk (arena, c);
  bin_insert (arena, c);
  return filled;
}

int
arena_refill (struct arena *arena)
{
  struct arena_reserve *r = &arena->reserve;
  int result = 0;

  pthread_mutex_lock (&arena->lock);
  errno = 0;
  if (r->filled < r->target)
    result = refill (arena) ? 1 : -1;
  if (result != -1 || errno != EAGAIN)
    answer (arena, result == -1 ? errno : 0);
  pthread_mutex_unlock (&arena->lock);
  return result;
}

bool
arena_is_low (const struct arena *arena)
{
  const struct arena_reserve *r = &arena->reserve;

  return atomic_load_explicit (&r->filled, memory_order_relaxed)
    < r->target / 2;
}

bool
arena_is_short (const struct arena *arena)
{
  return arena_is_low (arena)
    && atomic_load_explicit (&arena->reserve.error, memory_order_relaxed)
    == 0;
}

void
arena_reserve_stats (const struct arena *arena,
                     struct arena_reserve_stats *stats)
{
  const struct arena_reserve *r = &arena->reserve;

  *stats = (struct arena_reserve_stats) {
    .target = (uint64_t) r->target * CHUNK_SIZE,
    .filled = (uint64_t) r->filled * CHUNK_SIZE,
    .low = (uint64_t) r->low * CHUNK_SIZE,
    .waits = r->waits,
  };
}

/* ---- Questions ----------------------------------------------------- */

uint64_t
arena_used (const struct arena *arena)
{
  return atomic_load_explicit (&arena->used, memory_order_relaxed)
    * ARENA_UNIT;
}

uint64_t
arena_used_max (const struct arena *arena)
{
  return atomic_load_explicit (&arena->used_max, memory_order_relaxed)
    * ARENA_UNIT;
}

uint64_t
arena_resident (const struct arena *arena)
{
  return atomic_load_explicit (&arena->resident, memory_order_relaxed)
    * ARENA_UNIT;
}

uint32_t
arena_end (struct arena *arena)
{
  return arena->made * ARENA_CHUNK_UNITS;
}

bool
arena_is_used (struct arena *arena, uint32_t unit)
{
  uint32_t c = unit / ARENA_CHUNK_UNITS;

  return c > 0 && c < arena->made
    && arena->chunks[c].used >> (unit % ARENA_CHUNK_UNITS) & 1;
}

/* ---- Validator ----------------------------------------------------- */

/* The length of a bin's list; counts a fault for each chunk in it that
 * does not belong there.
 */
static uint32_t
check_bin (struct arena *arena, const char *name, unsigned bin,
           unsigned *faults, FILE *report)
{
  uint32_t c, prev = 0, n = 0;

  for (c = arena->bins[bin]; c; prev = c, c = arena->chunks[c].next, n++) {
    const struct arena_chunk *chunk = &arena->chunks[c];

    if (chunk->prev != prev || bin_of (arena, chunk) != (int) bin) {
      ++*faults;
      fprintf (report, "%s: chunk %" PRIu32 " is wrongly in bin %u\n",
               name, c, bin);
      break;
    }
  }
  return n;
}

unsigned
arena_check (struct arena *arena, const char *name, FILE *report)
{
  uint64_t used = 0, resident = 0;
  unsigned bin, faults = 0;
  uint32_t c, binned = 0, filled = 0;

  for (c = 1; c < arena->made; c++) {
    const struct arena_chunk *chunk = &arena->chunks[c];

    used += __builtin_popcount (chunk->used);
    resident += __builtin_popcount (chunk->resident);
    if (chunk->used & ~chunk->resident)
      faults++, fprintf (report, "%s: chunk %" PRIu32 ": used units %x "
                         "are not all resident (%x)\n",
                         name, c, chunk->used, chunk->resident);
    binned += bin_of (arena, chunk) != -1;
    filled += chunk_is_filled (chunk);
  }
  for (bin = 0; bin <= ARENA_CHUNK_UNITS; bin++) {
    binned -= check_bin (arena, name, bin, &faults, report);
    if (!(arena->bin_map >> bin & 1) != !arena->bins[bin])
      faults++, fprintf (report, "%s: bin %u: bit and list disagree\n",
                         name, bin);
  }
  if (binned)
    faults++, fprintf (report, "%s: %" PRIu32 " chunks with free units are "
                       "in no bin\n", name, binned);
  if (filled != arena->reserve.filled)
    faults++, fprintf (report, "%s: %" PRIu32 " chunks filled, counter says "
                       "%" PRIu32 "\n", name, filled, arena->reserve.filled);
  if (used != arena->used)
    faults++, fprintf (report, "%s: %" PRIu64 " units used, counter says "
                       "%" PRIu64 "\n", name, used, arena->used);
  if (resident != arena->resident)
    faults++, fprintf (report, "%s: %" PRIu64 " units resident, counter says "
                       "%" PRIu64 "\n", name, resident, arena->resident);
  return faults;
}
