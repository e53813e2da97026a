/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The arena: a range of address space that is handed out in runs of
 * 4 KiB units, and the record of which of them hold memory.
 */

#ifndef ARENA_H
#define ARENA_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "limit.h"

#define ARENA_UNIT 4096

/* A chunk is 64 KiB.  No run crosses from one chunk into the next. */
#define ARENA_CHUNK_UNITS 16

struct arena_chunk;

/* See arena_reserve. */
struct arena_reserve {
  _Atomic uint32_t target;      /* chunks; 0: there is no reserve */
  _Atomic uint32_t filled;      /* whole free chunks that hold memory */
  _Atomic uint32_t low;         /* the least that `filled' has been */
  uint32_t waiting;             /* threads that wait for an answer */
  uint32_t answers;             /* how often there was one... */
  _Atomic int error;            /* ...and the last errno, or 0 */
  _Atomic uint64_t waits;       /* allocations that waited for memory */
  pthread_cond_t answered;
  void (*wake) (void *opaque);  /* calls the keeper */
  void *opaque;
};

struct arena {
  pthread_mutex_t lock;         /* covers all that is below it */
  struct limit *limit;
  unsigned char *base;
  uint64_t size;                /* bytes of address space */
  size_t record_size;           /* bytes charged per chunk for records */

  struct arena_chunk *chunks;
  void *records;                /* the caller's, see arena_init */
  uint32_t nr_chunks;
  uint32_t made;                /* chunks below this have been used */
  uint32_t cursor;              /* where arena_release goes on */

  /* Chunks by the length of their longest free run; heads of lists, and
   * a bit for each list that is not empty.  Full chunks are on none.
   */
  uint32_t bins[ARENA_CHUNK_UNITS + 1];
  uint32_t bin_map;
  struct arena_reserve reserve;

  /* Changed under the lock, but read by anybody. */
  _Atomic uint64_t used;        /* units handed out */
  _Atomic uint64_t used_max;
  _Atomic uint64_t resident;    /* units that hold memory, used or not */
};

/* Reserve SIZE bytes of address space (a multiple of the chunk), and
 * RECORD_SIZE bytes for what the caller wants to write down of each chunk:
 * `records' is an array of as many.  They are charged along with the
 * arena's own records.  -1 and errno on failure.
 */
int arena_init (struct arena *, struct limit *, uint64_t size,
                size_t record_size);
void arena_destroy (struct arena *);

/* Take a run of UNITS (1 to 16) contiguous units.  Returns the number of
 * the first one, or 0 and errno: ENOSPC if the limit is reached, ENOMEM
 * if the address space is used up.  The contents are undefined.
 */
uint32_t arena_alloc (struct arena *, unsigned units);

/* The same, but with a reserve it does not wait: EAGAIN. */
uint32_t arena_try_alloc (struct arena *, unsigned units);

/* Give back a run, or any part of one.  Its memory stays resident until
 * arena_release takes it.
 */
void arena_free (struct arena *, uint32_t unit, unsigned units);

/* Return the memory of free units to the system until at most KEEP
 * bytes of it are left.  Returns the number of bytes returned.
 */
uint64_t arena_release (struct arena *, uint64_t keep);

/* ---- The reserve --------------------------------------------------- */

/* Keep BYTES (a multiple of the chunk) in whole free chunks that hold
 * memory.  From now on arena_alloc hands out nothing but units that hold
 * memory.  Where there are none it waits for arena_refill or arena_free,
 * and fails only if the former did (with errno).  WAKE is called when it is
 * time to refill; the arena's lock is held then.  BYTES = 0 ends all this,
 * and lets all go who wait.
 */
void arena_set_reserve (struct arena *, uint64_t bytes,
                        void (*wake) (void *), void *opaque);

/* Add one chunk to the reserve.  Faults its memory in, and what is
 * written down of it, and holds no lock meanwhile.  1: done.  0: the
 * reserve is full.  -1 and errno: ENOSPC if the limit is reached, ENOMEM
 * if the address space is used up, and those who wait are told; EAGAIN if
 * the system has no memory, and they go on waiting.  For one thread at a
 * time.
 */
int arena_refill (struct arena *);

/* Whether more than half of the reserve is gone; and whether it is, and is
 * coming back (at the limit it does not).  Neither takes a lock.
 */
bool arena_is_low (const struct arena *);
bool arena_is_short (const struct arena *);

/* In bytes: what there should be in reserve, what there is, and the least
 * that there has been since it was full for the first time.  Takes no lock.
 */
struct arena_reserve_stats {
  uint64_t target, filled, low;
  uint64_t waits;               /* allocations that waited for memory */
};
void arena_reserve_stats (const struct arena *, struct arena_reserve_stats *);

/* ---- Questions ----------------------------------------------------- */

/* Bytes handed out, the most that ever were, and bytes resident.  None
 * of these takes a lock.
 */
uint64_t arena_used (const struct arena *);
uint64_t arena_used_max (const struct arena *);
uint64_t arena_resident (const struct arena *);

/* Free memory that is not in reserve, in bytes. */
uint64_t arena_unreserved (const struct arena *);

/* The number of units below which all that were ever used lie. */
uint32_t arena_end (struct arena *);

/* Whether a unit has been handed out.  For the validator. */
bool arena_is_used (struct arena *, uint32_t unit);

/* The validator: lines to REPORT, the number of faults returned. */
unsigned arena_check (struct arena *, const char *name, FILE *report);

static inline void *
arena_pointer (const struct arena *arena, uint64_t offset)
{
  return arena->base + offset;
}

#endif /* ARENA_H */
