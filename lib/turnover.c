/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* How large the part is depends on the policy.  The age of a page should tell
 * lru when it was used in the time that it takes to replace all of RAM; and mfu
 * how often, so what is just worth its memory should be used about as often as
 * it becomes older.  smq wants to know besides which clusters were used in a
 * period, and the shorter a period is the more that says.  So there are more
 * walks, of which only one in some makes all pages older.
 */

#include <config.h>

#include "memory.h"
#include "store.h"

static const unsigned parts[ZRAM_NR_POLICIES] = {
  [ZRAM_POLICY_LRU] = 4, [ZRAM_POLICY_MFU] = 1, [ZRAM_POLICY_SMQ] = 16,
};
#define WALKS_SMQ 3

/* Pages whose objects are in RAM. */
static uint64_t
pages_in_ram (const struct zram_memory *memory)
{
  const struct zram_store *store;
  uint64_t n = 0;

  for (store = memory->stores; store; store = store->next)
    n += stats_read (&store->stats, STATS_PAGES)
      - stats_read (&store->stats, STATS_SAME)
      - stats_read (&store->stats, STATS_BD_COUNT);
  return n;
}

/* Pages that have left RAM and been read from tiers, ever.  (`gone' has what
 * stores have read that are closed.)
 */
static uint64_t
turnover (const struct zram_memory *memory)
{
  const struct zram_store *store;
  uint64_t n = memory->turnover.gone;

  for (store = memory->stores; store; store = store->next)
    n += stats_read (&store->stats, STATS_BD_READS);
  return n;
}

void
turnover_add (struct zram_memory *memory, uint64_t pages)
{
  memory->turnover.gone += pages;
}

void
turnover_pass_time (struct zram_memory *memory)
{
  struct turnover *t = &memory->turnover;
  bool young_only = memory->policy == ZRAM_POLICY_SMQ
    && t->walks % WALKS_SMQ != 0;
  struct zram_store *store;

  if (memory->tiers.nr == 0
      || turnover (memory) - t->walked <= pages_in_ram (memory)
                                      / parts[memory->policy])
    return;
  for (store = memory->stores; store; store = store->next)
    if (!aging_can_hurry (store))
      return;                   /* the next round tries again */
  for (store = memory->stores; store; store = store->next)
    aging_hurry (store, young_only);
  t->walked = turnover (memory);
  t->walks++;
  t->era += !young_only;
}
