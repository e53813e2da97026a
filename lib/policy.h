/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* What a policy needs besides the ages of pages: for smq, the order of
 * clusters of 16 pages (smq.h).  One walk that makes pages older, all or those
 * that were just used, is one period, and tells which clusters were used in it;
 * so requests do nothing for it.
 *
 * Everything is called with memory->lock held, and does nothing for the
 * other policies.
 */

#ifndef POLICY_H
#define POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "slot.h"
#include "smq.h"

struct writeback_work;
struct zram_memory;
struct zram_store;

/* Of a store. */
struct policy {
  bool on;                      /* there is an smq */
  bool walking;                 /* in a period */
  struct smq smq;
};

/* -1 and errno on failure. */
int policy_init (struct zram_store *);
void policy_destroy (struct zram_store *);
uint64_t policy_charged (const struct zram_store *);

/* Have all memory that it can come to use; again after a fork.  -1 and errno on
 * failure.
 */
int policy_reserve (struct zram_store *);

/* A walk over all slots that makes pages older.  policy_visit takes the slots
 * of a cluster; true if what is on a tier of it shall come back when it is
 * read, even if that is only once.
 */
void policy_begin_walk (struct zram_store *);
bool policy_visit (struct zram_store *, const slot *s, uint64_t page);
void policy_end_walk (struct zram_store *);

/* Gather the coldest clusters of all stores. */
void policy_gather (struct zram_memory *, struct writeback_work *);

#endif /* POLICY_H */
