/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* A dictionary lives as long as an object that was compressed with it.  On
 * a tier that may be for ever, and when too many are kept alive no new one
 * is made (dictionary.c).  So when they become many, the pages on tiers of
 * the one that has least are read and compressed anew.  They are as idle as
 * they were, and go back when memory is short.
 *
 * The thread that writes back does this, a portion at a time, while memory
 * is not short.
 */

#include <config.h>

#include "clock.h"
#include "memory.h"
#include "refresh.h"
#include "store.h"
#include "writeback-work.h"

/* Pages that are read in a portion, with memory->lock held: a tier may take
 * long for each, and somebody may need this thread meanwhile.
 */
#define PORTION 1

/* Between two walks. */
#define PAUSE_NS (10 * CLOCK_SECOND)

/* The next leaf, or as much of it as PORTION pages are read of. */
static unsigned
refresh_leaf (struct refresh *r, struct zram_store *store)
{
  epoch_token *token = epoch_enter (&store->memory->table.epoch);
  uint64_t span, i;
  slot *s = slots_step (&store->slots, r->page, &span);
  unsigned n = 0;

  for (i = 0; s && i < span && n < PORTION; i++) {
    uint64_t word = slot_peek (&s[i]);

    if (slot_on_tier (word) && slot_codec (word) == r->codec) {
      page_renew (store, &s[i], r->page + i, word);
      n++;
    }
    else if (slot_state (word) == SLOT_CLEAN)
      page_drop_old_copy (store, &s[i], word, r->codec);
  }
  epoch_leave (token);
  r->page += s ? i : span;
  return n;
}

/* Go on with a store.  False when it is done. */
static bool
refresh_store (struct refresh *r, struct zram_store *store)
{
  unsigned n = 0;

  while (r->page < store->slots.nr_pages && n < PORTION
         && !writeback_is_needed (&store->memory->writeback))
    n += refresh_leaf (r, store);
  return r->page < store->slots.nr_pages;
}

/* Begin with the first store, if there is need. */
static void
begin (struct zram_memory *memory, struct refresh *r)
{
  if (r->codec || clock_ns () < r->next || memory->stores == NULL)
    return;
  r->codec = dictionary_crowding (memory);
  r->store = memory->stores->number;
  r->page = 0;
}

/* What is left by now could not be read or was in use. */
static void
end_store (struct refresh *r, const struct zram_store *store)
{
  if (store && store->next) {
    r->store = store->next->number;
    r->page = 0;
    return;
  }
  r->codec = 0;
  r->next = clock_ns () + PAUSE_NS;
}

bool
refresh_some (struct zram_memory *memory, struct refresh *r)
{
  struct zram_store *store;

  pthread_mutex_lock (&memory->lock);
  begin (memory, r);
  if (r->codec) {
    store = writeback_find_store (memory, r->store);
    if (store == NULL || !refresh_store (r, store))
      end_store (r, store);
  }
  pthread_mutex_unlock (&memory->lock);
  return r->codec && !writeback_is_needed (&memory->writeback);
}
