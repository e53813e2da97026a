/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The validator: walks everything from both ends.
 *
 * From the pool: each object's owner is a slot that names that object, or
 * slots of its run do, as many as are alive in the group.
 * From the slots: each store's counters are what its slots add up to,
 * and the slots that name objects are as many as there are objects.
 * Together: every object is named by exactly one slot or is one group's,
 * and every slot that says RAM or GROUP names an object.
 *
 * And the memory that is counted as resident is the sum of what the
 * parts hold.
 */

#include <config.h>

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "group.h"
#include "memory.h"
#include "store.h"

struct check {
  struct zram_memory *memory;
  FILE *report;
  unsigned faults;
  uint64_t nr_objects;          /* that the pool has */
  uint64_t nr_named;            /* that slots name */
  uint64_t nr_live;             /* pages that groups say they have */
  uint64_t nr_grouped;          /* slots that say they are in one */
  struct tier_named *named[TIER_NR_MAX];        /* for each segment */
  uint64_t copies[TIER_NR_MAX];
  uint64_t nr_table_pages;
};

/* What the slots of a store add up to. */
struct sums {
  uint64_t pages, object_bytes, same, lost, huge, grouped, on_tiers;
};

static void __attribute__ ((format (printf, 2, 3)))
fault (struct check *check, const char *fs, ...)
{
  va_list args;

  check->faults++;
  va_start (args, fs);
  vfprintf (check->report, fs, args);
  va_end (args);
  fputc ('\n', check->report);
}

static void
expect (struct check *check, const char *what, uint64_t counted,
        uint64_t counter)
{
  if (counted != counter)
    fault (check, "%s: counted %" PRIu64 ", the counter says %" PRIu64,
           what, counted, counter);
}

/* An object that has no slot of its own must be a group. */
static void
check_group (struct check *check, uint64_t offset, size_t room,
             uint32_t owner)
{
  const struct zram_memory *memory = check->memory;
  const slot *base = table_slot (&memory->table, group_base (owner));
  const struct group_header *header = group_header (&memory->pool, offset);
  unsigned map = group_named (base, offset), place;

  if (map == 0) {
    fault (check, "object at %" PRIx64 ": nobody near its owner %" PRIu32
           " names it", offset, owner);
    return;
  }
  if (map != header->live || (map & ~header->members))
    fault (check, "group at %" PRIx64 ": live %x, members %x, named by %x",
           offset, header->live, header->members, map);
  if (sizeof *header + header->size > room)
    fault (check, "group at %" PRIx64 ": size %u, room %zu", offset,
           header->size, room);
  for (place = 0; place < GROUP_PAGES_MAX; place++)
    if (map >> place & 1 && slot_place (base[place]) != place)
      fault (check, "group at %" PRIx64 ": the slot at place %u says %u",
             offset, place, slot_place (base[place]));
  check->nr_live += __builtin_popcount (header->live);
  check->nr_named++;
}

/* pool_check calls this for each object. */
static unsigned
check_object (void *opaque, uint64_t offset, size_t room, uint32_t owner)
{
  struct check *check = opaque;
  const struct zram_memory *memory = check->memory;
  uint64_t word = *table_slot (&memory->table, owner);

  check->nr_objects++;
  if (!slot_is_alone (word) || slot_offset (word) != offset)
    check_group (check, offset, room, owner);
  else if (slot_size (word) + (slot_state (word) == SLOT_CLEAN
                               ? sizeof word : 0) > room)
    fault (check, "object at %" PRIx64 ": size %u, room %zu",
           offset, slot_size (word), room);
  return 0;                     /* fault has counted */
}

/* A group counts once: where its first live page is. */
static uint64_t
group_bytes (const struct check *check, uint64_t word)
{
  const struct group_header *header
    = group_header (&check->memory->pool, slot_offset (word));

  return __builtin_ctz (header->live) == (int) slot_place (word)
    ? sizeof *header + header->size : 0;
}

/* A word that names a record; NULL, and a fault, if it does not. */
static struct tier_named *
named_segment (struct check *check, uint64_t word)
{
  const struct tier *tier
    = tiers_get (&check->memory->tiers, slot_tier (word));

  if (slot_on_tier (word) && tier && slot_segment (word) < tier->nr_segments)
    return &check->named[slot_tier (word)][slot_segment (word)];
  fault (check, "a word names no segment: %" PRIx64, word);
  return NULL;
}

/* A slot that names a record. */
static void
add_tier_slot (struct check *check, uint64_t word)
{
  struct tier_named *named = named_segment (check, word);

  if (named) {
    named->live++;
    named->weight += tier_weight (word);
  }
}

/* A slot whose object in RAM does. */
static void
add_clean_slot (struct check *check, uint64_t word)
{
  const unsigned char *object
    = pool_object (&check->memory->pool, slot_offset (word));
  struct tier_named *named;
  uint64_t copy;

  memcpy (&copy, object + slot_size (word), sizeof copy);
  named = named_segment (check, copy);
  if (named) {
    named->live++;
    check->copies[slot_tier (copy)]++;
  }
}

static void
add_slot (struct check *check, uint64_t word, struct sums *sums)
{
  if (word & (SLOT_LOCK | SLOT_WAITERS))
    fault (check, "a slot is locked: %" PRIx64, word);
  if (slot_has_age (word)
      && !codecs_is_valid (check->memory->codecs, slot_codec (word)))
    fault (check, "a slot names no codec: %" PRIx64, word);
  if (slot_has_age (word) && slot_age (word) > AGING_IDLE)
    fault (check, "a slot is still to be written back: %" PRIx64, word);
  switch (slot_state (word)) {
  case SLOT_EMPTY:
    return;
  case SLOT_DEAD:
    fault (check, "dead slot in a leaf that is in use");
    return;
  case SLOT_SAME:
    sums->same++;
    sums->lost += slot_is_lost (word);
    break;
  case SLOT_CLEAN:
    add_clean_slot (check, word);
    /* fall through */
  case SLOT_RAM:
    check->nr_named++;
    if (slot_codec (word) == CODEC_PATTERN)
      sums->same++;
    else
      sums->object_bytes += slot_size (word);
    sums->huge += slot_codec (word) == CODEC_RAW;
    break;
  case SLOT_GROUP:
    check->nr_grouped++;
    sums->grouped++;
    sums->object_bytes += group_bytes (check, word);
    break;
  case SLOT_TIER:
  case SLOT_TIER_GROUP:
    sums->on_tiers++;
    add_tier_slot (check, word);
    break;
  }
  sums->pages++;
}

static void
check_store (struct check *check, const struct zram_store *store)
{
  const struct stats *stats = &store->stats;
  struct sums sums = { 0 };
  uint64_t page, span, i;
  slot *s;

  for (page = 0; page < store->slots.nr_pages; page += span) {
    s = slots_step (&store->slots, page, &span);
    for (i = 0; s && i < span; i++)
      add_slot (check, s[i], &sums);
  }
  if (store->policy.on)
    check->faults += smq_check (&store->policy.smq, check->report);
  check->nr_table_pages += slots_nr_table_pages (&store->slots);
  expect (check, "pages", sums.pages, stats_read (stats, STATS_PAGES));
  expect (check, "bytes of objects", sums.object_bytes,
          stats_read (stats, STATS_OBJECT_BYTES));
  expect (check, "same-filled pages", sums.same,
          stats_read (stats, STATS_SAME));
  expect (check, "lost pages", sums.lost, stats_read (stats, STATS_LOST));
  expect (check, "huge pages", sums.huge, stats_read (stats, STATS_HUGE));
  expect (check, "pages in groups", sums.grouped,
          stats_read (stats, STATS_GROUPED));
  expect (check, "pages on tiers", sums.on_tiers,
          stats_read (stats, STATS_BD_COUNT));
}

static uint64_t
arena_charge (struct arena *arena)
{
  return arena_resident (arena) + (arena->made - 1) * arena->record_size;
}

static uint64_t
resident (struct zram_memory *memory)
{
  const struct zram_store *store;
  uint64_t sum = sizeof *memory + memory->codecs_charged
    + memory->pool.allocator_size + arena_charge (&memory->pool.arena)
    + arena_charge (&memory->table.arena)
    + memory->regroup.charged
    + tiers_charged (&memory->tiers)
    + writeback_charged (&memory->writeback);

  for (store = memory->stores; store; store = store->next)
    sum += sizeof *store + policy_charged (store);
  return sum;
}

static void
make_named (struct check *check)
{
  const struct tiers *tiers = &check->memory->tiers;
  unsigned i;

  for (i = 0; i < tiers->nr; i++) {
    const struct tier *tier = tiers->order[i];

    check->named[tier->number] = calloc (tier->nr_segments,
                                         sizeof (struct tier_named));
    if (check->named[tier->number] == NULL)
      abort ();
  }
}

/* Segments have as many pages as name them. */
static unsigned
check_tiers (struct check *check)
{
  unsigned i, faults = tiers_check (&check->memory->tiers, check->named,
                                    check->copies, check->report);

  for (i = 0; i < TIER_NR_MAX; i++)
    free (check->named[i]);
  return faults;
}

unsigned
zram_memory_check (struct zram_memory *memory, FILE *report)
{
  struct check check = { .memory = memory, .report = report };
  const struct zram_store *store;
  unsigned faults;

  make_named (&check);
  faults = pool_check (&memory->pool, check_object, &check, report)
    + arena_check (&memory->table.arena, "table", report);
  for (store = memory->stores; store; store = store->next)
    check_store (&check, store);
  faults += check_tiers (&check);
  expect (&check, "objects that slots name", check.nr_named,
          check.nr_objects);
  expect (&check, "pages in groups", check.nr_grouped, check.nr_live);
  expect (&check, "pages of slot tables",
          check.nr_table_pages + table_nr_waiting (&memory->table),
          arena_used (&memory->table.arena) / TABLE_PAGE_SIZE);
  expect (&check, "resident", resident (memory),
          limit_resident (&memory->limit));
  if (memory->limit.max && limit_resident (&memory->limit) > memory->limit.max)
    fault (&check, "resident exceeds the limit");
  return faults + check.faults;
}
