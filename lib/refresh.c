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

/* Pages in a portion. */
#define PORTION 256

/* Between two walks. */
#define PAUSE_NS (10 * CLOCK_SECOND)

/* One leaf, from PAGE on.  Returns how many pages were read. */
static unsigned
refresh_leaf (struct zram_store *store, unsigned codec, uint64_t page,
              uint64_t *span)
{
  epoch_token *token = epoch_enter (&store->memory->table.epoch);
  slot *s = slots_step (&store->slots, page, span);
  unsigned n = 0;
  uint64_t i;

  for (i = 0; s && i < *span; i++) {
    uint64_t word = slot_peek (&s[i]);

    if (slot_on_tier (word) && slot_codec (word) == codec) {
      page_renew (store, &s[i], page + i, word);
      n++;
    }
    else if (slot_state (word) == SLOT_CLEAN)
      page_drop_old_copy (store, &s[i], word, codec);
  }
  epoch_leave (token);
  return n;
}

/* Go on with a store.  False when it is done. */
static bool
refresh_store (struct refresh *r, struct zram_store *store)
{
  uint64_t span;
  unsigned n = 0;

  while (r->page < store->slots.nr_pages && n < PORTION
         && !writeback_is_needed (&store->memory->writeback)) {
    n += refresh_leaf (store, r->codec, r->page, &span);
    r->page += span;
  }
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
