/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* One page: how it is written, read and freed.
 *
 * Writing a whole page makes its new object, complete, before the slot
 * names it; one atomic exchange publishes it, and only then is the old
 * object freed.  At any instant the slot names a whole object, and a
 * write that fails has changed nothing.
 *
 * Writing part of a page holds the slot's lock from reading the old
 * contents to publishing the new.
 *
 * Reading holds the slot's lock while it decompresses, straight into the
 * caller's buffer, so that the object is neither freed nor moved, and
 * makes the page young (aging.h).  A
 * hole or a page of a 32-bit pattern needs no lock: all there is to know
 * stands in the word.
 *
 * Order: a compression context first, then a reader, then a slot, then
 * the pool.  A DEAD slot (see slots.c) sends everybody back to the
 * directory.
 */

#include <config.h>

#include <errno.h>
#include <sched.h>
#include <string.h>

#include "group.h"
#include "page.h"
#include "store.h"

/* ---- Same-filled pages --------------------------------------------- */

/* Whether the page repeats its first eight bytes.  Most of those that do
 * not differ within the first few.
 */
static bool
is_same_filled (const unsigned char *page, uint64_t *pattern)
{
  memcpy (pattern, page, sizeof *pattern);
  return memcmp (page, page + sizeof *pattern,
                 ZRAM_PAGE_SIZE - sizeof *pattern) == 0;
}

static void
fill (void *page, uint32_t pattern)
{
  unsigned char *p = page;
  size_t i;

  if (pattern == 0)
    memset (page, 0, ZRAM_PAGE_SIZE);
  else
    for (i = 0; i < ZRAM_PAGE_SIZE; i += sizeof pattern)
      memcpy (p + i, &pattern, sizeof pattern);
}

/* ---- Counting ------------------------------------------------------ */

static bool
is_object_of (uint64_t word, unsigned codec)
{
  return slot_is_alone (word) && slot_codec (word) == codec;
}

static bool
is_same (uint64_t word)
{
  return slot_state (word) == SLOT_SAME || is_object_of (word, CODEC_PATTERN);
}

/* As zram counts: not the eight bytes of a pattern.  Groups are counted
 * as such (group.c).
 */
static int64_t
object_bytes (uint64_t word)
{
  if (!slot_is_alone (word) || slot_codec (word) == CODEC_PATTERN)
    return 0;
  return slot_size (word);
}

/* The codec of a page whose codec is counted; CODEC_RAW for others. */
static unsigned
counted_codec (uint64_t word)
{
  return slot_is_alone (word) || slot_on_tier (word)
    ? slot_codec (word) : CODEC_RAW;
}

void
page_count_change (struct zram_store *store, uint64_t old, uint64_t new)
{
  struct stats *stats = &store->stats;
  unsigned from = counted_codec (old), to = counted_codec (new);
  int huge = is_object_of (new, CODEC_RAW);

  if (from != to) {
    codecs_count (store->memory->codecs, from, -1);
    codecs_count (store->memory->codecs, to, 1);
  }
  stats_add (stats, STATS_PAGES, (new != 0) - (old != 0));
  stats_add (stats, STATS_OBJECT_BYTES,
             object_bytes (new) - object_bytes (old));
  stats_add (stats, STATS_GROUPED, (slot_state (new) == SLOT_GROUP)
                                   - (slot_state (old) == SLOT_GROUP));
  stats_add (stats, STATS_BD_COUNT, slot_on_tier (new) - slot_on_tier (old));
  stats_add (stats, STATS_SAME, is_same (new) - is_same (old));
  stats_add (stats, STATS_LOST, slot_is_lost (new) - slot_is_lost (old));
  stats_add (stats, STATS_HUGE, huge - is_object_of (old, CODEC_RAW));
  stats_add (stats, STATS_HUGE_SINCE, huge);
}

/* ---- Memory, and trying harder to get it --------------------------- */

static slot *
make_slot (struct zram_store *store, uint64_t page)
{
  struct zram_memory *memory = store->memory;
  uint64_t freed;
  slot *s;

  do {
    freed = limit_freed (&memory->limit);
    s = slots_make (&store->slots, page);
  } while (s == NULL && memory_reclaim (memory, freed));
  return s;
}

/* Room for an object; in the last resort, more room than it needs. */
static uint64_t
alloc_object (struct zram_store *store, size_t size, uint32_t owner)
{
  struct zram_memory *memory = store->memory;
  uint64_t freed, offset;

  do {
    freed = limit_freed (&memory->limit);
    offset = pool_alloc (&memory->pool, size, owner);
  } while (offset == 0 && memory_reclaim (memory, freed));
  return offset ? offset : pool_alloc_anywhere (&memory->pool, size, owner);
}

/* The object that a word names, if any, is not named any more. */
static void
free_object (struct zram_store *store, uint64_t word)
{
  if (slot_state (word) == SLOT_RAM)
    pool_free (&store->memory->pool, slot_offset (word));
  else if (slot_state (word) == SLOT_GROUP)
    group_leave (store, word);
  else if (slot_on_tier (word))
    tier_leave (&store->memory->tiers, word);
  else if (slot_state (word) == SLOT_CLEAN)
    page_free_clean (store, word);
}

/* ---- Words and pages ----------------------------------------------- */

/* Make an object of SIZE bytes for the slot OWNER and the word that
 * names it.
 */
static int
encode_object (struct zram_store *store, unsigned codec, const void *data,
               size_t size, uint32_t owner, uint64_t *word)
{
  uint64_t offset = alloc_object (store, size, owner);

  if (offset == 0)
    return -1;
  memcpy (pool_object (&store->memory->pool, offset), data, size);
  *word = slot_word_ram (codec, size, offset);
  return 0;
}

static int
encode_pattern (struct zram_store *store, uint64_t pattern, uint32_t owner,
                uint64_t *word)
{
  uint32_t half = pattern;

  if (pattern >> 32 == half) {
    *word = slot_word_same (half);
    return 0;
  }
  return encode_object (store, CODEC_PATTERN, &pattern, sizeof pattern,
                        owner, word);
}

/* Store the page at DATA; *WORD names what became of it. */
static int
encode (struct zram_store *store, struct codec_context *context,
        const void *data, uint32_t owner, uint64_t *word)
{
  struct zram_memory *memory = store->memory;
  unsigned codec = atomic_load_explicit (&store->codec, memory_order_acquire);
  uint64_t pattern;
  size_t size;

  if (is_same_filled (data, &pattern))
    return encode_pattern (store, pattern, owner, word);
  size = codecs_compress (memory->codecs, context, codec, data,
                          pool_small_max (&memory->pool));
  if (size)
    return encode_object (store, codec, context->object, size, owner, word);
  return encode_object (store, CODEC_RAW, data, ZRAM_PAGE_SIZE, owner, word);
}

static bool
decode_group (struct zram_store *store, struct codec_reader *reader,
              uint64_t word, void *data)
{
  const unsigned char *page = group_read (store, reader, word);

  if (page)
    memcpy (data, page, ZRAM_PAGE_SIZE);
  return page != NULL;
}

static bool
decode_object (struct zram_store *store, struct codec_reader *reader,
               uint64_t word, void *data)
{
  struct zram_memory *memory = store->memory;

  return codecs_decompress (memory->codecs, reader, slot_codec (word),
                            pool_object (&memory->pool, slot_offset (word)),
                            slot_size (word), data);
}

/* The opposite.  The slot is locked if the word names an object. */
static int
decode (struct zram_store *store, struct codec_reader *reader,
        uint64_t word, void *data)
{
  bool ok = true;

  switch (slot_state (word)) {
  case SLOT_RAM:
  case SLOT_CLEAN:
    ok = decode_object (store, reader, word, data);
    break;
  case SLOT_GROUP:
    ok = decode_group (store, reader, word, data);
    break;
  case SLOT_SAME:
    fill (data, slot_pattern (word));
    ok = !slot_is_lost (word);
    break;
  case SLOT_EMPTY:
  case SLOT_DEAD:
    fill (data, 0);
    break;
  case SLOT_TIER:
  case SLOT_TIER_GROUP:
    ok = false;                 /* not under a lock: page-tier.c */
  }
  if (!ok)
    errno = EIO;
  return ok ? 0 : -1;
}

/* A word for the page at DATA, compressed by the codec in use to at most
 * MAX bytes; 0 if it does not get so small, or if there is no memory for it
 * now.
 */
static uint64_t
encode_smaller (struct zram_store *store, struct codec_context *context,
                const void *data, uint32_t owner, size_t max)
{
  struct zram_memory *memory = store->memory;
  unsigned codec = atomic_load_explicit (&store->codec, memory_order_acquire);
  size_t small = pool_small_max (&memory->pool), size;
  uint64_t offset;

  size = codecs_compress (memory->codecs, context, codec, data,
                          max < small ? max : small);
  offset = size ? pool_try_alloc (&memory->pool, size, owner) : 0;
  if (offset == 0)
    return 0;
  memcpy (pool_object (&memory->pool, offset), context->object, size);
  return slot_word_ram (codec, size, offset);
}

/* The same, and as it is if it does not compress; 0 only for want of memory. */
static uint64_t
encode_somehow (struct zram_store *store, struct codec_context *context,
                const void *data, uint32_t owner)
{
  struct pool *pool = &store->memory->pool;
  uint64_t word = encode_smaller (store, context, data, owner,
                                  ZRAM_PAGE_SIZE);
  uint64_t offset = word ? 0 : pool_try_alloc (pool, ZRAM_PAGE_SIZE, owner);

  if (offset == 0)
    return word;
  memcpy (pool_object (pool, offset), data, ZRAM_PAGE_SIZE);
  return slot_word_ram (CODEC_RAW, ZRAM_PAGE_SIZE, offset);
}

void
page_replaced (struct zram_store *store, uint64_t old, uint64_t new)
{
  page_count_change (store, old, new);
  free_object (store, old);
  aging_note (&store->aging, new);
}

/* ---- Reading ------------------------------------------------------- */

static bool
needs_reader (const struct zram_store *store, uint64_t word)
{
  return slot_state (word) == SLOT_GROUP
    || (slot_is_alone (word)
        && codecs_needs_reader (store->memory->codecs, slot_codec (word)));
}

/* The age of a page that is used, and had AGE.  A page that is used once
 * is young; for mfu, that takes several times.
 */
static unsigned
used_age (const struct zram_store *store, unsigned age)
{
  if (store->memory->policy != ZRAM_POLICY_MFU)
    return 0;
  if (age > AGING_IDLE)
    age = AGING_IDLE;
  return age ? age - 1 : 0;
}

uint64_t
page_touched (struct zram_store *store, uint64_t word)
{
  if (!slot_has_age (word)
      || (aging_is_pending (word)
          && writeback_insists (&store->memory->writeback)))
    return word;
  word = slot_word_aged (word, used_age (store, slot_age (word)))
    & ~SLOT_SETTLED;
  aging_note (&store->aging, word);
  return word;
}

/* The birth of the group that a word names, if it names one. */
static int
birth_of (const struct zram_store *store, uint64_t word)
{
  return slot_state (word) == SLOT_GROUP
    ? group_header (&store->memory->pool, slot_offset (word))->birth
    : ANY_BIRTH;
}

/* Read the page of a slot, and make it young if TOUCH.  *WORD is what the
 * slot said, and *BIRTH that of its group.  The reader may be NULL, and then
 * EAGAIN says that one is needed.  So does it if the slot is dead.
 */
static int
read_slot (struct zram_store *store, struct codec_reader *reader,
           slot *s, void *data, bool touch, uint64_t *word, int *birth)
{
  int r;

  *word = slot_lock (s);
  if (slot_state (*word) == SLOT_DEAD) {
    errno = EAGAIN;
    return -1;
  }
  if (slot_on_tier (*word)
      || (reader == NULL && needs_reader (store, *word))) {
    slot_unlock (s, *word);
    errno = EAGAIN;
    return -1;
  }
  r = decode (store, reader, *word, data);
  *birth = birth_of (store, *word);
  slot_unlock (s, touch ? page_touched (store, *word) : *word);
  return r;
}

/* Make a slot say NEW that says WORD, if that names the group with BIRTH.
 * Another one may have come to where it was.
 */
static bool
replace_group (struct zram_store *store, slot *s, uint64_t word, int birth,
               uint64_t new)
{
  bool same;

  if (!slot_trylock (s, word))
    return false;
  same = birth == ANY_BIRTH || birth_of (store, word) == birth;
  slot_unlock (s, same ? new : word);
  return same;
}

__attribute__ ((noinline)) void
page_leave_group (struct zram_store *store, slot *s, uint64_t word,
                  int birth, const void *data)
{
  struct codecs *codecs = store->memory->codecs;
  struct codec_context *context;
  uint64_t new;

  if (arena_is_short (&store->memory->pool.arena))
    return;
  context = codecs_get (codecs);
  new = encode_somehow (store, context, data,
                        table_owner (&store->memory->table, s));
  codecs_put (codecs, context);
  if (new == 0)
    return;
  new = slot_word_aged (new, slot_age (word));
  if (replace_group (store, s, word, birth, new))
    page_replaced (store, word, new);
  else
    free_object (store, new);
}

/* A page that leaves its group takes memory, and frees none until all have
 * left; one that comes back from a tier frees none at all.  That must not be
 * what others will be short of.
 */
bool
page_may_grow (struct zram_store *store)
{
  return !writeback_is_needed (&store->memory->writeback)
    && !arena_is_low (&store->memory->pool.arena);
}

/* One try: EAGAIN if the page has changed too much meanwhile. */
static int
try_read (struct zram_store *store, uint64_t page, void *data, bool touch)
{
  struct codecs *codecs = store->memory->codecs;
  slot *s = slots_find (&store->slots, page);
  uint64_t word = s ? slot_peek (s) : 0;
  struct codec_reader *reader = NULL;
  int r, birth = ANY_BIRTH;

  if (slot_state (word) == SLOT_EMPTY || slot_state (word) == SLOT_SAME)
    return decode (store, NULL, word, data);
  if (slot_on_tier (word))
    return page_read_tier (store, s, page, word, data, touch);
  if (needs_reader (store, word))
    reader = codecs_get_reader (codecs);
  r = read_slot (store, reader, s, data, touch, &word, &birth);
  if (reader)
    codecs_put_reader (codecs, reader);
  if (r == 0 && touch && slot_state (word) == SLOT_GROUP
      && !aging_is_idle (word) && page_may_grow (store))
    page_leave_group (store, s, page_touched (store, word), birth, data);
  return r;
}

static int
read_whole (struct zram_store *store, uint64_t page, void *data, bool touch)
{
  int r;

  while ((r = try_read (store, page, data, touch)) == -1 && errno == EAGAIN)
    sched_yield ();
  return r;
}

int
page_peek (struct zram_store *store, uint64_t page, void *data)
{
  return read_whole (store, page, data, false);
}

int
page_read (struct zram_store *store, uint64_t page, void *buf,
           size_t from, size_t count)
{
  unsigned char data[ZRAM_PAGE_SIZE];

  if (count == ZRAM_PAGE_SIZE)
    return read_whole (store, page, buf, true);
  if (read_whole (store, page, data, true) == -1)
    return -1;
  memcpy (buf, data + from, count);
  return 0;
}

/* ---- Writing ------------------------------------------------------- */

/* What is going to be freed after the page has been compressed: fetch
 * it meanwhile.  Only a hint, as the slot is not locked.
 */
static void
prefetch_old (struct zram_store *store, const slot *s)
{
  uint64_t word = slot_peek (s);

  if (slot_is_alone (word))
    pool_prefetch_free (&store->memory->pool, slot_offset (word));
}

/* What is to be written over a page that says OLD, about: a hole is as
 * idle as can be.
 */
static uint64_t
written (const struct zram_store *store, uint64_t word, uint64_t old)
{
  if (!slot_has_age (word))
    return word;
  return slot_word_aged (word, used_age (store, slot_has_age (old)
                                                ? slot_age (old)
                                                : AGING_IDLE));
}

static int
write_whole (struct zram_store *store, struct codec_context *context,
             uint64_t page, const void *data)
{
  uint64_t old, word;
  slot *s;

  for (;;) {
    s = make_slot (store, page);
    if (s == NULL)
      return -1;
    prefetch_old (store, s);
    if (encode (store, context, data,
                table_owner (&store->memory->table, s), &word) == -1)
      return -1;
    old = slot_exchange (s, written (store, word, slot_peek (s)));
    if (slot_state (old) != SLOT_DEAD)
      break;
    free_object (store, word);
    sched_yield ();
  }
  page_replaced (store, old, word);
  return 0;
}

/* What a page was that is on a tier; the word is 0 if it was not. */
struct fetched {
  uint64_t word;
  unsigned char page[ZRAM_PAGE_SIZE];
};

/* The contents of a page whose slot is locked and says OLD. */
static int
old_contents (struct zram_store *store, struct codec_reader *reader,
              uint64_t old, const struct fetched *fetched, void *data)
{
  if (!slot_on_tier (old))
    return decode (store, reader, old, data);
  memcpy (data, fetched->page, ZRAM_PAGE_SIZE);
  return 0;
}

/* The slot is locked and says OLD.  On failure it still is and does. */
static int
rewrite (struct zram_store *store, struct codec_context *context,
         struct codec_reader *reader, slot *s, uint64_t old,
         const struct fetched *fetched, const void *buf, size_t from,
         size_t count)
{
  uint64_t word;

  if (old_contents (store, reader, old, fetched, context->page) == -1)
    return -1;
  if (buf)
    memcpy (context->page + from, buf, count);
  else
    memset (context->page + from, 0, count);
  if (encode (store, context, context->page,
              table_owner (&store->memory->table, s), &word) == -1)
    return -1;
  slot_unlock (s, written (store, word, old));
  page_replaced (store, old, word);
  return 0;
}

/* EAGAIN: the page has gone to a tier, or to another place there. */
static int
write_part (struct zram_store *store, struct codec_context *context,
            struct codec_reader *reader, uint64_t page,
            const struct fetched *fetched, const void *buf,
            size_t from, size_t count)
{
  uint64_t old;
  slot *s;

  for (;;) {
    s = make_slot (store, page);
    if (s == NULL)
      return -1;
    old = slot_lock (s);
    if (slot_state (old) != SLOT_DEAD)
      break;
    sched_yield ();
  }
  if (slot_on_tier (old)
      && slot_word_aged (old, 0) != slot_word_aged (fetched->word, 0))
    errno = EAGAIN;
  else if (rewrite (store, context, reader, s, old, fetched, buf, from, count)
           == 0)
    return 0;
  slot_unlock (s, old);
  return -1;
}

/* Zeroes that are written to a hole are there already. */
static bool
is_hole (struct zram_store *store, uint64_t page)
{
  slot *s = slots_find (&store->slots, page);

  return s == NULL || slot_state (slot_peek (s)) == SLOT_EMPTY;
}

/* The storage is waited for before anything is taken that others want. */
static int
fetch_first (struct zram_store *store, uint64_t page, struct fetched *fetched)
{
  slot *s = slots_find (&store->slots, page);
  uint64_t word = s ? slot_peek (s) : 0;

  fetched->word = slot_on_tier (word) ? word : 0;
  return fetched->word ? page_fetch (store, page, word, fetched->page) : 0;
}

static int
try_write_part (struct zram_store *store, uint64_t page, const void *buf,
                size_t from, size_t count)
{
  struct codecs *codecs = store->memory->codecs;
  struct codec_context *context;
  struct codec_reader *reader;
  struct fetched fetched;
  int r;

  if (fetch_first (store, page, &fetched) == -1)
    return -1;
  context = codecs_get (codecs);
  reader = codecs_get_reader (codecs);
  r = write_part (store, context, reader, page, &fetched, buf, from, count);
  codecs_put_reader (codecs, reader);
  codecs_put (codecs, context);
  return r;
}

static int
write_page (struct zram_store *store, uint64_t page, const void *buf,
            size_t from, size_t count)
{
  struct codecs *codecs = store->memory->codecs;
  struct codec_context *context;
  int r;

  if (buf && count == ZRAM_PAGE_SIZE) {
    context = codecs_get (codecs);
    r = write_whole (store, context, page, buf);
    codecs_put (codecs, context);
    return r;
  }
  while ((r = try_write_part (store, page, buf, from, count)) == -1
         && errno == EAGAIN)
    sched_yield ();
  return r;
}

int
page_write (struct zram_store *store, uint64_t page, const void *buf,
            size_t from, size_t count)
{
  int r;

  if (buf == NULL && is_hole (store, page))
    return 0;
  r = write_page (store, page, buf, from, count);
  if (r == -1) {
    int err = errno;

    /* It may have made a leaf for nothing. */
    slots_retire (&store->slots, page);
    errno = err;
  }
  return r;
}

/* ---- Freeing ------------------------------------------------------- */

bool
page_free (struct zram_store *store, slot *s, bool *freed)
{
  uint64_t old = slot_peek (s);

  if (slot_state (old) != SLOT_EMPTY)
    old = slot_exchange (s, 0);
  if (slot_state (old) == SLOT_DEAD)
    return false;
  *freed = slot_state (old) != SLOT_EMPTY;
  if (*freed)
    page_replaced (store, old, 0);
  return true;
}

/* ---- Recompressing ------------------------------------------------- */

/* Make a new object of a page that is locked and says OLD.  0 if there
 * is no point in it.
 */
static uint64_t
recompressed (struct zram_store *store, struct codec_context *context,
              struct codec_reader *reader, slot *s, uint64_t old)
{
  struct zram_memory *memory = store->memory;
  /* To be rid of an old dictionary is worth some bytes. */
  size_t max = codecs_has_dictionary (memory->codecs, slot_codec (old))
    ? ZRAM_PAGE_SIZE : slot_size (old) - 1;
  uint64_t new;

  if (decode (store, reader, old, context->page) == -1)
    return 0;
  new = encode_smaller (store, context, context->page,
                        table_owner (&memory->table, s), max);
  return new ? slot_word_aged (new, slot_age (old)) : 0;
}

void
page_recompress (struct zram_store *store, slot *s, uint64_t word)
{
  struct codecs *codecs = store->memory->codecs;
  struct codec_context *context = codecs_get (codecs);
  struct codec_reader *reader = codecs_get_reader (codecs);
  uint64_t new = 0;

  if (slot_trylock (s, word)) {
    new = recompressed (store, context, reader, s, word);
    slot_unlock (s, new ? new : word);
  }
  codecs_put_reader (codecs, reader);
  codecs_put (codecs, context);
  if (new)
    page_replaced (store, word, new);
}

/* ---- Groups -------------------------------------------------------- */

bool
page_decode (struct zram_store *store, slot *s, uint64_t word, void *data)
{
  struct codecs *codecs = store->memory->codecs;
  struct codec_reader *reader = codecs_get_reader (codecs);
  bool ok = slot_trylock (s, word);

  if (ok) {
    ok = decode (store, reader, word, data) == 0;
    slot_unlock (s, word);
  }
  codecs_put_reader (codecs, reader);
  return ok;
}
