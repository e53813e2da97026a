/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* From slots to clusters, and back. */

#include <config.h>

#include <stdlib.h>

#include "memory.h"
#include "policy.h"
#include "store.h"
#include "writeback-work.h"

#define CLUSTER_PAGES GROUP_PAGES_MAX

/* A cluster counts as used where so many of its pages were used lately (are
 * younger than those are kept that may come back, aging.c); and where so many
 * were, its pages come back for one use if it is hot.  Where there are fewer,
 * a page or two are all that is hot, which their own ages tell, and the others
 * are not worth the memory.
 */
#define YOUNG_USED 5
#define YOUNG_HOT 8

/* Clusters leave from so many of the lowest levels, all but those of their
 * pages that are younger than that.  In a period, about as much leaves; if
 * more must, the ages of pages decide.
 */
#define LEVELS_LEAVE (SMQ_LEVELS / 16)
#define AGE_LEAVES 3

/* More clusters than this (4 TiB) are not told apart. */
#define CLUSTERS_MAX (UINT64_C (1) << 26)

/* So many clusters leave in the order of their pages. */
#define BATCH 32

static uint64_t
nr_clusters (const struct zram_store *store)
{
  uint64_t clusters = (store->slots.nr_pages - 1) / CLUSTER_PAGES + 1;

  return clusters < CLUSTERS_MAX ? clusters : CLUSTERS_MAX;
}

int
policy_init (struct zram_store *store)
{
  struct policy *p = &store->policy;

  if (store->memory->policy != ZRAM_POLICY_SMQ)
    return 0;
  if (smq_init (&p->smq, &store->memory->limit, nr_clusters (store)) == -1)
    return -1;
  p->on = true;
  /* Where no memory must be asked for later, all of it comes now. */
  if (store->memory->reserve && policy_reserve (store) == -1) {
    policy_destroy (store);
    return -1;
  }
  return 0;
}

int
policy_reserve (struct zram_store *store)
{
  return store->policy.on
    ? smq_reserve (&store->policy.smq, nr_clusters (store)) : 0;
}

void
policy_destroy (struct zram_store *store)
{
  if (store->policy.on)
    smq_destroy (&store->policy.smq);
}

uint64_t
policy_charged (const struct zram_store *store)
{
  return store->policy.on ? smq_charged (&store->policy.smq) : 0;
}

/* ---- Periods ------------------------------------------------------- */

/* One that was broken off goes on. */
void
policy_begin_walk (struct zram_store *store)
{
  struct policy *p = &store->policy;

  if (p->on && !p->walking)
    smq_begin_period (&p->smq);
  p->walking = true;
}

static unsigned
flags_of (uint64_t word)
{
  unsigned flags = 0;

  if (slot_has_object (word))
    flags = SMQ_IN_RAM;
  else if (slot_on_tier (word))
    flags = SMQ_ON_TIER;
  if (flags && slot_age (word) == 0)
    flags |= SMQ_USED;
  return flags;
}

bool
policy_visit (struct zram_store *store, const slot *s, uint64_t page)
{
  unsigned flags = 0, young = 0, i;

  if (!store->policy.on)
    return false;
  for (i = 0; i < CLUSTER_PAGES; i++) {
    uint64_t word = slot_peek (&s[i]);

    flags |= flags_of (word);
    young += flags_of (word) && slot_age (word) < AGING_IDLE - 1;
  }
  if (young < YOUNG_USED)
    flags &= ~SMQ_USED;
  return flags
    && smq_visit (&store->policy.smq, page / CLUSTER_PAGES, flags)
    && young >= YOUNG_HOT;
}

void
policy_end_walk (struct zram_store *store)
{
  struct policy *p = &store->policy;

  if (p->on && p->walking)
    smq_end_period (&p->smq);
  p->walking = false;
}

/* ---- Out ----------------------------------------------------------- */

static int
compare (const void *a, const void *b)
{
  uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

  return x < y ? -1 : x > y;
}

/* All of a cluster but what is young. */
static void
gather_cluster (struct writeback_work *work, struct zram_store *store,
                uint64_t key)
{
  struct wanted wanted = {
    .page = key * CLUSTER_PAGES, .end = (key + 1) * CLUSTER_PAGES,
    .age = AGE_LEAVES, .choice = CHOICE_COLDEST, .left = UINT64_MAX,
  };

  if (wanted.end > store->slots.nr_pages)
    wanted.end = store->slots.nr_pages;
  gather_in_store (work, &wanted, store);
  if (wanted.page < wanted.end)
    smq_keep (&store->policy.smq, key);
  else if (wanted.left < UINT64_MAX)    /* otherwise the next visit keeps it */
    smq_left (&store->policy.smq, key);
}

/* False if there are no more. */
static bool
gather_batch (struct writeback_work *work, struct zram_store *store)
{
  uint64_t keys[BATCH];
  unsigned n = 0, i;

  while (n < BATCH
         && smq_coldest (&store->policy.smq, LEVELS_LEAVE, &keys[n]))
    n++;
  qsort (keys, n, sizeof keys[0], compare);
  for (i = 0; i < n; i++)
    gather_cluster (work, store, keys[i]);
  return n == BATCH;
}

void
policy_gather (struct zram_memory *memory, struct writeback_work *work)
{
  struct zram_store *store;

  for (store = memory->stores; store; store = store->next)
    while (store->policy.on && !gather_is_enough (work)
           && gather_batch (work, store))
      ;
}
