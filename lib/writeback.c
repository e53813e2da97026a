/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Writeback keeps some memory free below the limit, so that writers find
 * room: when little is left, the pages that are idle longest leave RAM.
 *
 * In a round, a segment is filled and written:
 *
 *   gather   Walk over the slots in the order of pages, so that what is
 *            read together lies together, and copy the objects of old
 *            enough pages to the buffer, each under its slot's lock.  The
 *            slot remembers by an age that nothing else has (PENDING) that
 *            this was done.
 *   write    All locks are free.
 *   publish  Have each slot that still has this age name the record.
 *            Whoever has used the page meanwhile has made it young: it
 *            stays in RAM, and its record is dead from the start.
 *
 * How old is old enough?  A whole walk that finds little makes do with
 * younger pages next time, down to those just written.  Huge pages leave
 * earlier: they free most, and cost least to bring back.
 *
 * A tier that cannot be written costs nothing but its room: the objects
 * are still in RAM.
 *
 * Locks: memory.lock while gathering and while publishing, so that no
 * store goes away.  A thread that waits for memory holds nothing.
 */

#include <config.h>

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "group.h"
#include "mapping.h"
#include "memory.h"
#include "store.h"
#include "thread.h"
#include "writeback-work.h"

/* Begin when less than this part of the limit is free, and go on until
 * more than that is.
 */
#define FREE_LOW 16
#define FREE_HIGH 8

/* The age of a page that was gathered in the walk for an age.  No page gets
 * so old by itself.  If it is used meanwhile, a later walk of the same round
 * may gather it again, and then the first record must not pass for it.
 */
#define PENDING(age) (SLOT_AGE_MAX - AGING_IDLE + (age))

/* Huge pages are taken for so much older than they are. */
#define HUGE_OLDER 2

/* A round that gathers less than this is not worth a walk. */
#define ENOUGH (TIER_SEGMENT_SIZE / 4)

/* Segments that are looked at in a round to find one that can be cleaned. */
#define CLEAN_TRIES 4

/* Objects that compaction may move after each segment. */
#define COMPACT_BUDGET 8192

/* ---- Is there need? ------------------------------------------------ */

/* Memory below the limit that writers can have, in bytes. */
static uint64_t
available (struct zram_memory *memory)
{
  uint64_t resident = limit_resident (&memory->limit);
  uint64_t spare = arena_unreserved (&memory->pool.arena);
  uint64_t used = resident > spare ? resident - spare : 0;

  return memory->limit.max > used ? memory->limit.max - used : 0;
}

static bool
is_short (struct zram_memory *memory, unsigned part)
{
  return memory->limit.max
    && available (memory) < memory->limit.max / part;
}

/* ---- Gathering ----------------------------------------------------- */

struct tier_record *
writeback_make_record (struct writeback_work *work, enum slot_state state,
                       unsigned length)
{
  size_t bytes = tier_length_bytes (state, length);
  struct tier_record *record = (void *) (work->segment + work->used);

  if (work->used + bytes > TIER_SEGMENT_SIZE
      || work->nr + GROUP_PAGES_MAX > WRITEBACK_ENTRIES) {
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

/* A page that has an object of its own. */
static void
gather_page (struct writeback_work *work, struct zram_store *store, slot *s,
             uint64_t page, uint64_t word)
{
  unsigned length = tier_length (SLOT_TIER, slot_size (word));
  struct tier_record *record = writeback_make_record (work, SLOT_TIER, length);
  uint64_t pending = slot_word_aged (word, PENDING (work->age));

  if (record == NULL || !slot_trylock (s, word))
    return;
  memcpy (record + 1, pool_object (&store->memory->pool, slot_offset (word)),
          slot_size (word));
  slot_unlock (s, pending);
  writeback_add_entry (work, store, page, pending, SLOT_TIER, length);
  finish_record (work, record, store, page, slot_size (word), SLOT_TIER,
                 length);
}

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
 * not old enough stay where they are.  The object may be moved, and another
 * group to where it was, as soon as it is not locked; but what was alive in
 * it and is in a group is in this one, since groups are made only with
 * memory.lock held, as it is here.
 */
static void
gather_group (struct writeback_work *work, struct zram_store *store, slot *s,
              uint64_t page, uint64_t word)
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
  live = atomic_load (&header->live);
  size = sizeof *header + header->size;
  length = tier_length (SLOT_TIER_GROUP, size);
  record = length
    ? writeback_make_record (work, SLOT_TIER_GROUP, length) : NULL;
  if (record)
    copy_group ((struct group_header *) (record + 1), header);
  slot_unlock (s, word);
  if (record == NULL)
    return;
  for (place = slot_place (word); place < GROUP_PAGES_MAX; place++) {
    uint64_t w = slot_peek (&base[place]);
    uint64_t pending = slot_word_aged (w, PENDING (work->age));

    if (live >> place & 1 && slot_state (w) == SLOT_GROUP
        && !aging_is_pending (w) && (int) slot_age (w) >= work->age
        && slot_try_change (&base[place], w, pending))
      writeback_add_entry (work, store, first + place, pending,
                           SLOT_TIER_GROUP, length);
  }
  if (work->nr > nr)            /* otherwise nobody would seal it */
    finish_record (work, record, store, first, size, SLOT_TIER_GROUP, length);
}

static void
gather_slot (struct writeback_work *work, struct zram_store *store, slot *s,
             uint64_t page)
{
  uint64_t word = slot_peek (s);
  int age = slot_age (word);

  if (!slot_has_object (word) || aging_is_pending (word))
    return;
  if (slot_state (word) == SLOT_GROUP) {
    if (age >= work->age)
      gather_group (work, store, s, page, word);
    return;
  }
  if (slot_codec (word) == CODEC_PATTERN)
    return;
  if (slot_codec (word) == CODEC_RAW)
    age += HUGE_OLDER;
  if (age >= work->age)
    gather_page (work, store, s, page, word);
}

/* One leaf; the walk is at its end if there is none left. */
static void
gather_leaf (struct writeback_work *work, struct zram_store *store)
{
  epoch_token *token = epoch_enter (&store->memory->table.epoch);
  uint64_t span, i;
  slot *s = slots_step (&store->slots, work->page, &span);

  for (i = 0; s && i < span && !work->full; i++)
    gather_slot (work, store, &s[i], work->page + i);
  epoch_leave (token);
  if (s && work->full)
    span = i ? i - 1 : 0;       /* the one that had no room comes again */
  work->page += span;
}

struct zram_store *
writeback_find_store (struct zram_memory *memory, uint32_t number)
{
  struct zram_store *store = memory->stores;

  while (store && store->number != number)
    store = store->next;
  return store;
}

/* The store whose turn it is; NULL if all had theirs. */
static struct zram_store *
current_store (struct zram_memory *memory, struct writeback_work *work)
{
  struct zram_store *store = writeback_find_store (memory, work->store);

  if (store == NULL) {
    store = memory->stores;     /* it was closed, or this is the first */
    work->page = 0;
  }
  else if (work->page >= store->slots.nr_pages) {
    store = store->next;
    work->page = 0;
  }
  work->store = store ? store->number : 0;
  return store;
}

/* A whole walk is over: take younger pages next time. */
static bool
lower_age (struct writeback_work *work)
{
  if (work->used >= ENOUGH || work->age == 0)
    return false;
  work->age--;
  return true;
}

static void
clear (struct writeback_work *work)
{
  work->nr = work->used = 0;
  work->full = false;
}

/* Fill the segment, as far as there is anything to fill it with. */
static void
gather (struct zram_memory *memory, struct writeback_work *work)
{
  struct zram_store *store;

  pthread_mutex_lock (&memory->lock);
  do {
    while (!work->full && (store = current_store (memory, work)) != NULL)
      gather_leaf (work, store);
  } while (!work->full && lower_age (work));
  if (!work->full)
    work->age = AGING_IDLE;
  pthread_mutex_unlock (&memory->lock);
}

/* ---- Writing and publishing ---------------------------------------- */

static void
seal (struct writeback_work *work, struct tier *tier, uint32_t segment)
{
  unsigned i;

  for (i = 0; i < work->nr; i++) {
    const struct entry *e = &work->entries[i];

    if (i == 0 || e->offset != work->entries[i - 1].offset)
      tier_seal (tier, segment, e->offset,
                 (void *) (work->segment + e->offset));
  }
}

/* What a slot that says WORD now is to say, if the page is still the same;
 * 0 if not.  An object that was in RAM may have been moved, but was not
 * used if it is as PENDING as it was.  A record that is cleaned may have been
 * read.
 */
static uint64_t
published (const struct entry *e, uint64_t word, unsigned tier,
           uint32_t segment)
{
  uint64_t new = slot_word_tier (e->state, slot_codec (e->word), tier,
                                 segment, e->offset, e->length);

  if (!slot_on_tier (e->word))
    return aging_is_pending (word) && slot_age (word) == slot_age (e->word)
      ? slot_word_aged (new, AGING_IDLE) : 0;
  return slot_word_aged (word, 0) == slot_word_aged (e->word, 0)
    ? slot_word_aged (new, slot_age (word)) : 0;
}

/* The slot of a page, if that is still the same, names the record.  What is
 * cleaned is wanted out of its segment, so a lock is waited for.
 */
static bool
publish (struct zram_memory *memory, const struct entry *e, unsigned number,
         uint32_t segment)
{
  struct tier *tier = memory->tiers.tiers[number];
  struct zram_store *store = writeback_find_store (memory, e->store);
  slot *s = store ? slots_find (&store->slots, e->page) : NULL;
  uint64_t old, new;

  while (s) {
    old = slot_peek (s);
    new = published (e, old, number, segment);
    if (new == 0)
      return false;
    tier_enter (tier, segment);
    if (slot_try_change (s, old, new)) {
      page_replaced (store, old, new);
      stats_add (&store->stats, STATS_BD_WRITES, 1);
      return !slot_on_tier (old);
    }
    tier_leave (&memory->tiers, new);
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

/* Publish what was written, or take back what was not.  Returns how many
 * pages have left RAM.
 */
static unsigned
for_entries (struct zram_memory *memory, unsigned number, uint32_t segment)
{
  struct writeback_work *work = memory->writeback.work;
  unsigned i, n = 0;
  epoch_token *token;

  pthread_mutex_lock (&memory->lock);
  for (i = 0; i < work->nr; i++) {
    token = epoch_enter (&memory->table.epoch);
    if (segment)
      n += publish (memory, &work->entries[i], number, segment);
    else
      take_back (memory, &work->entries[i]);
    epoch_leave (token);
  }
  pthread_mutex_unlock (&memory->lock);
  return n;
}

/* Write what was gathered. */
static unsigned
write_segment (struct zram_memory *memory, unsigned number, uint32_t segment)
{
  struct writeback_work *work = memory->writeback.work;
  struct tier *tier = memory->tiers.tiers[number];
  size_t size = (work->used + TIER_BLOCK - 1) / TIER_BLOCK * TIER_BLOCK;
  unsigned n = 0;

  seal (work, tier, segment);
  if (work->nr && tier_write_segment (tier, segment, work->segment, size))
    n = for_entries (memory, number, segment);
  tier_close_segment (tier, segment);
  return n;
}

/* Into a tier that has room.  What was gathered before for another one,
 * which failed, will do.
 */
static unsigned
write_to (struct zram_memory *memory, unsigned number, bool *gathered)
{
  uint32_t segment = tier_open_segment (memory->tiers.tiers[number], false);

  if (segment == 0)
    return 0;
  if (!*gathered)
    gather (memory, memory->writeback.work);
  *gathered = true;
  return write_segment (memory, number, segment);
}

/* Read a sparse segment and gather what is left in it.  Nothing is written
 * before it is known that the segment will be free then: a tier has only one
 * segment to spare.
 */
static bool
gather_sparse (struct zram_memory *memory, unsigned number)
{
  struct writeback_work *work = memory->writeback.work;
  struct tier *tier = memory->tiers.tiers[number];
  unsigned tries, found;

  for (tries = 0; tries < CLEAN_TRIES; tries++) {
    uint32_t sparse = tier_sparsest (tier);

    if (sparse == 0)
      return false;
    clear (work);
    found = tier_read_segment (tier, sparse, work->old)
      ? clean_gather (memory, number, sparse) : 0;
    if (tier_can_clean (tier, sparse, found))
      return true;
  }
  clear (work);
  return false;
}

/* Into a tier that is full: together with what is left in its sparsest
 * segment, which then is free.
 */
static unsigned
clean (struct zram_memory *memory, unsigned number)
{
  struct writeback_work *work = memory->writeback.work;
  uint32_t segment;

  for_entries (memory, number, 0);
  if (!gather_sparse (memory, number))
    return 0;
  segment = tier_open_segment (memory->tiers.tiers[number], true);
  if (segment == 0)
    return 0;
  gather (memory, work);
  return write_segment (memory, number, segment);
}

/* Segments that nobody names are free when all who could be reading them
 * have left the epoch.  While there are no others, wait: the tiers are not
 * full.  Nobody waits for us who is inside the epoch.
 */
static void
wait_for_segments (struct zram_memory *memory)
{
  while (tiers_poll (&memory->tiers) && !tiers_have_room (&memory->tiers))
    usleep (100);
}

/* One round.  True if memory has become free. */
static bool
write_back (struct zram_memory *memory)
{
  bool gathered = false;
  unsigned i, n = 0;

  wait_for_segments (memory);
  clear (memory->writeback.work);
  for (i = 0; n == 0 && i < memory->tiers.nr; i++)
    n = write_to (memory, i, &gathered);
  for (i = 0; n == 0 && i < memory->tiers.nr; i++)
    n = clean (memory, i);
  for_entries (memory, 0, 0);
  if (n)
    memory_tidy (memory, COMPACT_BUDGET);
  return n > 0;
}

/* ---- The thread ---------------------------------------------------- */

/* Rounds until there is enough, or nothing more can be done. */
static void
work_off (struct writeback *w)
{
  bool ok;

  do {
    ok = write_back (w->memory);
    pthread_mutex_lock (&w->lock);
    w->rounds++;
    w->successes += ok;
    pthread_cond_broadcast (&w->done);
    ok = ok && !w->quit;
    pthread_mutex_unlock (&w->lock);
  } while (ok && is_short (w->memory, FREE_HIGH));
}

static void *
writeback_main (void *opaque)
{
  struct writeback *w = opaque;

  pthread_mutex_lock (&w->lock);
  while (!w->quit) {
    if (!atomic_exchange (&w->called, false)) {
      pthread_cond_wait (&w->wake, &w->lock);
      continue;
    }
    pthread_mutex_unlock (&w->lock);
    work_off (w);
    pthread_mutex_lock (&w->lock);
  }
  w->running = false;
  pthread_cond_broadcast (&w->done);
  pthread_mutex_unlock (&w->lock);
  return NULL;
}

void
writeback_poke (struct writeback *w)
{
  if (w->work == NULL || atomic_load_explicit (&w->called,
                                               memory_order_relaxed)
      || !is_short (w->memory, FREE_LOW))
    return;
  pthread_mutex_lock (&w->lock);
  atomic_store (&w->called, true);
  pthread_cond_signal (&w->wake);
  pthread_mutex_unlock (&w->lock);
}

/* A round that has begun before may have looked too early, so two have to
 * fail.  The lock is held.
 */
static bool
wait_for_rounds (struct writeback *w)
{
  uint64_t rounds = w->rounds, successes = w->successes;

  while (w->running && w->successes == successes && w->rounds < rounds + 2) {
    atomic_store (&w->called, true);
    pthread_cond_signal (&w->wake);
    pthread_cond_wait (&w->done, &w->lock);
  }
  return w->successes != successes;
}

/* Where there is no thread, whoever waits does it himself. */
bool
writeback_wait (struct writeback *w)
{
  bool freed;

  if (w->work == NULL)
    return false;
  pthread_mutex_lock (&w->lock);
  freed = w->running ? wait_for_rounds (w) : write_back (w->memory);
  pthread_mutex_unlock (&w->lock);
  return freed;
}

/* ---- Life ---------------------------------------------------------- */

void
writeback_init (struct writeback *w, struct zram_memory *memory)
{
  *w = (struct writeback) { .memory = memory };
  pthread_mutex_init (&w->lock, NULL);
  pthread_cond_init (&w->wake, NULL);
  pthread_cond_init (&w->done, NULL);
}

void
writeback_destroy (struct writeback *w)
{
  if (w->work) {
    limit_uncharge (&w->memory->limit, sizeof *w->work);
    mapping_release (w->work, sizeof *w->work);
  }
  pthread_cond_destroy (&w->done);
  pthread_cond_destroy (&w->wake);
  pthread_mutex_destroy (&w->lock);
}

uint64_t
writeback_charged (const struct writeback *w)
{
  return w->work ? sizeof *w->work : 0;
}

int
writeback_prepare (struct writeback *w)
{
  struct limit *limit = &w->memory->limit;

  if (w->work)
    return 0;
  if (!limit_charge (limit, sizeof *w->work)) {
    errno = ENOSPC;
    return -1;
  }
  w->work = mapping_reserve (sizeof *w->work);
  if (w->work == NULL) {
    limit_uncharge (limit, sizeof *w->work);
    return -1;
  }
  mapping_touch (w->work, sizeof *w->work);
  w->work->age = AGING_IDLE;
  return 0;
}

int
writeback_start (struct writeback *w)
{
  if (w->started || w->work == NULL)
    return 0;
  w->quit = false;
  w->running = true;
  if (thread_start (&w->thread, "zram-writeback", writeback_main, w) == -1) {
    w->running = false;
    return -1;
  }
  w->started = true;
  return 0;
}

void
writeback_stop (struct writeback *w)
{
  if (!w->started)
    return;
  pthread_mutex_lock (&w->lock);
  w->quit = true;
  pthread_cond_signal (&w->wake);
  pthread_mutex_unlock (&w->lock);
  pthread_join (w->thread, NULL);
  w->started = false;
}
