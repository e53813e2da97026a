/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Idle pages take less when neighbours are compressed together, by a
 * slower codec: measured on memory pages, 16 of them 17 % less and more.
 * The price is paid once, here, and by whoever reads one of them.
 *
 * What stands in a run of slots decides what is done, and nothing else is
 * remembered:
 *
 * - idle pages with objects of their own, two or more of them, or one and
 *   a group, become one group, if that is smaller than what there was;
 * - if it is not, or does not fit into an object, halves of the run are
 *   tried, and what is left in vain is marked as settled until it is used
 *   again;
 * - a group of which half has left is made anew of the rest, or near the
 *   limit one of which any has left; a last page becomes an object of its
 *   own.
 *
 * At the limit, where it matters most, memory for a new group is often
 * not to be had, and then the new one takes the place of an old one of the
 * same run.
 *
 * A page is copied under its slot's lock, a few microseconds; compressed
 * with the others under no lock; and then all slots are locked, if each
 * still says what it said before.  It can only say the same if the page is
 * the same: whoever uses a page makes it young, and pages are made older
 * only with memory.lock held, as it is here.  (Compaction may have moved
 * the object and moved it back, which is no matter.)  If one has changed,
 * all was in vain, and the next walk sees what there is then.
 */

#include <config.h>

#include <string.h>

#include "clock.h"
#include "mapping.h"
#include "regroup.h"
#include "store.h"

/* The most that it takes, about, and the largest part of what the limit
 * leaves that it may be.
 */
#define WORK_MAX (2 << 20)
#define PREPARE_PART 4

struct regroup_work {
  struct codec_grouper *grouper;
  unsigned char pages[GROUP_PAGES_MAX * ZRAM_PAGE_SIZE];
  unsigned char object[GROUP_SIZE_MAX];
};

/* Part of a run of slots, and what is to be done with it. */
struct run {
  struct zram_store *store;
  slot *base;
  uint64_t words[GROUP_PAGES_MAX];
  unsigned map;                 /* places whose pages are idle */
  unsigned alone;               /* those that have objects of their own... */
  unsigned unsettled;           /* ...and were not tried yet */
  bool sparse;                  /* much of a group has left */
  uint64_t bytes;               /* all their objects */
};

/* ---- Life ---------------------------------------------------------- */

void
regroup_init (struct regroup *regroup, const struct zram_recompress *config)
{
  *regroup = (struct regroup) {
    .pages = config->group,
    .age_ns = (config->age ? : REGROUP_AGE) * CLOCK_SECOND,
    .codec = config->codec,
    .index = -1,
  };
}

/* With a limit, what was charged once stays so. */
void
regroup_destroy (struct zram_memory *memory)
{
  struct regroup *regroup = &memory->regroup;

  if (regroup->work == NULL)
    return;
  codecs_free_grouper (regroup->work->grouper);
  mapping_release (regroup->work, sizeof *regroup->work);
  regroup->work = NULL;
  if (memory->limit.max == 0) {
    limit_uncharge (&memory->limit, regroup->charged);
    regroup->charged = 0;
  }
}

/* With a reserve it stays.  If there is a limit it is there from the start
 * (regroup_prepare): memory.lock is held where it is needed, and writers at the
 * limit could be waiting for whoever asks the system for memory then.
 */
void
regroup_end (struct zram_memory *memory)
{
  if (memory->reserve == 0)
    regroup_destroy (memory);
}

void
regroup_touch (struct zram_memory *memory)
{
  if (memory->regroup.work)
    mapping_touch (memory->regroup.work, sizeof *memory->regroup.work);
}

/* The codec is added when it is first needed: readers need more memory
 * for it.
 */
static bool
have_codec (struct zram_memory *memory)
{
  struct regroup *regroup = &memory->regroup;
  uint64_t growth = codecs_group_growth (memory->codecs);

  if (regroup->index != -1)
    return true;
  if (!limit_charge (&memory->limit, growth))
    return false;
  regroup->index = codecs_add_group (memory->codecs, &regroup->codec);
  limit_uncharge (&memory->limit, growth);
  memory_charge_codecs (memory);
  return regroup->index != -1;
}

static bool
charge_work (struct zram_memory *memory, uint64_t size)
{
  struct regroup *regroup = &memory->regroup;

  if (size <= regroup->charged)
    return true;
  if (!limit_charge (&memory->limit, size - regroup->charged))
    return false;
  regroup->charged = size;
  return true;
}

/* How large it is, is known when it has been made once. */
static bool
have_work (struct zram_memory *memory)
{
  struct regroup *regroup = &memory->regroup;
  struct regroup_work *work = regroup->work;

  if (work)
    return true;
  if (!have_codec (memory) || !charge_work (memory, regroup->size))
    return false;
  work = mapping_reserve (sizeof *work);
  if (work == NULL)
    return false;
  regroup->work = work;
  /* Now, and not when a slot is locked that a writer may wait for. */
  if (mapping_populate (work, sizeof *work))
    work->grouper = codecs_make_grouper (memory->codecs, regroup->index);
  if (work->grouper) {
    regroup->size = sizeof *work + codecs_grouper_size (work->grouper);
    if (charge_work (memory, regroup->size))
      return true;
  }
  regroup_destroy (memory);
  return false;
}

void
regroup_prepare (struct zram_memory *memory)
{
  const struct limit *limit = &memory->limit;
  uint64_t need = codecs_group_growth (memory->codecs) + WORK_MAX;

  if (memory->regroup.pages == 0 || limit->max == 0
      || memory->regroup.charged)
    return;
  if (need <= (limit->max - limit_resident (limit)) / PREPARE_PART
      && have_work (memory))
    regroup_end (memory);
  else
    memory->regroup.pages = 0;
}

/* ---- What there is ------------------------------------------------- */

/* Not while it is being written back. */
static bool
is_candidate (uint64_t word)
{
  return aging_is_idle (word) && !aging_is_pending (word);
}

/* A page that has an object of its own. */
static void
add_alone (struct run *run, unsigned place, uint64_t word)
{
  if (slot_codec (word) < CODEC_FIRST)
    return;                     /* huge, or a pattern */
  run->map |= 1u << place;
  run->alone |= 1u << place;
  if (!(word & SLOT_SETTLED))
    run->unsettled |= 1u << place;
  run->bytes += slot_size (word);
}

/* Whether a group is worth making anew that has LIVE pages of NR: if half
 * has left; near the limit, whatever has.
 */
static bool
is_sparse (const struct zram_store *store, unsigned live, unsigned nr)
{
  return 2 * live <= nr
    || (live < nr && limit_is_near (&store->memory->limit));
}

/* The group whose first page in the run is at PLACE: all of it, if all
 * that lives is idle and between FROM and TO; otherwise nothing.
 */
static void
add_group (struct run *run, unsigned from, unsigned to, unsigned place)
{
  const struct pool *pool = &run->store->memory->pool;
  uint64_t word = run->words[place];
  unsigned range = (1u << to) - (1u << from), live, nr, i;
  const struct group_header *header;

  if (!slot_trylock (&run->base[place], word))
    return;
  header = group_header (pool, slot_offset (word));
  live = atomic_load (&header->live);
  nr = group_pages (header);
  for (i = from; i < to; i++)
    if (live >> i & 1 && !is_candidate (run->words[i]))
      live |= ~range;           /* counts as outside */
  if ((live & ~range) == 0) {
    run->map |= live;
    run->sparse |= is_sparse (run->store, __builtin_popcount (live), nr);
    run->bytes += sizeof *header + header->size;
  }
  slot_unlock (&run->base[place], word);
}

static bool
is_first_of_group (const struct run *run, unsigned from, unsigned place)
{
  unsigned i;

  for (i = from; i < place; i++)
    if (slot_state (run->words[i]) == SLOT_GROUP
        && slot_offset (run->words[i]) == slot_offset (run->words[place]))
      return false;
  return true;
}

static void
look (struct run *run, unsigned from, unsigned to)
{
  unsigned place;

  for (place = from; place < to; place++)
    run->words[place] = slot_peek (&run->base[place]);
  for (place = from; place < to; place++) {
    uint64_t word = run->words[place];

    if (!is_candidate (word))
      continue;
    if (slot_state (word) == SLOT_RAM)
      add_alone (run, place, word);
    else if (slot_state (word) == SLOT_GROUP
             && is_first_of_group (run, from, place))
      add_group (run, from, to, place);
  }
}

static unsigned
nr_pages (const struct run *run)
{
  return __builtin_popcount (run->map);
}

/* AGAIN: pages that are settled can be worth it as well. */
static bool
is_worthwhile (const struct run *run, bool again)
{
  return run->sparse
    || ((again ? run->alone : run->unsettled) && nr_pages (run) >= 2);
}

/* ---- Doing it ------------------------------------------------------ */

/* The pages, one after the other. */
static bool
copy_pages (const struct run *run, unsigned char *pages)
{
  unsigned place;

  for (place = 0; place < GROUP_PAGES_MAX; place++) {
    if (!(run->map >> place & 1))
      continue;
    if (!page_decode (run->store, &run->base[place], run->words[place],
                      pages))
      return false;
    pages += ZRAM_PAGE_SIZE;
  }
  return true;
}

/* Lock the slots of MAP if they all say what they said. */
static bool
lock_slots (const struct run *run)
{
  unsigned place;

  for (place = 0; place < GROUP_PAGES_MAX; place++)
    if (run->map >> place & 1
        && !slot_trylock (&run->base[place], run->words[place])) {
      while (place--)
        if (run->map >> place & 1)
          slot_unlock (&run->base[place], run->words[place]);
      return false;
    }
  return true;
}

static void
unlock_slots (const struct run *run)
{
  unsigned place;

  for (place = 0; place < GROUP_PAGES_MAX; place++)
    if (run->map >> place & 1)
      slot_unlock (&run->base[place], run->words[place]);
}

/* The slots are locked: they name the group at OFFSET from now on.  Some
 * may have done so before.
 */
static void
publish (const struct run *run, unsigned codec, uint64_t offset)
{
  unsigned place;

  for (place = 0; place < GROUP_PAGES_MAX; place++) {
    uint64_t old = run->words[place], new;

    if (!(run->map >> place & 1))
      continue;
    new = slot_word_aged (slot_word_group (codec, place, offset),
                          slot_age (old));
    slot_unlock (&run->base[place], new);
    if (old != new)
      page_replaced (run->store, old, new);
  }
}

static void
settle (const struct run *run)
{
  unsigned place;

  for (place = 0; place < GROUP_PAGES_MAX; place++)
    if (run->unsettled >> place & 1)
      slot_try_change (&run->base[place], run->words[place],
                       run->words[place] | SLOT_SETTLED);
}

/* The size of the group that the copied pages make in work->object; 0 if
 * it is not smaller than what there is.
 */
static size_t
compress (const struct run *run, struct regroup_work *work)
{
  size_t max = run->bytes - 1;

  if (max <= sizeof (struct group_header))
    return 0;
  max -= sizeof (struct group_header);
  if (max > GROUP_SIZE_MAX)
    max = GROUP_SIZE_MAX;
  return codecs_compress_group (work->grouper, work->pages,
                                nr_pages (run) * ZRAM_PAGE_SIZE,
                                work->object, max);
}

/* The places whose pages are in the same group as the one at PLACE. */
static unsigned
companions (const struct run *run, unsigned place)
{
  unsigned i, map = 0;

  for (i = 0; i < GROUP_PAGES_MAX; i++)
    if (run->map >> i & 1 && slot_state (run->words[i]) == SLOT_GROUP
        && slot_offset (run->words[i]) == slot_offset (run->words[place]))
      map |= 1u << i;
  return map;
}

/* At the limit there is no memory for a new group, but an old one may be
 * large enough.  (Then what was alone is freed, and there is some.)  While
 * its slots are locked, and no page is leaving, nobody else looks at it.
 */
static void
reuse_group (const struct run *run, const struct regroup_work *work,
             size_t size)
{
  struct zram_memory *memory = run->store->memory;
  unsigned place, named;

  if (!lock_slots (run))
    return;
  for (place = 0; place < GROUP_PAGES_MAX; place++) {
    named = companions (run, place);
    if (named >> place & 1
        && group_refill (run->store, slot_offset (run->words[place]), named,
                         run->map, work->object, size)) {
      publish (run, memory->regroup.index, slot_offset (run->words[place]));
      return;
    }
  }
  unlock_slots (run);
}

static void
replace (const struct run *run, const struct regroup_work *work, size_t size)
{
  struct zram_memory *memory = run->store->memory;
  unsigned codec = memory->regroup.index;
  uint32_t owner = table_owner (&memory->table, run->base);
  uint64_t offset = group_create (run->store, owner, codec, run->map,
                                  work->object, size);

  if (offset == 0)
    reuse_group (run, work, size);
  else if (lock_slots (run))
    publish (run, codec, offset);
  else
    group_free (run->store, offset, codec);
}

/* The last page of a group. */
static void
ungroup (const struct run *run, struct regroup_work *work)
{
  unsigned place = __builtin_ctz (run->map);

  page_leave_group (run->store, &run->base[place], run->words[place],
                    ANY_BIRTH, work->pages);
}

static bool
regroup (struct zram_store *store, slot *base, unsigned from, unsigned to,
         bool again)
{
  struct run run = { .store = store, .base = base };
  struct regroup_work *work;
  size_t size;

  look (&run, from, to);
  if (!is_worthwhile (&run, again) || !have_work (store->memory))
    return false;
  work = store->memory->regroup.work;
  if (!copy_pages (&run, work->pages))
    return true;
  if (nr_pages (&run) == 1) {
    ungroup (&run, work);
    return true;
  }
  size = compress (&run, work);
  if (size) {
    replace (&run, work, size);
    return true;
  }
  settle (&run);
  if (to - from > 2) {
    unsigned middle = (from + to) / 2;

    regroup (store, base, from, middle, true);
    regroup (store, base, middle, to, true);
  }
  return true;
}

bool
regroup_run (struct zram_store *store, slot *base, uint64_t nr)
{
  unsigned pages = store->memory->regroup.pages, from, to;
  bool done = false;

  if (nr > GROUP_PAGES_MAX)
    nr = GROUP_PAGES_MAX;
  for (from = 0; from < nr; from = to) {
    to = from + pages < nr ? from + pages : nr;
    done |= regroup (store, base, from, to, false);
  }
  return done;
}
