/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The validator's part for tiers: what segments and tiers count, against what
 * slots name.
 */

#include <config.h>

#include <inttypes.h>

#include "tier.h"

static unsigned
check_segment (const struct tier *tier, uint32_t n,
               const struct tier_named *named, FILE *report)
{
  const struct segment *segment = &tier->segments[n];
  unsigned faults = 0;

  if (segment->live != named->live || segment->weight != named->weight)
    faults++, fprintf (report, "tier %u, segment %" PRIu32 ": %" PRIu32
                       " pages of weight %" PRIu32 ", counters say %" PRIu32
                       " and %u\n", tier->number, n, named->live,
                       named->weight, segment->live, segment->weight);
  if (segment->live && segment->state != SEGMENT_FULL)
    faults++, fprintf (report, "tier %u, segment %" PRIu32 ": has pages in "
                       "state %u\n", tier->number, n, segment->state);
  return faults;
}

/* A list of segments that are free. */
static unsigned
check_list (const struct tier *tier, const char *name, uint32_t first,
            uint32_t nr, FILE *report)
{
  unsigned faults = 0;
  uint32_t i, found = 0;

  for (i = first; i && found <= nr; i = tier->segments[i].next, found++)
    if (tier->segments[i].state != SEGMENT_FREE)
      faults++, fprintf (report, "tier %u, segment %" PRIu32 ": is in the "
                         "%s list\n", tier->number, i, name);
  if (found != nr)
    faults++, fprintf (report, "tier %u: %" PRIu32 " segments are %s, "
                       "counter says %" PRIu32 "\n", tier->number, found,
                       name, nr);
  return faults;
}

static unsigned
check_tier (struct tier *tier, const struct tier_named *named,
            uint64_t copies, FILE *report)
{
  unsigned faults = 0;
  uint64_t live = 0, weight = 0;
  uint32_t i, abandoned = 0;

  for (i = 1; i < tier->nr_segments; i++) {
    faults += check_segment (tier, i, &named[i], report);
    abandoned += tier->segments[i].state == SEGMENT_ABANDONED;
    live += named[i].live;
    weight += named[i].weight;
  }
  if (tier->pages + copies != live || tier->copies != copies
      || tier->weight != weight)
    faults++, fprintf (report, "tier %u: %" PRIu64 " pages, %" PRIu64
                       " of them clean, of weight %" PRIu64 ", counters say %"
                       PRIu64 ", %" PRIu64 " and %" PRIu64 "\n",
                       tier->number, live, copies, weight,
                       tier->pages + tier->copies, tier->copies,
                       tier->weight);
  if (abandoned != tier->nr_abandoned)
    faults++, fprintf (report, "tier %u: %" PRIu32 " segments are abandoned, "
                       "counter says %" PRIu32 "\n", tier->number, abandoned,
                       tier->nr_abandoned);
  faults += check_list (tier, "free", tier->free, tier->nr_free, report);
  faults += check_list (tier, "bad", tier->bad, tier->nr_bad, report);
  return faults;
}

unsigned
tiers_check (struct tiers *tiers, struct tier_named *const *named,
             const uint64_t *copies, FILE *report)
{
  unsigned i, n, faults = 0;

  for (i = 0; i < tiers->nr; i++) {
    n = tiers->order[i]->number;
    faults += check_tier (tiers->order[i], named[n], copies[n], report);
  }
  return faults;
}
