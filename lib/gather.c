/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Gathering: objects that are to leave RAM are copied to a segment.
 *
 * A walk over the slots in the order of pages, so that what is read
 * together lies together, copies the objects of pages that are wanted, each
 * under its slot's lock.  The slot remembers by an age that nothing else
 * has (PENDING) that this was done.  Pages that are CLEAN are on a tier
 * already, and leave at once.
 *
 * How old is old enough?  When memory is short, a whole walk that finds
 * little makes do with younger pages next time, down to those just used.
 * Huge pages leave earlier: they free most, and cost least to bring back.
 * Those that are idle leave before anything else, whatever the policy.
 *
 * Locks: memory.lock, so that no store goes away, and that no groups are
 * made meanwhile.
 */

#include <config.h>

#include <string.h>

#include "memory.h"
#include "store.h"
#include "writeback-work.h"

/* The age of a page that was gathered in the walk for an age.  No page gets
 * so old by itself.  If it is used meanwhile, a later walk of the same round
 * may gather it again, and then the first record must not pass for it.  For
 * the same reason what was chosen otherwise has an age that no walk gives.
 */
#define PENDING(age) (SLOT_AGE_MAX - AGING_IDLE + (age))
#define PENDING_CHOSEN(choice) (AGING_IDLE + (choice))

_Static_assert (PENDING_CHOSEN (CHOICE_HUGE) < PENDING (0),
                "ages are not given twice");

/* Huge pages are taken for so much older than they are. */
#define HUGE_OLDER 2

/* A round that gathers less than this part of a segment is not worth a walk.
 */
#define ENOUGH_PART 4

_Static_assert (sizeof (struct tier_record) + GROUP_OBJECT_MAX
                + TIER_PARITY_SIZE <= TIER_RECORD_MAX,
                "a group fits into a record");

/* ---- The segment --------------------------------------------------- */

void
writeback_clear (struct writeback_work *work, size_t room)
{
  work->room = room;
  work->nr = work->used = work->gone = work->moved = 0;
  work->gone_bytes = 0;
  work->full = false;
}

struct tier_record *
writeback_make_record (struct writeback_work *work, enum slot_state state,
                       unsigned length)
{
  size_t bytes = tier_length_bytes (state, length);
  struct tier_record *record = (void *) (work->segment + work->used);

  if (work->used + bytes > work->room || !writeback_has_entries (work)) {
    work->full = true;
    return NULL;
  }
  memset (record, 0, bytes);
  return record;
}

void
writeback_add_entry (struct writeback_work *work,
                     const struct zram_store *store,
                     uint64_t page, uint64_t word, enum slot_state state,
                     unsigned length)
{
  work->entries[work->nr++] = (struct entry) {
    .store = store->number, .state = state, .offset = work->used,
    .length = length, .page = page, .word = word,
  };
}

static void
finish_record (struct writeback_work *work, struct tier_record *record,
               const struct zram_store *store, uint64_t page, size_t size,
               enum slot_state state, unsigned length)
{
  record->store = store->number;
  record->page = page;
  record->state = state;
  record->size = size;
  work->used += tier_length_bytes (state, length);
}

struct zram_store *
writeback_find_store (struct zram_memory *memory, uint32_t number)
{
  struct zram_store *store = memory->stores;

  while (store && store->number != number)
    store = store->next;
  return store;
}

/* ---- One page ------------------------------------------------------ */

static uint64_t
pending (const struct wanted *wanted, uint64_t word)
{
  if (wanted->choice)
    return slot_word_aged (word, PENDING_CHOSEN (wanted->choice));
  return slot_word_aged (word, PENDING (wanted->age));
}

static bool
is_huge (uint64_t word)
{
  return slot_is_alone (word) && slot_codec (word) == CODEC_RAW;
}

static bool
is_wanted (const struct wanted *wanted, uint64_t word)
{
  int age = slot_age (word);

  if (!slot_has_object (word) || aging_is_pending (word)
      || (slot_is_alone (word) && slot_codec (word) == CODEC_PATTERN))
    return false;
  if (wanted->copies_only && slot_state (word) != SLOT_CLEAN)
    return false;
  if ((wanted->pages == ZRAM_PAGES_HUGE
       || wanted->pages == ZRAM_PAGES_HUGE_IDLE) && !is_huge (word))
    return false;
  if (wanted->pages == ZRAM_PAGES_INCOMPRESSIBLE && !is_huge (word)
      && !(slot_is_alone (word) && word & SLOT_SETTLED))
    return false;
  if (wanted->older_huge && is_huge (word))
    age += HUGE_OLDER;
  return age >= wanted->age;
}

/* A page that has an object of its own. */
static void
gather_page (struct writeback_work *work, struct wanted *wanted,
             struct zram_store *store, slot *s, uint64_t page, uint64_t word)
{
  unsigned length = tier_length (SLOT_TIER, slot_size (word));
  struct tier_record *record = writeback_make_record (work, SLOT_TIER, length);
  uint64_t new = pending (wanted, word);

  if (record == NULL || !slot_trylock (s, word))
    return;
  memcpy (record + 1, pool_object (&store->memory->pool, slot_offset (word)),
          slot_size (word));
  slot_unlock (s, new);
  writeback_add_entry (work, store, page, new, SLOT_TIER, length);
  finish_record (work, record, store, page, slot_size (word), SLOT_TIER,
                 length);
  wanted->left--;
}

/* One that is CLEAN. */
static void
let_go (struct writeback_work *work, struct wanted *wanted,
        struct zram_store *store, slot *s, uint64_t word)
{
  if (!page_go_back (store, s, word))
    return;
  work->gone++;
  work->gone_bytes += slot_size (word);
  wanted->left--;
}

/* ---- A group ------------------------------------------------------- */

/* Others may be leaving the group meanwhile.  `live' has no meaning on a
 * tier.
 */
static void
copy_group (struct group_header *to, const struct group_header *from)
{
  to->members = from->members;
  to->size = from->size;
  memcpy (to + 1, from + 1, from->size);
}

/* A group, seen from the first of its pages that is in it.  Pages that are
 * not wanted stay where they are.  The object may be moved, and another
 * group to where it was, as soon as it is not locked; but what names it now
 * and is in a group later is in this one, since groups are made only with
 * memory.lock held, as it is here.  (`live' alone does not tell: who has
 * overwritten a page may not have come to leaving the group yet.)
 */
static void
gather_group (struct writeback_work *work, struct wanted *wanted,
              struct zram_store *store, slot *s, uint64_t page, uint64_t word)
{
  const struct group_header *header
    = group_header (&store->memory->pool, slot_offset (word));
  slot *base = s - slot_place (word);
  uint64_t first = page - slot_place (word);
  struct tier_record *record;
  unsigned place, length, live, nr = work->nr;
  size_t size;

  if (!slot_trylock (s, word))
    return;
  live = atomic_load (&header->live) & group_named (base, slot_offset (word));
  size = sizeof *header + header->size;
  length = tier_length (SLOT_TIER_GROUP, size);
  record = writeback_make_record (work, SLOT_TIER_GROUP, length);
  if (record)
    copy_group ((struct group_header *) (record + 1), header);
  slot_unlock (s, word);
  if (record == NULL)
    return;
  for (place = slot_place (word); place < GROUP_PAGES_MAX && wanted->left;
       place++) {
    uint64_t w = slot_peek (&base[place]);
    uint64_t new = pending (wanted, w);

    if (live >> place & 1 && slot_state (w) == SLOT_GROUP
        && first + place < wanted->end && is_wanted (wanted, w)
        && slot_try_change (&base[place], w, new)) {
      writeback_add_entry (work, store, first + place, new, SLOT_TIER_GROUP,
                           length);
      wanted->left--;
    }
  }
  if (work->nr > nr)            /* otherwise nobody would seal it */
    finish_record (work, record, store, first, size, SLOT_TIER_GROUP, length);
}

static void
gather_slot (struct writeback_work *work, struct wanted *wanted,
             struct zram_store *store, slot *s, uint64_t page)
{
  uint64_t word = slot_peek (s);

  if (!is_wanted (wanted, word))
    return;
  if (slot_state (word) == SLOT_GROUP)
    gather_group (work, wanted, store, s, page, word);
  else if (slot_state (word) == SLOT_CLEAN)
    let_go (work, wanted, store, s, word);
  else
    gather_page (work, wanted, store, s, page, word);
}

/* ---- Walks --------------------------------------------------------- */

bool
gather_is_enough (const struct writeback_work *work)
{
  return work->full || work->gone_bytes >= work->room;
}

/* What is wanted of one leaf, from wanted->page on. */
static void
gather_leaf (struct writeback_work *work, struct wanted *wanted,
             struct zram_store *store)
{
  epoch_token *token = epoch_enter (&store->memory->table.epoch);
  uint64_t span, i;
  slot *s = slots_step (&store->slots, wanted->page, &span);

  if (span > wanted->end - wanted->page)
    span = wanted->end - wanted->page;
  for (i = 0; s && i < span && wanted->left && !gather_is_enough (work); i++)
    gather_slot (work, wanted, store, &s[i], wanted->page + i);
  epoch_leave (token);
  if (s && work->full && i)
    i--;                        /* the one that had no room comes again */
  wanted->page += s ? i : span;
}

void
gather_in_store (struct writeback_work *work, struct wanted *wanted,
                 struct zram_store *store)
{
  while (wanted->page < wanted->end && wanted->left
         && !gather_is_enough (work))
    gather_leaf (work, wanted, store);
}

bool
gather_wanted (struct zram_memory *memory, struct wanted *wanted)
{
  struct writeback_work *work = memory->writeback.work;
  struct zram_store *store;

  pthread_mutex_lock (&memory->lock);
  store = writeback_find_store (memory, wanted->store);
  if (store)
    gather_in_store (work, wanted, store);
  pthread_mutex_unlock (&memory->lock);
  return store && wanted->page < wanted->end && wanted->left;
}

/* The store whose turn it is; NULL if all had theirs. */
static struct zram_store *
current_store (struct zram_memory *memory, struct wanted *walk)
{
  struct zram_store *store = writeback_find_store (memory, walk->store);

  if (store == NULL) {
    store = memory->stores;     /* it was closed, or this is the first */
    walk->page = 0;
  }
  else if (walk->page >= store->slots.nr_pages) {
    store = store->next;
    walk->page = 0;
  }
  walk->store = store ? store->number : 0;
  walk->end = store ? store->slots.nr_pages : 0;
  walk->left = UINT64_MAX;
  return store;
}

/* A whole walk is over: take younger pages next time. */
static bool
lower_age (struct writeback_work *work, uint64_t before)
{
  if (work->used + work->gone_bytes >= before + work->room / ENOUGH_PART
      || work->walk.age == 0)
    return false;
  work->walk.age--;
  return true;
}

/* Go round until there is enough, or nothing left.  When pages have become
 * older there may be old ones again.
 */
static void
walk_round (struct zram_memory *memory, struct writeback_work *work)
{
  uint64_t before = work->used + work->gone_bytes;
  struct zram_store *store;

  if (work->era != memory->turnover.era)
    work->walk.age = AGING_IDLE;
  work->era = memory->turnover.era;
  do {
    while (!gather_is_enough (work)
           && (store = current_store (memory, &work->walk)) != NULL)
      gather_leaf (work, &work->walk, store);
  } while (!gather_is_enough (work) && lower_age (work, before));
  if (!gather_is_enough (work))
    work->walk.age = AGING_IDLE;
}

/* Huge pages that are idle.  When all of them have left they are looked for
 * again when so much has that pages have become older.
 */
static void
gather_huge (struct zram_memory *memory, struct writeback_work *work)
{
  struct zram_store *store;

  work->huge.pages = ZRAM_PAGES_HUGE;
  work->huge.age = AGING_IDLE;
  work->huge.choice = CHOICE_HUGE;
  while (work->huge_era <= memory->turnover.era && !gather_is_enough (work)) {
    store = current_store (memory, &work->huge);
    if (store)
      gather_leaf (work, &work->huge, store);
    else
      work->huge_era = memory->turnover.era + 1;
  }
}

/* A policy is asked for what can leave whole: it would take for gone what
 * has no copy.  (Walks over everything, for each age, are worth saving where
 * there are no copies at all.)
 */
void
gather_oldest (struct zram_memory *memory, bool copies_only)
{
  struct writeback_work *work = memory->writeback.work;

  if (copies_only && !tiers_have_copies (&memory->tiers))
    return;
  work->walk.copies_only = copies_only;
  work->walk.older_huge = true;
  pthread_mutex_lock (&memory->lock);
  if (!copies_only) {
    gather_huge (memory, work);
    policy_gather (memory, work);
  }
  if (!gather_is_enough (work))
    walk_round (memory, work);
  pthread_mutex_unlock (&memory->lock);
}
