/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* How long ago pages were used, and what is done with those that are
 * idle.
 */

#ifndef AGING_H
#define AGING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "slot.h"

struct zram_store;

/* Each walk makes pages one older, up to this age, at which they are
 * idle.  There are so many walks, less one, in the time after which a page
 * is to be idle; what it was used in the middle of does not count.
 */
#define AGING_IDLE 5

struct aging {
  bool walking, adding;         /* a walk goes on; it makes pages older */
  bool young_only;              /* ...but only those used since the last one */
  bool young;                   /* it has met pages that are not idle yet */
  bool wanted;                  /* walk soon, and add nothing */
  uint64_t ticket;              /* for the grace period before a walk */
  uint64_t page;                /* where it goes on */
  uint64_t next;                /* ns: when the next one begins... */
  uint64_t next_urgent;         /* ...if nothing else is urgent */
  _Atomic bool touched;         /* a page was used since a walk began */
  _Atomic uint64_t left;        /* pages that have left a group, ever */
  uint64_t seen_left;           /* that at the last walk for their sake */
};

static inline bool
aging_is_idle (uint64_t word)
{
  return slot_age (word) >= AGING_IDLE;
}

/* Whether the page is being written back (writeback.c).  Its object may be
 * moved but must not be exchanged for another: the codec that made it, and
 * that its record will name, must not lose it.
 */
static inline bool
aging_is_pending (uint64_t word)
{
  return slot_has_object (word) && slot_age (word) > AGING_IDLE;
}

/* A page is young that says WORD.  Called on the way of each request, and
 * before it leaves the epoch.
 */
static inline void
aging_note (struct aging *aging, uint64_t word)
{
  if (slot_has_age (word) && !aging_is_idle (word)
      && !atomic_load_explicit (&aging->touched, memory_order_relaxed))
    atomic_store_explicit (&aging->touched, true, memory_order_relaxed);
}

/* Walk on until END (ns), and regroup what is idle unless BUSY.  True if
 * there is more to do at once.  *LATER becomes true if there will be.
 */
bool aging_walk (struct zram_store *, uint64_t end, bool busy, bool *later);

/* Time has gone by: make pages older now, or YOUNG_ONLY those that were used
 * since the last walk.  False if that cannot be yet (aging.c); it can be asked
 * before.
 */
bool aging_can_hurry (const struct zram_store *);
bool aging_hurry (struct zram_store *, bool young_only);

/* Make all pages idle that were not used for AGE seconds, as far as that is
 * known, and have them walked over soon.
 */
void aging_mark_idle (struct zram_store *, unsigned age);

#endif /* AGING_H */
