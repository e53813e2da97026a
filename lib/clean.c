/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Cleaning: what is alive in a segment of a tier is gathered, to be written
 * to another one.
 *
 * The records tell which pages they were made of; the slots of those pages
 * tell whether they still are.  A record that is only a clean copy of what
 * is in RAM is not worth moving: it is let go.  One record that is damaged
 * hides all that come after it in the segment, which then stays as it is:
 * its pages can still be read, each by its own slot.
 *
 * Source: the cleaner of log-structured file systems (Rosenblum and
 * Ousterhout, 1991).  Which segment is worth it, tier_to_clean says.
 */

#include <config.h>

#include <string.h>

#include "memory.h"
#include "store.h"
#include "writeback-work.h"

/* A record at OFFSET of the segment that is cleaned. */
struct found {
  struct tier_record *record;
  struct tier *tier;
  uint32_t segment;
  unsigned offset, length;
};

static bool
is_named (const struct found *f, uint64_t word)
{
  return slot_state (word) == (enum slot_state) f->record->state
    && slot_tier (word) == f->tier->number
    && slot_segment (word) == f->segment
    && slot_tier_offset (word) == f->offset;
}

static bool
is_wanted (const struct wanted *wanted, const struct zram_store *store,
           uint64_t page)
{
  return wanted == NULL
    || (wanted->store == store->number && page >= wanted->page
        && page < wanted->end && wanted->left);
}

/* Add an entry for each page that still is in the record. */
static unsigned
add_pages (struct writeback_work *work, struct zram_store *store,
           const struct found *f, struct wanted *wanted)
{
  uint64_t nr = f->record->state == SLOT_TIER ? 1 : GROUP_PAGES_MAX, i;
  unsigned n = 0;

  for (i = 0; i < nr; i++) {
    uint64_t page = f->record->page + i;
    slot *s = page < store->slots.nr_pages
      ? slots_find (&store->slots, page) : NULL;
    uint64_t word = s ? slot_peek (s) : 0;

    if (slot_state (word) == SLOT_CLEAN && wanted == NULL)
      page_drop_copy (store, s, word, f->tier->number, f->segment);
    if (s == NULL || !is_named (f, word) || !is_wanted (wanted, store, page))
      continue;
    if (wanted)
      wanted->left--;
    writeback_add_entry (work, store, page, word, f->record->state,
                         f->length);
    n++;
  }
  return n;
}

static void
gather_record (struct zram_memory *memory, const struct found *f,
               struct wanted *wanted)
{
  struct writeback_work *work = memory->writeback.work;
  struct zram_store *store = writeback_find_store (memory, f->record->store);
  size_t bytes = tier_length_bytes (f->record->state, f->length);
  struct tier_record *new;
  epoch_token *token;
  unsigned nr = work->nr;

  if (store == NULL)
    return;
  new = work->full ? NULL
    : writeback_make_record (work, f->record->state, f->length);
  if (new == NULL && wanted)
    return;
  token = epoch_enter (&memory->table.epoch);
  if (add_pages (work, store, f, wanted)) {
    work->old_alive += bytes;
    if (new) {
      memcpy (new, f->record, sizeof *new + f->record->size);
      work->used += bytes;
    }
    else
      work->nr = nr;            /* it was only counted */
  }
  epoch_leave (token);
}

/* The record at an offset.  False if there is none that is sound. */
static bool
find_record (struct zram_memory *memory, struct found *f)
{
  f->record = (void *) (memory->writeback.work->old + f->offset);
  f->length = tier_verify_next (f->tier, f->segment, f->offset, f->record,
                                f->tier->segment_size - f->offset);
  return f->length > 0;
}

bool
clean_gather (struct zram_memory *memory, struct tier *tier,
              uint32_t segment, struct wanted *wanted, bool *complete)
{
  struct writeback_work *work = memory->writeback.work;
  struct found f = { .tier = tier, .segment = segment };
  unsigned before = work->nr;

  if (!tier_read_segment (tier, segment, work->old)) {
    *complete = tier_can_clean (tier, segment, 0);
    return false;
  }
  work->old_alive = 0;
  pthread_mutex_lock (&memory->lock);
  while (f.offset < tier->segment_size && !(work->full && wanted)
         && find_record (memory, &f)) {
    gather_record (memory, &f, wanted);
    f.offset += tier_length_bytes (f.record->state, f.length);
  }
  pthread_mutex_unlock (&memory->lock);
  work->old_used = f.offset;
  *complete = !work->full && wanted == NULL
    && tier_can_clean (tier, segment, work->nr - before);
  return true;
}
