/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* What stores share, as one object: see zram.h. */

#ifndef MEMORY_H
#define MEMORY_H

#include <pthread.h>
#include <stdbool.h>

#include "codec.h"
#include "dictionary.h"
#include "keeper.h"
#include "limit.h"
#include "pool.h"
#include "regroup.h"
#include "table.h"
#include "tier.h"
#include "turnover.h"
#include "worker.h"
#include "writeback.h"
#include "zram.h"

struct zram_memory {
  struct limit limit;
  struct table table;
  struct pool pool;
  struct codecs *codecs;
  uint64_t codecs_charged;      /* bytes */
  struct regroup regroup;
  unsigned background_cpu;      /* percent of one processor... */
  uint64_t overdrawn;           /* ...and ns that ticks had above it */
  enum zram_policy policy;
  struct tiers tiers;
  struct writeback writeback;
  _Atomic bool interrupted;     /* no moving by hand any more */
  struct worker worker;
  struct keeper keeper;
  uint64_t reserve;             /* bytes, while the threads run */
  bool worker_has_stack;        /* in memory, as it must with a reserve */
  pthread_mutex_t reclaiming;   /* one thread returns memory at a time */

  /* While it is held no store comes or goes, and the table of codecs is the
   * holder's to charge.  Before `lock'.  Who has it may ask the system for
   * memory and wait for that, and so nobody takes it for whom a request could
   * be waiting.
   */
  pthread_mutex_t training;

  /* Covers the list, and what background work keeps in its stores.  A writer at
   * the limit waits for who writes back, who takes it: with a reserve nobody
   * asks the system for memory who has it.
   */
  pthread_mutex_t lock;
  struct zram_store *stores;
  uint32_t last_store;          /* the number of the newest */
  struct dictionary_retired retired;
  struct turnover turnover;
  uint64_t compressed;          /* pages, at the end of the last tick */
  uint64_t read;                /* the same; see codecs_read */
};

/* Charge what contexts and dictionaries have grown by, or uncharge what
 * they have shrunk by.  False if the limit forbids.
 */
bool memory_charge_codecs (struct zram_memory *);

/* Memory below the limit that requests can have: what is not resident, and
 * what is but is not used.
 */
uint64_t memory_available (struct zram_memory *);

/* A portion of background work.  OPAQUE is the memory; true if there may
 * be more to do.
 */
bool memory_tick (void *opaque);

/* An allocation failed (errno says why) that was begun when limit_freed
 * said FREED.  Free memory that nobody uses; true if there is some now,
 * by us or by others, so that it is worth trying again.  errno stands.
 * Locks of slots may be held, but none of the pool's.
 */
bool memory_reclaim (struct zram_memory *, uint64_t freed);

/* Objects were freed: compact, moving at most so many others, and return
 * what that has freed to the system.
 */
void memory_tidy (struct zram_memory *, unsigned budget);

/* Wait until leaves that were retired are free.  True if there were any.
 * The caller must not be inside the epoch.
 */
bool memory_wait_for_leaves (struct zram_memory *);

#endif /* MEMORY_H */
