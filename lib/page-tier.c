/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* A page on a tier: how it is read, comes back to RAM and goes there again.
 *
 * A page that is read a second time comes back.  What is on the tier stays
 * as its clean copy for as long as the page is not written: the object in
 * RAM has eight bytes more, the word that names the copy.  Then the page
 * can leave RAM again without being written.  With them, a huge page takes
 * more than a page: it lies with others of its kind, in a class of its own.
 *
 * Where a tier is so slow to answer that its neighbours came along with a
 * record (tier-io.c), they come back as well, but only just: if nobody wants
 * them they are among the first to go.
 */

#include <config.h>

#include <errno.h>
#include <string.h>

#include "group.h"
#include "page.h"
#include "store.h"

/* How far to look around a page for what was read with it: pages. */
#define LOOK_AROUND 63

/* The age of what came along. */
#define COMPANION_AGE (AGING_IDLE - 1)

/* ---- Decoding ------------------------------------------------------ */

/* Whether a record is of that page.  Its checksum says so already, if we
 * have made no mistake.
 */
static bool
is_record_of (const struct zram_store *store, uint64_t page, uint64_t word,
              const struct tier_record *record)
{
  const struct group_header *header = (const void *) (record + 1);
  unsigned place = page % GROUP_PAGES_MAX;

  if (record->store != store->number || record->state != slot_state (word))
    return false;
  if (slot_state (word) == SLOT_TIER)
    return record->page == page;
  return record->page == page - place && header->members >> place & 1;
}

/* The page from the record that a word names. */
static bool
decode_record (struct zram_store *store, struct codec_reader *reader,
               uint64_t page, uint64_t word,
               const struct tier_record *record, void *data)
{
  const struct group_header *header = (const void *) (record + 1);
  struct codecs *codecs = store->memory->codecs;
  const unsigned char *pages;

  if (!is_record_of (store, page, word, record))
    return false;
  if (slot_state (word) == SLOT_TIER)
    return codecs_decompress (codecs, reader, slot_codec (word), record + 1,
                              record->size, data);
  pages = codecs_decompress_group (codecs, reader, slot_codec (word),
                                   header + 1, header->size,
                                   group_pages (header) * ZRAM_PAGE_SIZE);
  if (pages)
    memcpy (data, pages + group_index (header, page % GROUP_PAGES_MAX)
                          * ZRAM_PAGE_SIZE, ZRAM_PAGE_SIZE);
  return pages != NULL;
}

static int
decode (struct zram_store *store, uint64_t page, uint64_t word,
        const struct tier_record *record, void *data)
{
  struct codecs *codecs = store->memory->codecs;
  struct codec_reader *reader = codecs_get_reader (codecs);
  bool ok = decode_record (store, reader, page, word, record, data);

  codecs_put_reader (codecs, reader);
  errno = EIO;
  return ok ? 0 : -1;
}

/* Fetch and decode.  On success *F must be put back. */
static int
fetch (struct zram_store *store, uint64_t page, uint64_t word, bool around,
       void *data, struct tier_fetched *f)
{
  struct tiers *tiers = &store->memory->tiers;

  if (tiers_fetch (tiers, word, around, f) == -1)
    return -1;
  stats_add (&store->stats, STATS_BD_READS, 1);
  if (decode (store, page, word, f->record, data) == 0)
    return 0;
  tiers_put (tiers, f);
  return -1;
}

int
page_fetch (struct zram_store *store, uint64_t page, uint64_t word,
            void *data)
{
  struct tier_fetched f;

  if (fetch (store, page, word, false, data, &f) == -1)
    return -1;
  tiers_put (&store->memory->tiers, &f);
  return 0;
}

/* ---- Clean copies -------------------------------------------------- */

/* The word that names the copy of a page.  The object is ours, or its slot
 * locked.
 */
static uint64_t
copy_of (const struct zram_store *store, uint64_t word)
{
  const unsigned char *object
    = pool_object (&store->memory->pool, slot_offset (word));
  uint64_t copy;

  memcpy (&copy, object + slot_size (word), sizeof copy);
  return copy;
}

/* An object for the page that has a record at COPY; 0 if there is no
 * memory for it, or if the allocator has none of that size.
 */
static uint64_t
make_clean (struct zram_store *store, uint32_t owner, unsigned codec,
            const void *data, size_t size, uint64_t copy)
{
  struct pool *pool = &store->memory->pool;
  uint64_t offset = pool_try_alloc (pool, size + sizeof copy, owner);
  unsigned char *object;

  if (offset == 0)
    return 0;
  object = pool_object (pool, offset);
  memcpy (object, data, size);
  memcpy (object + size, &copy, sizeof copy);
  return slot_word_state (slot_word_ram (codec, size, offset), SLOT_CLEAN);
}

/* The same, of what is only in a group there. */
static uint64_t
compress_clean (struct zram_store *store, uint32_t owner, const void *data,
                uint64_t copy)
{
  struct codecs *codecs = store->memory->codecs;
  size_t max = pool_small_max (&store->memory->pool) - sizeof copy;
  unsigned codec = atomic_load_explicit (&store->codec, memory_order_acquire);
  struct codec_context *context = codecs_get (codecs);
  size_t size = codecs_compress (codecs, context, codec, data, max);
  uint64_t word = size
    ? make_clean (store, owner, codec, context->object, size, copy)
    : make_clean (store, owner, CODEC_RAW, data, ZRAM_PAGE_SIZE, copy);

  codecs_put (codecs, context);
  return word;
}

/* An object for the page at DATA, whose slot says WORD and names RECORD; 0
 * if there is no memory for it and a copy, or if the copy cannot stay.
 */
static uint64_t
clean_object (struct zram_store *store, uint32_t owner, uint64_t word,
              const struct tier_record *record, const void *data)
{
  uint64_t copy = slot_word_aged (word, 0);

  if (tiers_get (&store->memory->tiers, slot_tier (word))->leaving)
    return 0;
  if (slot_state (word) == SLOT_TIER_GROUP)
    return compress_clean (store, owner, data, copy);
  return make_clean (store, owner, slot_codec (word), record + 1,
                     record->size, copy);
}

/* A page whose slot says WORD comes back to RAM, of an AGE.  False if there
 * is no room for it and its copy, or if somebody was faster.
 */
static bool
come_back (struct zram_store *store, slot *s, uint64_t word,
           const struct tier_record *record, const void *data, unsigned age)
{
  struct zram_memory *memory = store->memory;
  uint64_t new = clean_object (store, table_owner (&memory->table, s), word,
                               record, data);

  if (new == 0)
    return false;
  new = slot_word_aged (new, age);
  /* Before others can count it less: at 0 its dictionary would go. */
  codecs_count (memory->codecs, slot_codec (word), 1);
  if (!slot_try_change (s, word, new)) {
    codecs_count (memory->codecs, slot_codec (word), -1);
    pool_free (&memory->pool, slot_offset (new));
    return true;                /* there is nothing to do any more */
  }
  page_count_change (store, word, new);
  tier_make_copy (&memory->tiers, word);
  aging_note (&store->aging, new);
  return true;
}

void
page_free_clean (struct zram_store *store, uint64_t word)
{
  struct zram_memory *memory = store->memory;
  uint64_t copy = copy_of (store, word);

  pool_free (&memory->pool, slot_offset (word));
  codecs_count (memory->codecs, slot_codec (copy), -1);
  tier_drop_copy (&memory->tiers, copy);
}

/* The slot is locked and says WORD. */
static void
drop_copy (struct zram_store *store, slot *s, uint64_t word, uint64_t copy)
{
  slot_unlock (s, slot_word_state (word, SLOT_RAM));
  codecs_count (store->memory->codecs, slot_codec (copy), -1);
  tier_drop_copy (&store->memory->tiers, copy);
}

bool
page_go_back (struct zram_store *store, slot *s, uint64_t word)
{
  struct zram_memory *memory = store->memory;
  uint64_t copy, new;

  if (!slot_trylock (s, word))
    return false;
  copy = copy_of (store, word);
  if (tiers_of (&memory->tiers, copy)
      ->segments[slot_segment (copy)].doubtful) {
    drop_copy (store, s, word, copy);
    return false;
  }
  new = slot_word_aged (copy, AGING_IDLE);
  tier_use_copy (&memory->tiers, copy);
  slot_unlock (s, new);
  page_count_change (store, word, new);
  codecs_count (memory->codecs, slot_codec (copy), -1);
  pool_free (&memory->pool, slot_offset (word));
  return true;
}

bool
page_drop_copy (struct zram_store *store, slot *s, uint64_t word,
                unsigned tier, uint32_t segment)
{
  uint64_t copy;

  if (!slot_trylock (s, word))
    return false;
  copy = copy_of (store, word);
  if (slot_tier (copy) == tier
      && (segment == 0 || slot_segment (copy) == segment))
    drop_copy (store, s, word, copy);
  else
    slot_unlock (s, word);
  return true;
}

void
page_drop_old_copy (struct zram_store *store, slot *s, uint64_t word,
                    unsigned codec)
{
  uint64_t copy;

  if (!slot_trylock (s, word))
    return;
  copy = copy_of (store, word);
  if (slot_codec (copy) == codec)
    drop_copy (store, s, word, copy);
  else
    slot_unlock (s, word);
}

/* ---- Coming back --------------------------------------------------- */

/* A page that came along with another one. */
static bool
bring_companion (struct zram_store *store, slot *s, uint64_t page,
                 const struct tier_fetched *f)
{
  uint64_t word = slot_peek (s);
  const struct tier_record *record;
  unsigned char data[ZRAM_PAGE_SIZE];

  if (!slot_on_tier (word))
    return false;
  record = tier_fetched_find (f, word);
  if (record == NULL || !is_record_of (store, page, word, record))
    return false;
  return (slot_state (word) == SLOT_TIER
          || decode (store, page, word, record, data) == 0)
    && come_back (store, s, word, record, data, COMPANION_AGE);
}

/* What is near a page in its leaf is near it on the tier.  Returns how many
 * pages came.
 */
static unsigned
bring_companions (struct zram_store *store, slot *s, uint64_t page,
                  const struct tier_fetched *f)
{
  unsigned place = page % TABLE_LEAF_SLOTS, i, n = 0;

  for (i = 1; i <= LOOK_AROUND && page_may_grow (store); i++) {
    if (i <= place)
      n += bring_companion (store, s - i, page - i, f);
    if (place + i < TABLE_LEAF_SLOTS)
      n += bring_companion (store, s + i, page + i, f);
  }
  return n;
}

/* With its copy, if there is room for both. */
static void
come_back_somehow (struct zram_store *store, slot *s, uint64_t word,
                   const struct tier_record *record, const void *data)
{
  if (!come_back (store, s, word, record, data, slot_age (word)))
    page_leave_group (store, s, word, ANY_BIRTH, data);
}

int
page_promote (struct zram_store *store, slot *s, uint64_t page,
              uint64_t word, bool companions, unsigned *promoted)
{
  unsigned char data[ZRAM_PAGE_SIZE];
  struct tier_fetched f;

  *promoted = 0;
  if (fetch (store, page, word, companions, data, &f) == -1)
    return -1;
  come_back_somehow (store, s, word, f.record, data);
  *promoted = !slot_on_tier (slot_peek (s));
  if (f.wide)
    *promoted += bring_companions (store, s, page, &f);
  tiers_put (&store->memory->tiers, &f);
  return 0;
}

bool
page_give_up (struct zram_store *store, slot *s, uint64_t page,
              uint64_t word)
{
  unsigned char data[ZRAM_PAGE_SIZE];

  if (page_fetch (store, page, word, data) == 0
      || !slot_try_change (s, word, slot_word_lost ()))
    return false;
  page_replaced (store, word, slot_word_lost ());
  return true;
}

void
page_renew (struct zram_store *store, slot *s, uint64_t page, uint64_t word)
{
  unsigned char data[ZRAM_PAGE_SIZE];

  if (page_fetch (store, page, word, data) == 0)
    page_leave_group (store, s, word, ANY_BIRTH, data);
}

/* Read since the last walk as well: that is worth memory even if writers wait
 * for some.  Near the limit walks are many.
 */
static bool
is_hot (const struct zram_store *store, uint64_t word)
{
  return slot_age (word) == 0
    && !arena_is_low (&store->memory->pool.arena);
}

int
page_read_tier (struct zram_store *store, slot *s, uint64_t page,
                uint64_t word, void *data, bool touch)
{
  uint64_t young = page_touched (store, word);
  struct tier_fetched f;

  if (fetch (store, page, word, touch && page_may_grow (store), data, &f)
      == -1)
    return -1;
  if (touch && slot_try_change (s, word, young)
      && (page_may_grow (store) ? !aging_is_idle (word)
          : is_hot (store, word)))
    come_back_somehow (store, s, young, f.record, data);
  if (f.wide)
    bring_companions (store, s, page, &f);
  tiers_put (&store->memory->tiers, &f);
  return 0;
}
