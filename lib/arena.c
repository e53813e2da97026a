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
 * Invariants (arena_check): a chunk is on the list of its bin and on no
 * other; `used' and `resident' equal the population of the bitmaps (all
 * chunks together); no unit is used that is not resident.
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

struct arena_chunk {
  uint16_t used;                /* bitmap of units handed out */
  uint16_t resident;            /* bitmap of units that hold memory */
  uint32_t prev, next;          /* neighbours in the bin, 0: none */
};

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
  if (arena->chunks == NULL) {
    mapping_release (arena->base, size);
    arena->base = NULL;
    return -1;
  }
  pthread_mutex_init (&arena->lock, NULL);
  return 0;
}

void
arena_destroy (struct arena *arena)
{
  if (arena->base == NULL)
    return;
  mapping_release (arena->chunks,
                   arena->nr_chunks * sizeof (struct arena_chunk));
  mapping_release (arena->base, arena->size);
  pthread_mutex_destroy (&arena->lock);
  limit_uncharge (arena->limit,
                  arena->resident * ARENA_UNIT
                  + (arena->made - 1) * arena->record_size);
  arena->base = NULL;
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

/* ---- Bins ---------------------------------------------------------- */

static void
bin_remove (struct arena *arena, uint32_t c)
{
  struct arena_chunk *chunk = &arena->chunks[c];
  unsigned bin = longest_run (chunk_free (chunk));

  if (bin == 0)
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
  unsigned bin = longest_run (chunk_free (chunk));

  if (bin == 0)
    return;
  chunk->prev = 0;
  chunk->next = arena->bins[bin];
  if (chunk->next)
    arena->chunks[chunk->next].prev = c;
  arena->bins[bin] = c;
  arena->bin_map |= 1u << bin;
}

static void
chunk_set_used (struct arena *arena, uint32_t c, unsigned used)
{
  bin_remove (arena, c);
  arena->chunks[c].used = used;
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

  chunk->resident |= run;
  arena->resident += fresh;
  chunk_set_used (arena, c, chunk->used | run);
  arena->used += units;
  if (arena->used > arena->used_max)
    arena->used_max = arena->used;
  return c * ARENA_CHUNK_UNITS + place;
}

uint32_t
arena_alloc (struct arena *arena, unsigned units)
{
  uint32_t unit;

  pthread_mutex_lock (&arena->lock);
  unit = alloc_locked (arena, units);
  pthread_mutex_unlock (&arena->lock);
  return unit;
}

void
arena_free (struct arena *arena, uint32_t unit, unsigned units)
{
  uint32_t c = unit / ARENA_CHUNK_UNITS;
  unsigned run = run_bits (unit % ARENA_CHUNK_UNITS, units);

  pthread_mutex_lock (&arena->lock);
  assert ((arena->chunks[c].used & run) == run);
  chunk_set_used (arena, c, arena->chunks[c].used & ~run);
  arena->used -= units;
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

  chunk_set_used (arena, c, chunk->used | spare);
  pthread_mutex_unlock (&arena->lock);
  gone = discard_units (arena, c, spare);
  pthread_mutex_lock (&arena->lock);
  chunk->resident &= ~gone;
  chunk_set_used (arena, c, chunk->used & ~spare);
  n = __builtin_popcount (gone);
  arena->resident -= n;
  limit_uncharge (arena->limit, (uint64_t) n * ARENA_UNIT);
  return (uint64_t) n * ARENA_UNIT;
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
    if ((arena->resident - arena->used) * ARENA_UNIT <= keep)
      break;
    if (++arena->cursor >= arena->made)
      arena->cursor = 1;
    if (arena->cursor < arena->made
        && chunk_spare (&arena->chunks[arena->cursor]))
      released += release_chunk (arena, arena->cursor);
    if (i % slice == slice - 1) {
      pthread_mutex_unlock (&arena->lock);
      pthread_mutex_lock (&arena->lock);
    }
  }
  pthread_mutex_unlock (&arena->lock);
  return released;
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

    if (chunk->prev != prev || longest_run (chunk_free (chunk)) != bin) {
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
  uint32_t c, binned = 0;

  for (c = 1; c < arena->made; c++) {
    const struct arena_chunk *chunk = &arena->chunks[c];

    used += __builtin_popcount (chunk->used);
    resident += __builtin_popcount (chunk->resident);
    if (chunk->used & ~chunk->resident)
      faults++, fprintf (report, "%s: chunk %" PRIu32 ": used units %x "
                         "are not all resident (%x)\n",
                         name, c, chunk->used, chunk->resident);
    binned += chunk_free (chunk) != 0;
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
  if (used != arena->used)
    faults++, fprintf (report, "%s: %" PRIu64 " units used, counter says "
                       "%" PRIu64 "\n", name, used, arena->used);
  if (resident != arena->resident)
    faults++, fprintf (report, "%s: %" PRIu64 " units resident, counter says "
                       "%" PRIu64 "\n", name, resident, arena->resident);
  return faults;
}
