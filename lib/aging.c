/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The age of a page stands in its slot, and counts the walks since the
 * page was last used.  There are no lists: a request that uses a page sets
 * the age to 0 in a word that it writes anyway, and takes no lock for it.
 *
 * A walk goes over all slots, leaf by leaf.  It adds one to ages below
 * AGING_IDLE, and has runs of idle pages regrouped.  What is idle already
 * is not written again, so of a store that nobody uses only the slots are
 * read: 2 MiB for a GiB of pages.  When a walk has met nothing that is
 * still growing older there are no more walks until a request comes.
 *
 * While writers are busy, pages grow older but are not regrouped.  Whether
 * a run is worth regrouping can be seen from its slots alone, so the next
 * walk comes back to it.
 *
 * A walk begins when all requests are over that were going on when the
 * one before it began, or when pages were marked as idle.  That alone does
 * not make sure that whoever has read a page, and then finds its slot saying
 * the same, has the same page: pages that could not be written back, and for
 * mfu those that are written, are idle sooner, and groups can come to lie
 * where others were.  So groups have a number (page_leave_group).
 *
 * Locks: none; slots are only tried.  All of this is the background
 * thread's.
 */

#include <config.h>

#include "aging.h"
#include "clock.h"
#include "regroup.h"
#include "store.h"

/* The least time between two walks for what has left its group. */
#define URGENT_NS CLOCK_SECOND

/* Between two walks that make pages older. */
static uint64_t
period_ns (const struct zram_store *store)
{
  return store->memory->regroup.age_ns / (AGING_IDLE - 1);
}

static void
start_walk (struct zram_store *store, bool adding, uint64_t now)
{
  struct aging *a = &store->aging;

  a->walking = true;
  a->adding = adding;
  a->young_only = false;
  a->young = a->wanted = false;
  a->page = 0;
  a->ticket = epoch_ticket (&store->memory->table.epoch);
  atomic_store (&a->touched, false);
  if (!adding)
    return;
  a->next = now + period_ns (store);
  policy_begin_walk (store);
}

/* Near the limit, what has left its group and still takes its space is
 * wanted back at once.
 */
static bool
is_urgent (struct zram_store *store, uint64_t now)
{
  struct aging *a = &store->aging;
  uint64_t left = atomic_load_explicit (&a->left, memory_order_relaxed);

  if (left == a->seen_left || now < a->next_urgent
      || !limit_is_near (&store->memory->limit))
    return false;
  a->seen_left = left;
  a->next_urgent = now + URGENT_NS;
  return true;
}

/* Whether there is a walk to go on with. */
static bool
is_due (struct zram_store *store)
{
  struct aging *a = &store->aging;
  uint64_t now = clock_ns ();

  if (a->walking)
    return true;
  if (!epoch_passed (&store->memory->table.epoch, a->ticket))
    return false;
  if (now >= a->next && !a->wanted)
    start_walk (store, true, now);
  else if (a->wanted || is_urgent (store, now))
    start_walk (store, false, now);
  return a->walking;
}

/* HOT: on a tier it gets no older than what comes back when it is read. */
static void
age_slot (struct aging *a, slot *s, bool hot)
{
  uint64_t word = slot_peek (s);
  unsigned age = slot_age (word);
  unsigned older = age + (a->adding && (age == 0 || !a->young_only));

  hot = hot && slot_on_tier (word);
  if (!slot_has_age (word) || (aging_is_idle (word) && !hot))
    return;
  if (hot && older > AGING_IDLE - 1)
    older = AGING_IDLE - 1;
  a->young |= !hot;
  if (older != age)
    slot_try_change (s, word, slot_word_aged (word, older));
}

static void
age_cluster (struct zram_store *store, slot *s, uint64_t page, uint64_t nr)
{
  struct aging *a = &store->aging;
  bool hot = a->adding && policy_visit (store, s, page);
  uint64_t i;

  for (i = 0; i < nr; i++)
    age_slot (a, &s[i], hot);
}

/* False if there was no time left. */
static bool
walk_leaf (struct zram_store *store, slot *s, uint64_t span, bool busy,
           uint64_t end)
{
  struct aging *a = &store->aging;
  uint64_t i;

  for (i = 0; i < span; i += GROUP_PAGES_MAX) {
    age_cluster (store, &s[i], a->page + i,
                 span - i < GROUP_PAGES_MAX ? span - i : GROUP_PAGES_MAX);
    if (busy || store->memory->regroup.pages == 0)
      continue;
    if (regroup_run (store, &s[i], span - i) && clock_ns () >= end) {
      a->page += i + GROUP_PAGES_MAX;
      return false;
    }
  }
  a->page += span;
  return clock_ns () < end;
}

/* The epoch is entered for one leaf at a time. */
static bool
walk_on (struct zram_store *store, bool busy, uint64_t end)
{
  epoch_token *token = epoch_enter (&store->memory->table.epoch);
  uint64_t span;
  slot *s = slots_step (&store->slots, store->aging.page, &span);
  bool more = true;

  if (s)
    more = walk_leaf (store, s, span, busy, end);
  else
    store->aging.page += span;
  epoch_leave (token);
  return more;
}

bool
aging_walk (struct zram_store *store, uint64_t end, bool busy, bool *later)
{
  struct aging *a = &store->aging;

  if (store->memory->regroup.pages == 0 && store->memory->tiers.nr == 0)
    return false;
  if (is_due (store)) {
    while (a->page < store->slots.nr_pages && walk_on (store, busy, end))
      ;
    a->walking = a->page < store->slots.nr_pages;
    if (!a->walking) {
      if (a->adding)
        policy_end_walk (store);
      regroup_end (store->memory);
    }
    a->young |= busy;
  }
  *later |= a->young || atomic_load (&a->touched);
  return a->walking || a->wanted;
}

bool
aging_can_hurry (const struct zram_store *store)
{
  return store->aging.walking
    || epoch_passed (&store->memory->table.epoch, store->aging.ticket);
}

static void
start_hurried (struct zram_store *store, bool young_only)
{
  struct aging *a = &store->aging;
  uint64_t next = a->next;
  bool wanted = a->wanted;

  start_walk (store, true, clock_ns ());
  a->wanted = wanted;
  a->young_only = young_only;
  if (young_only)
    a->next = next;
}

/* A walk that goes on already may not make pages older; so another one
 * follows it soon.  Nobody gets idle by one for the young alone: it is no
 * reason to put off the next, nor one that is wanted for what is idle.
 */
bool
aging_hurry (struct zram_store *store, bool young_only)
{
  struct aging *a = &store->aging;
  bool later = false;

  if (!aging_can_hurry (store))
    return false;
  if (!a->walking)
    start_hurried (store, young_only);
  else if (!young_only)
    a->next = 0;
  aging_walk (store, UINT64_MAX, true, &later);
  return true;
}

/* The ages that pages have at least which were not used for so long.  One
 * of age N was used before N - 1 whole periods.
 */
static unsigned
least_age (const struct zram_store *store, unsigned seconds)
{
  uint64_t period = period_ns (store);
  uint64_t periods = (seconds * CLOCK_SECOND + period - 1) / period;

  if (seconds == 0)
    return 0;
  return periods + 1 < AGING_IDLE ? periods + 1 : AGING_IDLE;
}

void
aging_mark_idle (struct zram_store *store, unsigned age)
{
  unsigned least = least_age (store, age);
  uint64_t page, span, i;

  for (page = 0; page < store->slots.nr_pages; page += span) {
    epoch_token *token = epoch_enter (&store->memory->table.epoch);
    slot *s = slots_step (&store->slots, page, &span);

    for (i = 0; s && i < span; i++) {
      uint64_t word = slot_peek (&s[i]);

      if (slot_has_age (word) && slot_age (word) >= least)
        slot_try_change (&s[i], word, slot_word_aged (word, AGING_IDLE));
    }
    epoch_leave (token);
  }
  store->aging.walking = false;
  store->aging.wanted = true;
  store->aging.ticket = epoch_ticket (&store->memory->table.epoch);
}
