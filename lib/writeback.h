/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Writeback: objects leave RAM for a tier. */

#ifndef WRITEBACK_H
#define WRITEBACK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "lend.h"
#include "refresh.h"

struct writeback_work;
struct zram_memory;

struct writeback {
  struct zram_memory *memory;
  struct writeback_work *_Atomic work;  /* NULL: there are no tiers */
  pthread_mutex_t working;      /* one at a time uses it */
  struct refresh refresh;
  struct lend turns;            /* of those who write */

  pthread_t thread;
  bool started;                 /* known to starter and stopper only */
  bool wanted;                  /* there shall be a thread */
  _Atomic bool called;          /* somebody has asked for it */
  _Atomic bool insisting;       /* what is on its way leaves, read or not */
  _Atomic uint64_t pause;       /* ns: it is of no use until then */

  pthread_mutex_t lock;         /* covers what is below it */
  pthread_cond_t wake, done;
  bool running, quit;
  uint64_t rounds;              /* tries to free memory... */
  uint64_t successes;           /* ...and those that did */
};

void writeback_init (struct writeback *, struct zram_memory *);
void writeback_destroy (struct writeback *);

/* Make what the thread needs for segments of that size, at least; charged to
 * the limit.  Start and stop the thread, if that was done.  -1 and errno on
 * failure.
 */
int writeback_prepare (struct writeback *, size_t segment_size);
int writeback_start (struct writeback *);
void writeback_touch (struct writeback *);      /* after a fork */
void writeback_stop (struct writeback *);

/* Memory that is charged for it; and that would be, at most. */
uint64_t writeback_charged (const struct writeback *);
uint64_t writeback_size_max (void);

/* Memory is getting short: write something back.  Costs next to nothing
 * while it is not.
 */
void writeback_poke (struct writeback *);

/* Whether a page that is on its way out leaves although it is read. */
static inline bool
writeback_insists (const struct writeback *w)
{
  return atomic_load_explicit (&w->insisting, memory_order_relaxed);
}

/* Whether memory is so short. */
bool writeback_is_needed (struct writeback *);

/* While it is, those who write take turns, so that what has become free does
 * not have all of them compress at once, to no avail, and whoever reads still
 * finds a processor.  NO_TURN while it is not; or if there is a reserve: where
 * one waits for that to be filled, all others would wait with him.  The caller
 * may be inside the epoch, holds no lock, and waits for no storage until it
 * returns the turn.
 */
#define NO_TURN (-1)
int writeback_take_turn (struct writeback *);
void writeback_return_turn (struct writeback *, int turn);

/* Make segments free whose time has come.  True if there are others. */
bool writeback_poll (struct writeback *);

/* The same, for one who is `working'.  If there is no other room, wait for
 * it.
 */
void writeback_wait_for_segments (struct zram_memory *);

/* For one who is `working': clean tiers until one has room, if there
 * is anything to gain.
 */
void writeback_make_room (struct zram_memory *);

/* Wait until something was freed; false if nothing can be.  The caller
 * holds no lock and is not inside the epoch.
 */
bool writeback_wait (struct writeback *);

/* Whether there is memory although to wait for it was in vain: others have
 * freed it, by moving pages by hand, say.
 */
bool writeback_was_freed (struct writeback *);

#endif /* WRITEBACK_H */
