/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* How large the part is depends on the policy.  The age of a page should
 * tell lru and mfu when it was used in the time that it takes to replace all
 * of RAM.  For smq it is merely a bit, used or not in a period, and the
 * shorter a period is the more the bit says.
 */

#include <config.h>

#include "memory.h"
#include "store.h"

#define PART 4
#define PART_SMQ 16

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
  unsigned part = memory->policy == ZRAM_POLICY_SMQ ? PART_SMQ : PART;
  struct zram_store *store;

  if (memory->tiers.nr == 0
      || turnover (memory) - t->aged <= pages_in_ram (memory) / part)
    return;
  for (store = memory->stores; store; store = store->next)
    if (!aging_can_hurry (store))
      return;                   /* the next round tries again */
  for (store = memory->stores; store; store = store->next)
    aging_hurry (store);
  t->aged = turnover (memory);
  t->era++;
}
