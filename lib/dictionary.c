/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Dictionaries that train themselves.
 *
 * What zstd does with a page of 4 KiB is mostly to make entropy tables.
 * A dictionary brings them along: the same density, or some percent
 * more, in about three quarters of the time.  Elsewhere it has to be
 * trained by hand, and to fit what will be stored later; we make one of
 * what is stored.
 *
 * Samples are pages of the store, taken evenly over all of it at the
 * moment of training.  So the write path has no part in it.  A quarter
 * of them is held back.  A dictionary is a few kilobytes of pieces of
 * samples, and tables that are computed from all of them by who will use
 * them (zstd-page.c, or zdict.h's ZDICT_finalizeDictionary).  Measured on
 * memory pages, pieces chosen at random are within 1 % of
 * ZDICT_trainFromBuffer's choice, which takes some 400 ms and 12 MB; ours
 * takes 5 ms.  So we make several, and let the pages that were held back
 * decide: by size first, and then whether the best is better than what is
 * in use, by size and time.
 *
 * Each dictionary is a codec with an index of its own (codec.h).  When a
 * new one is adopted, the old one is retired: it goes when nobody can be
 * writing with it any more (a grace period), its last object is gone,
 * and nobody can have seen that object's slot (another one).
 *
 * It is trained again when much has been written since, in case the
 * contents have changed.  If that brings nothing the interval doubles.
 *
 * All of this is the background thread's.  Writers read the store's
 * codec once for each page, and that is all they know of it.
 */

#include <config.h>

#include <string.h>

#include <zdict.h>

#include "clock.h"
#include "dictionary.h"
#include "mapping.h"
#include "store.h"
#include "zstd-page.h"

/* A store with fewer objects than this is not worth a dictionary. */
#define STORED_MIN 2048

/* Train again when this many pages, and four times as many as are
 * stored, have been compressed since.
 */
#define INTERVAL_MIN 16384
#define INTERVAL_MAX (UINT64_C (1) << 40)

#define NR_SAMPLES 512
#define NR_JUDGES (NR_SAMPLES / 4)      /* the last ones are held back */
#define NR_TRAIN (NR_SAMPLES - NR_JUDGES)

/* What a dictionary is made of. */
#define CONTENT_SIZE 8192
#define PIECE_SIZE 256
#define DICTIONARY_SIZE (CONTENT_SIZE + ZSTD_DICTIONARY_TABLES)
#define NR_CANDIDATES 4

/* Retired dictionaries that still have objects, at most.  (Each takes
 * 60 KB and more and an index of the table.)
 */
#define ALIVE_MAX 8

/* A candidate is adopted if its objects are at most this size and take
 * at most this time, per mille of the codec in use: as dense and
 * faster, or denser and about as fast, or much denser and not much
 * slower.
 */
static const struct { unsigned size, time; } good_enough[] = {
  { 1002, 960 }, { 970, 1050 }, { 900, 1200 }, { 750, 2000 },
};

#define NR_PASSES 3             /* of each measurement; the best counts */

struct cost {
  uint64_t bytes, ns;
};

struct training {
  struct zram_store *store;
  unsigned nr;                  /* samples */
  unsigned char pages[NR_SAMPLES][ZRAM_PAGE_SIZE];
  uint64_t random;
};

void
dictionary_init (struct dictionary *dictionary, unsigned base)
{
  dictionary->wanted = true;
  dictionary->base = base;
  dictionary->interval = INTERVAL_MIN;
}

/* ---- Samples ------------------------------------------------------- */

static bool
is_sample (struct zram_store *store, uint64_t word)
{
  return slot_is_alone (word)
    && codecs_needs_reader (store->memory->codecs, slot_codec (word));
}

/* Objects that can be samples, about. */
static uint64_t
nr_eligible (struct zram_store *store)
{
  uint64_t all = stats_read (&store->stats, STATS_PAGES);
  uint64_t not = stats_read (&store->stats, STATS_SAME)
    + stats_read (&store->stats, STATS_HUGE)
    + stats_read (&store->stats, STATS_GROUPED)
    + stats_read (&store->stats, STATS_BD_COUNT);

  return all > not ? all - not : 0;
}

/* Take every so many-th object of a leaf's slots from PAGE on. */
static void
sample_leaf (struct training *t, const slot *s, uint64_t page, uint64_t span,
             uint64_t *skip, uint64_t stride)
{
  uint64_t i;

  for (i = 0; i < span && t->nr < NR_SAMPLES; i++) {
    if (!is_sample (t->store, slot_peek (&s[i])))
      continue;
    if (*skip) {
      --*skip;
      continue;
    }
    *skip = stride ? stride - 1 : 0;
    if (page_peek (t->store, page + i, t->pages[t->nr]) == 0)
      t->nr++;
  }
}

static void
take_samples (struct training *t)
{
  struct table *table = &t->store->memory->table;
  /* Rounded down, so that there are enough: STORED_MIN > NR_SAMPLES. */
  uint64_t stride = nr_eligible (t->store) / NR_SAMPLES;
  uint64_t page, span, skip = 0;

  for (page = 0; page < t->store->slots.nr_pages; page += span) {
    epoch_token *token = epoch_enter (&table->epoch);
    slot *s = slots_step (&t->store->slots, page, &span);

    if (s)
      sample_leaf (t, s, page, span, &skip, stride);
    epoch_leave (token);
  }
}

/* A linear congruential generator (Knuth, MMIX); quality is no concern. */
static unsigned
random_below (struct training *t, unsigned n)
{
  t->random = t->random * UINT64_C (6364136223846793005)
    + UINT64_C (1442695040888963407);
  return (t->random >> 33) % n;
}

/* The samples stand in the order of their pages.  Mix them, so that those
 * that are held back are like the others.
 */
static void
shuffle (struct training *t)
{
  unsigned char page[ZRAM_PAGE_SIZE];
  unsigned i, k;

  for (i = t->nr; i > 1; i--) {
    k = random_below (t, i);
    memcpy (page, t->pages[k], ZRAM_PAGE_SIZE);
    memcpy (t->pages[k], t->pages[i - 1], ZRAM_PAGE_SIZE);
    memcpy (t->pages[i - 1], page, ZRAM_PAGE_SIZE);
  }
}

/* ---- Making and judging -------------------------------------------- */

/* Add the tables to the content, for who will compress with them.  Returns
 * the size of the dictionary, or 0.
 */
static size_t
finish_dictionary (struct training *t, const unsigned char *content,
                   unsigned char *dictionary)
{
  ZDICT_params_t params = { .compressionLevel = t->store->level };
  size_t sizes[NR_TRAIN], size;
  unsigned i;

  if (t->store->level == ZSTD_PAGE_LEVEL)
    return zstd_dictionary_train (content, CONTENT_SIZE, t->pages[0],
                                  NR_TRAIN, dictionary);
  for (i = 0; i < NR_TRAIN; i++)
    sizes[i] = ZRAM_PAGE_SIZE;
  size = ZDICT_finalizeDictionary (dictionary, DICTIONARY_SIZE, content,
                                   CONTENT_SIZE, t->pages, sizes, NR_TRAIN,
                                   params);
  return ZDICT_isError (size) ? 0 : size;
}

/* Make a dictionary and add it to the table.  -1 if that fails. */
static int
make_candidate (struct training *t)
{
  unsigned char content[CONTENT_SIZE], dictionary[DICTIONARY_SIZE];
  unsigned i;
  size_t size;

  for (i = 0; i < CONTENT_SIZE / PIECE_SIZE; i++) {
    unsigned page = random_below (t, NR_TRAIN);
    unsigned piece = random_below (t, ZRAM_PAGE_SIZE / PIECE_SIZE);

    memcpy (content + i * PIECE_SIZE, t->pages[page] + piece * PIECE_SIZE,
            PIECE_SIZE);
  }
  size = finish_dictionary (t, content, dictionary);
  if (size == 0)
    return -1;
  return codecs_add_dictionary (t->store->memory->codecs,
                                t->store->dictionary.base, dictionary, size);
}

/* Compress and decompress a page; returns the size of its object. */
static size_t
try_page (struct codecs *codecs, unsigned codec, const void *page)
{
  struct codec_context *context = codecs_get (codecs);
  struct codec_reader *reader = codecs_get_reader (codecs);
  size_t size = codecs_compress (codecs, context, codec, page,
                                 ZRAM_PAGE_SIZE - 1);

  if (size && !codecs_decompress (codecs, reader, codec, context->object,
                                  size, context->page))
    size = 0;
  codecs_put_reader (codecs, reader);
  codecs_put (codecs, context);
  return size ? size : ZRAM_PAGE_SIZE;
}

static struct cost
judge (struct training *t, unsigned codec)
{
  struct cost cost = { 0, UINT64_MAX };
  unsigned pass, i;

  for (pass = 0; pass < NR_PASSES; pass++) {
    uint64_t bytes = 0, start = clock_thread_ns (), ns;

    for (i = NR_TRAIN; i < NR_SAMPLES; i++)
      bytes += try_page (t->store->memory->codecs, codec, t->pages[i]);
    ns = clock_thread_ns () - start;
    if (ns < cost.ns)
      cost.ns = ns;
    cost.bytes = bytes;
  }
  return cost;
}

/* The best of some candidates, or -1. */
static int
best_candidate (struct training *t, struct cost *cost)
{
  struct codecs *codecs = t->store->memory->codecs;
  int best = -1, codec;
  unsigned i;

  for (i = 0; i < NR_CANDIDATES; i++) {
    struct cost c;

    codec = make_candidate (t);
    if (codec == -1)
      continue;
    c = judge (t, codec);
    if (best == -1 || c.bytes < cost->bytes) {
      if (best != -1)
        codecs_remove (codecs, best);
      best = codec;
      *cost = c;
    }
    else
      codecs_remove (codecs, codec);
  }
  return best;
}

static unsigned
per_mille (uint64_t part, uint64_t whole)
{
  return whole ? part * 1000 / whole : 1000;
}

static bool
is_better (unsigned size, unsigned time)
{
  unsigned i;

  for (i = 0; i < sizeof good_enough / sizeof good_enough[0]; i++)
    if (size <= good_enough[i].size && time <= good_enough[i].time)
      return true;
  return false;
}

/* ---- Coming and going ---------------------------------------------- */

/* No store uses CODEC for writing from now on. */
static void
retire (struct zram_memory *memory, unsigned codec)
{
  if (!codecs_has_dictionary (memory->codecs, codec))
    return;
  memory->retired.codecs[codec].waiting = true;
  memory->retired.codecs[codec].unused = false;
  memory->retired.codecs[codec].ticket
    = epoch_ticket (&memory->table.epoch);
}

/* Gains are what was saved, per mille; nothing if it became more. */
static unsigned
gain (unsigned mille)
{
  return mille < 1000 ? 1000 - mille : 0;
}

static void
adopt (struct zram_store *store, unsigned codec, unsigned size, unsigned time)
{
  struct dictionary *d = &store->dictionary;

  pthread_mutex_lock (&store->memory->lock);
  retire (store->memory, atomic_exchange (&store->codec, codec));
  pthread_mutex_unlock (&store->memory->lock);
  atomic_store (&d->trained_from, NR_TRAIN);
  atomic_store (&d->size_gain, gain (size));
  atomic_store (&d->time_gain, gain (time));
  atomic_fetch_add (&d->generation, 1);
}

/* Measure against what is in use, and against the codec without any
 * dictionary for the record.
 */
static bool
adopt_if_better (struct training *t)
{
  struct zram_store *store = t->store;
  struct codecs *codecs = store->memory->codecs;
  struct cost in_use, without, cost = { 0, 0 };
  int codec = best_candidate (t, &cost);

  if (codec == -1)
    return false;
  in_use = judge (t, atomic_load (&store->codec));
  if (!memory_charge_codecs (store->memory)
      || !is_better (per_mille (cost.bytes, in_use.bytes),
                     per_mille (cost.ns, in_use.ns))) {
    codecs_remove (codecs, codec);
    return false;
  }
  without = judge (t, store->dictionary.base);
  adopt (store, codec, per_mille (cost.bytes, without.bytes),
         per_mille (cost.ns, without.ns));
  return true;
}

static unsigned
nr_retired (const struct zram_memory *memory)
{
  unsigned i, n = 0;

  for (i = CODEC_FIRST; i < SLOT_CODECS; i++)
    n += memory->retired.codecs[i].waiting;
  return n;
}

/* Whether it is time to, and when the next time is. */
static bool
is_due (struct zram_store *store)
{
  struct dictionary *d = &store->dictionary;
  uint64_t compressed = codecs_compressed (store->memory->codecs);

  return d->wanted && compressed >= d->next
    && nr_eligible (store) >= STORED_MIN
    && nr_retired (store->memory) < ALIVE_MAX;
}

static void
schedule (struct zram_store *store, bool adopted)
{
  struct dictionary *d = &store->dictionary;
  uint64_t interval = 4 * nr_eligible (store);

  if (!adopted && d->interval < INTERVAL_MAX)
    d->interval *= 2;
  else if (adopted)
    d->interval = INTERVAL_MIN;
  if (interval < d->interval)
    interval = d->interval;
  d->next = codecs_compressed (store->memory->codecs) + interval;
}

bool
dictionary_train (struct zram_store *store)
{
  struct limit *limit = &store->memory->limit;
  struct training *t;
  bool adopted = false;

  if (!is_due (store) || !limit_charge (limit, sizeof *t))
    return false;
  t = mapping_reserve (sizeof *t);      /* so that it goes back at once */
  /* Samples are decompressed while their slots are locked: that must not
   * wait for memory, since a writer may wait for the slot.
   */
  if (t && mapping_populate (t, sizeof *t)) {
    t->store = store;
    t->nr = 0;
    t->random = store->dictionary.next + 1;
    take_samples (t);
    shuffle (t);
    adopted = t->nr == NR_SAMPLES && adopt_if_better (t);
  }
  mapping_release (t, sizeof *t);
  limit_uncharge (limit, sizeof *t);
  memory_charge_codecs (store->memory);
  schedule (store, adopted);
  return adopted;
}

void
dictionary_close (struct zram_store *store)
{
  retire (store->memory, atomic_load (&store->codec));
}

/* One retired codec.  True if it is still there. */
static bool
reap (struct zram_memory *memory, unsigned codec)
{
  struct epoch *epoch = &memory->table.epoch;

  if (!epoch_passed (epoch, memory->retired.codecs[codec].ticket))
    return true;
  if (codecs_objects (memory->codecs, codec)) {
    memory->retired.codecs[codec].unused = false;
    return true;
  }
  if (!memory->retired.codecs[codec].unused) {
    memory->retired.codecs[codec].unused = true;
    memory->retired.codecs[codec].ticket = epoch_ticket (epoch);
    return true;
  }
  memory->retired.codecs[codec].waiting = false;
  codecs_remove (memory->codecs, codec);
  memory_charge_codecs (memory);
  return false;
}

bool
dictionary_reap (struct zram_memory *memory)
{
  bool soon = false;
  unsigned i;

  for (i = CODEC_FIRST; i < SLOT_CODECS; i++)
    if (memory->retired.codecs[i].waiting && reap (memory, i))
      soon |= memory->retired.codecs[i].unused;
  return soon;
}

unsigned
dictionary_crowding (const struct zram_memory *memory)
{
  uint64_t least = UINT64_MAX, objects;
  unsigned i, codec = 0;

  if (nr_retired (memory) < ALIVE_MAX / 2)
    return 0;
  for (i = CODEC_FIRST; i < SLOT_CODECS; i++) {
    objects = codecs_objects (memory->codecs, i);
    if (memory->retired.codecs[i].waiting && objects && objects < least) {
      least = objects;
      codec = i;
    }
  }
  return codec;
}
