/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Compresses idle pages again, neighbours together (group.h). */

#ifndef REGROUP_H
#define REGROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "codec.h"
#include "group.h"
#include "slot.h"

/* Seconds after which a page is idle, if nobody says.  (Tiers want to
 * know as well.)
 */
#define REGROUP_AGE 60

struct regroup_work;
struct zram_memory;
struct zram_store;

/* What a memory has of it. */
struct regroup {
  unsigned pages;               /* that a group has, a power of two; 0: off */
  uint64_t age_ns;              /* after which a page is idle */
  struct zram_codec codec;
  int index;                    /* of the codec, or -1: not in use yet */
  struct regroup_work *work;    /* while there is any */
  uint64_t size;                /* of that, in bytes; 0: not known yet */
  uint64_t charged;             /* for it; stays if there is a limit */
  uint16_t births;              /* groups that were made, ever */
};

void regroup_init (struct regroup *, const struct zram_recompress *);

/* Regroup what is idle in a run of GROUP_PAGES_MAX slots (or NR, if these
 * are fewer).  The caller is inside the epoch.  True if this took time.
 */
bool regroup_run (struct zram_store *, slot *base, uint64_t nr);

/* If there is a limit, charge to it now what it will take: when there is
 * nothing left, it is most needed.  Where that would be too large a part
 * there will be no groups.
 */
void regroup_prepare (struct zram_memory *);

/* Free what it took to do it, at the end of a walk, and for good. */
void regroup_end (struct zram_memory *);
void regroup_destroy (struct zram_memory *);

/* Have that in memory, after a fork. */
void regroup_touch (struct zram_memory *);

#endif /* REGROUP_H */
