/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Publishing: a segment is written, and the slots of what is in it come to
 * name it.
 *
 * All locks are free while the storage is written.  Then each slot that
 * still has the age that it got when its page was gathered names the
 * record.  Whoever has used the page meanwhile has made it young: it stays
 * in RAM, and its record is dead from the start.  A page that is moved from
 * tier to tier, or within one, may have been read meanwhile.  If that has
 * brought it back it leaves the copy that it has where it was: a segment that
 * is cleaned must be free then, since a tier may have only one to spare.
 *
 * A tier that cannot be written costs nothing but its room: the objects
 * are still where they were.
 */

#include <config.h>

#include <sched.h>
#include <string.h>

#include "memory.h"
#include "store.h"
#include "writeback-work.h"

/* Where entries are going. */
struct target {
  struct zram_memory *memory;
  struct tier *tier;
  uint32_t segment;
};

static void
seal (struct writeback_work *work, const struct tier *tier, uint32_t segment)
{
  unsigned i;

  for (i = 0; i < work->nr; i++) {
    const struct entry *e = &work->entries[i];

    if (i == 0 || e->offset != work->entries[i - 1].offset)
      tier_seal (tier, segment, e->offset,
                 (void *) (work->segment + e->offset));
  }
}

/* What a slot is to say. */
static uint64_t
target_word (const struct target *t, const struct entry *e)
{
  return slot_word_tier (e->state, slot_codec (e->word), t->tier->number,
                         t->segment, e->offset, e->length);
}

/* The same for one that says WORD now, if the page is still the same; 0 if
 * not.  An object that was in RAM may have been moved, but was not
 * used if it is as PENDING as it was.
 */
static uint64_t
published (const struct target *t, const struct entry *e, uint64_t word)
{
  uint64_t new = target_word (t, e);

  if (!slot_on_tier (e->word))
    return aging_is_pending (word) && slot_age (word) == slot_age (e->word)
      ? slot_word_aged (new, AGING_IDLE) : 0;
  return slot_word_aged (word, 0) == slot_word_aged (e->word, 0)
    ? slot_word_aged (new, slot_age (word)) : 0;
}

/* What was on this tier before was cleaned, and did not come to it. */
static void
count (const struct target *t, struct zram_store *store, uint64_t old,
       uint64_t new)
{
  page_replaced (store, old, new);
  stats_add (&store->stats, STATS_BD_WRITES, 1);
  if (slot_on_tier (old) && slot_tier (old) == t->tier->number)
    return;
  t->memory->writeback.work->gone += !slot_on_tier (old);
  atomic_fetch_add (&t->tier->bytes_in, slot_is_alone (old)
                    ? slot_size (old)
                    : tier_weight (new) * TIER_RECORD_ALIGN);
}

/* A page that was on a tier has come back: it has no copy there any more. */
static void
leave_copy (struct zram_store *store, slot *s, uint64_t was)
{
  uint64_t word = slot_peek (s);

  while (slot_state (word) == SLOT_CLEAN
         && !page_drop_copy (store, s, word, slot_tier (was),
                             slot_segment (was))) {
    sched_yield ();             /* it is locked for a moment */
    word = slot_peek (s);
  }
}

/* The slot of a page, if that is still the same, names the record.  What is
 * on a tier is wanted out of its segment, so a lock is waited for.
 */
static bool
publish (const struct target *t, const struct entry *e)
{
  struct zram_store *store = writeback_find_store (t->memory, e->store);
  slot *s = store ? slots_find (&store->slots, e->page) : NULL;
  uint64_t old, new;

  while (s) {
    old = slot_peek (s);
    new = published (t, e, old);
    if (new == 0) {
      if (slot_on_tier (e->word))
        leave_copy (store, s, e->word);
      return false;
    }
    tier_enter (&t->memory->tiers, new);
    if (slot_try_change (s, old, new)) {
      count (t, store, old, new);
      return true;
    }
    tier_leave (&t->memory->tiers, new);
    if (!slot_on_tier (old))
      return false;
    sched_yield ();
  }
  return false;
}

/* What has not left RAM after all is merely idle again. */
static void
take_back (struct zram_memory *memory, const struct entry *e)
{
  struct zram_store *store = writeback_find_store (memory, e->store);
  slot *s = store ? slots_find (&store->slots, e->page) : NULL;
  uint64_t word = s ? slot_peek (s) : 0;

  while (aging_is_pending (word)
         && !slot_try_change (s, word, slot_word_aged (word, AGING_IDLE))) {
    sched_yield ();             /* it is locked for a moment */
    word = slot_peek (s);
  }
}

void
publish_nothing (struct zram_memory *memory)
{
  struct writeback_work *work = memory->writeback.work;
  epoch_token *token;
  unsigned i;

  pthread_mutex_lock (&memory->lock);
  for (i = 0; i < work->nr; i++) {
    token = epoch_enter (&memory->table.epoch);
    take_back (memory, &work->entries[i]);
    epoch_leave (token);
  }
  pthread_mutex_unlock (&memory->lock);
  work->nr = 0;
}

/* What slots would name in a full segment of such records.  (It can be full
 * of entries.)
 */
static unsigned
full_weight (const struct target *t, size_t size)
{
  const struct writeback_work *work = t->memory->writeback.work;
  uint64_t sum = 0;
  unsigned i;

  for (i = 0; i < work->nr; i++)
    sum += tier_weight (target_word (t, &work->entries[i]));
  if (work->full || size == 0)
    return sum;
  return sum * t->tier->segment_size / size;
}

static void
publish_all (const struct target *t)
{
  struct writeback_work *work = t->memory->writeback.work;
  epoch_token *token;
  unsigned i;

  pthread_mutex_lock (&t->memory->lock);
  for (i = 0; i < work->nr; i++) {
    token = epoch_enter (&t->memory->table.epoch);
    work->moved += publish (t, &work->entries[i]);
    epoch_leave (token);
  }
  pthread_mutex_unlock (&t->memory->lock);
}

bool
publish_segment (struct zram_memory *memory, struct tier *tier,
                 uint32_t segment)
{
  const struct target t = { memory, tier, segment };
  struct writeback_work *work = memory->writeback.work;
  size_t size = (work->used + TIER_BLOCK - 1) / TIER_BLOCK * TIER_BLOCK;
  bool ok;

  seal (work, tier, segment);
  ok = tier_write_segment (&memory->tiers, tier, segment, work->segment, size);
  if (ok)
    publish_all (&t);
  tier_close_segment (tier, segment, full_weight (&t, size));
  return ok;
}
