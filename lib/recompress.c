/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* When a store has adopted a dictionary, this walks once through its
 * slots and gives the pages that were written before to the new codec.
 * They become smaller and faster to read, and the dictionary before it
 * loses its objects and can be freed.
 *
 * A page is replaced like by a write of a part of it: under its slot's
 * lock, from reading the old object to publishing the new.  So a request
 * for just this page may wait for one decompression and one compression,
 * and nobody else waits.  The slot is only tried: a page that is in use
 * will be written anyway, or found again by the next generation.
 *
 * An object that would not shrink stays, unless that would keep an old
 * dictionary alive.
 */

#include <config.h>

#include "recompress.h"
#include "store.h"

/* Whether a slot names an object of an older codec. */
static bool
is_outdated (struct zram_store *store, uint64_t word)
{
  return slot_is_alone (word) && !aging_is_pending (word)
    && slot_codec (word) != atomic_load (&store->codec)
    && codecs_needs_reader (store->memory->codecs, slot_codec (word));
}

static void
recompress_leaf (struct zram_store *store, slot *s, uint64_t span,
                 unsigned *budget)
{
  uint64_t i, word;

  for (i = 0; i < span; i++) {
    word = slot_peek (&s[i]);
    if (!is_outdated (store, word))
      continue;
    page_recompress (store, &s[i], word);
    if (*budget)
      --*budget;
  }
}

/* Walk on, whole leaves at a time. */
static void
walk (struct zram_store *store, unsigned *budget)
{
  struct recompress *r = &store->recompress;
  uint64_t span;

  while (*budget && r->page < store->slots.nr_pages) {
    epoch_token *token = epoch_enter (&store->memory->table.epoch);
    slot *s = slots_step (&store->slots, r->page, &span);

    if (s)
      recompress_leaf (store, s, span, budget);
    epoch_leave (token);
    r->page += span;
  }
  r->done = r->page >= store->slots.nr_pages;
}

bool
recompress_some (struct zram_store *store, unsigned *budget)
{
  struct recompress *r = &store->recompress;
  unsigned generation = atomic_load (&store->dictionary.generation);

  if (r->generation != generation)
    *r = (struct recompress) { .generation = generation };
  if (generation == 0 || r->done)
    return false;
  walk (store, budget);
  return true;
}
