/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Codecs and their contexts.
 *
 * Compressing needs some hundred kilobytes of working memory, which is
 * slow to make and slow to use for the first time.  The server may run
 * hundreds of threads, but no more of them can compress at once than
 * there are processors.  So there are about twice as many contexts as
 * processors, all made and warmed before the first request, and a thread
 * borrows one for one page at a time.
 *
 * Readers are lent like contexts (lend.c), and as many.
 *
 * A dictionary is digested once, by whoever adds it, and then shared by
 * all contexts (ZSTD_CDict, ZSTD_DDict).  A context is set to one codec
 * at a time and set to another when it meets one; that only stores
 * parameters and a pointer.
 *
 * Objects hold no more than they must: we know that a page has 4096
 * bytes, where its object ends and what made it, so zstd's frames carry
 * no content size, no checksum and no dictionary id.  (A checksum belongs
 * where storage can rot: on a tier.)  What is left of the frame's header
 * is then the same six bytes for every page (RFC 8878, 3.1.1).  A page is
 * one block, the last, compressed, whose header tells nothing but its size
 * in three bytes.  So neither is stored.  zstd reads them, so before
 * decompressing the object is copied behind them: 30 ns for 1.1 % of the
 * memory.
 *
 * At level 1, which is what users get who set nothing, zstd-page.c
 * compresses, and contexts have no working memory of libzstd.  They get it
 * for other levels, and for a dictionary that zstd-page.c does not
 * understand, which must come from elsewhere then.
 *
 * Locks: one for changes of the table.  What is lent belongs to whoever
 * has it.
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <lz4.h>
#include <lz4hc.h>
#include <zstd.h>

#include "codec.h"
#include "lend.h"
#include "lz4-page.h"
#include "slot.h"
#include "stripe.h"
#include "zstd-page.h"

/* The window that zstd needs for a page: 2^12 bytes. */
#define ZSTD_WINDOW_LOG 12

/* What each of its frames begins with then: the magic number, no flags,
 * and the window: exponent 12 - 10, mantissa 0.
 */
static const unsigned char zstd_header[] = {
  0x28, 0xb5, 0x2f, 0xfd, 0x00, (ZSTD_WINDOW_LOG - 10) << 3,
};

/* The header of the block follows, and its size is in there as well. */
#define BLOCK_HEADER 3
#define BLOCK_LAST 1
#define BLOCK_COMPRESSED (2 << 1)
#define HEADERS (sizeof zstd_header + BLOCK_HEADER)

/* An entry of the table. */
struct entry {
  uint64_t serial;              /* no two entries ever have one; 0: free */
  struct zram_codec codec;
  bool group;                   /* for groups of pages */
  ZSTD_DDict *ddict;            /* NULL: no dictionary */
  ZSTD_CDict *cdict;            /* the same to compress, by libzstd... */
  struct zstd_dictionary *dictionary;   /* ...or, if any, by zstd-page.c */
};

/* A context as we know it; users see the first member. */
struct context {
  struct codec_context public;
  uint64_t serial;              /* the entry that zstd is set to */
  ZSTD_CCtx *zstd;
  uint64_t page_serial;         /* the same for zstd_page */
  struct zstd_page *zstd_page;
  struct lz4_page *lz4;         /* working memory of lz4... */
  void *lz4hc;                  /* ...and lz4hc, where they are used */
  _Atomic uint64_t size;        /* of all that, in bytes */
  _Atomic uint64_t compressed;  /* pages; only the holder changes it */
};

struct codec_reader {
  unsigned char header[16];
  unsigned char object[ZRAM_PAGE_SIZE]; /* a copy, behind its header */
  ZSTD_DCtx *zstd;              /* where it is used */
  unsigned char *group;         /* CODEC_GROUP_MAX bytes, where used */
  _Atomic uint64_t lent;        /* how often; only the holder changes it */
  _Atomic uint64_t size;        /* of all that, in bytes */
};

_Static_assert (HEADERS <= sizeof ((struct codec_reader) { 0 }.header)
                && HEADERS <= sizeof ((struct codec_context) { 0 }.header)
                && ZSTD_PAGE_SLACK
                   <= sizeof ((struct codec_context) { 0 }.slack),
                "there is no room beside objects");

struct codecs {
  pthread_mutex_t lock;         /* covers changes of the table */
  uint64_t last_serial;
  struct entry table[SLOT_CODECS];
  _Atomic uint64_t dictionaries[SLOT_CODECS];   /* serials of those entries
                                                   that have one, or 0 */
  struct context *contexts;
  struct codec_reader *readers;
  unsigned nr_contexts;         /* and as many readers */
  struct lend lent_contexts, lent_readers;
  struct {
    alignas (STRIPE_ALIGN) _Atomic int64_t objects[SLOT_CODECS];
  } stripes[NR_STRIPES];
};

/* ---- Life ---------------------------------------------------------- */

struct codecs *
codecs_create (unsigned nr_contexts)
{
  struct codecs *codecs = aligned_alloc (_Alignof (struct codecs),
                                         sizeof *codecs);

  if (codecs == NULL)
    return NULL;
  memset (codecs, 0, sizeof *codecs);
  pthread_mutex_init (&codecs->lock, NULL);
  codecs->nr_contexts = nr_contexts;
  codecs->contexts = calloc (nr_contexts, sizeof *codecs->contexts);
  codecs->readers = calloc (nr_contexts, sizeof *codecs->readers);
  if (codecs->contexts == NULL || codecs->readers == NULL
      || lend_init (&codecs->lent_contexts, nr_contexts) == -1
      || lend_init (&codecs->lent_readers, nr_contexts) == -1) {
    codecs_destroy (codecs);
    return NULL;
  }
  return codecs;
}

static void
entry_clear (struct entry *entry)
{
  ZSTD_freeCDict (entry->cdict);
  ZSTD_freeDDict (entry->ddict);
  zstd_dictionary_free (entry->dictionary);
  *entry = (struct entry) { .serial = 0 };
}

void
codecs_destroy (struct codecs *codecs)
{
  unsigned i;

  if (codecs == NULL)
    return;
  for (i = 0; codecs->contexts && i < codecs->nr_contexts; i++) {
    ZSTD_freeCCtx (codecs->contexts[i].zstd);
    zstd_page_free (codecs->contexts[i].zstd_page);
    free (codecs->contexts[i].lz4);
    free (codecs->contexts[i].lz4hc);
  }
  for (i = 0; codecs->readers && i < codecs->nr_contexts; i++) {
    ZSTD_freeDCtx (codecs->readers[i].zstd);
    free (codecs->readers[i].group);
  }
  for (i = CODEC_FIRST; i < SLOT_CODECS; i++)
    entry_clear (&codecs->table[i]);
  lend_destroy (&codecs->lent_contexts);
  lend_destroy (&codecs->lent_readers);
  pthread_mutex_destroy (&codecs->lock);
  free (codecs->contexts);
  free (codecs->readers);
  free (codecs);
}

/* ---- Setting a context to a codec ---------------------------------- */

static bool
set_zstd (ZSTD_CCtx *cctx, ZSTD_cParameter parameter, int value)
{
  return !ZSTD_isError (ZSTD_CCtx_setParameter (cctx, parameter, value));
}

static bool
prepare_zstd (struct context *context, const struct entry *entry)
{
  ZSTD_CCtx *cctx = context->zstd;

  if (cctx == NULL)
    cctx = context->zstd = ZSTD_createCCtx ();
  if (cctx == NULL)
    return false;

  /* A page that did not fit has left a frame unfinished. */
  ZSTD_CCtx_reset (cctx, ZSTD_reset_session_only);
  context->serial = entry->serial;
  return set_zstd (cctx, ZSTD_c_compressionLevel, entry->codec.level)
    && set_zstd (cctx, ZSTD_c_windowLog, ZSTD_WINDOW_LOG)
    && set_zstd (cctx, ZSTD_c_contentSizeFlag, 0)
    && set_zstd (cctx, ZSTD_c_dictIDFlag, 0)
    && !ZSTD_isError (ZSTD_CCtx_refCDict (cctx, entry->cdict));
}

static bool
prepare_zstd_page (struct context *context, const struct entry *entry)
{
  if (context->zstd_page == NULL)
    context->zstd_page = zstd_page_create ();
  if (context->zstd_page == NULL)
    return false;
  zstd_page_prepare (context->zstd_page, entry->dictionary);
  context->page_serial = entry->serial;
  return true;
}

static bool
prepare (struct context *context, const struct entry *entry)
{
  if (entry->group)             /* a grouper compresses */
    return true;
  switch (entry->codec.algorithm) {
  case ZRAM_ALGORITHM_NONE:
    return true;
  case ZRAM_ALGORITHM_LZ4:
    if (context->lz4 == NULL)
      context->lz4 = malloc (sizeof *context->lz4);
    return context->lz4 != NULL;
  case ZRAM_ALGORITHM_LZ4HC:
    if (context->lz4hc == NULL)
      context->lz4hc = malloc (LZ4_sizeofStateHC ());
    return context->lz4hc != NULL;
  case ZRAM_ALGORITHM_ZSTD:
    return entry->dictionary ? prepare_zstd_page (context, entry)
      : prepare_zstd (context, entry);
  }
  return false;
}

/* Readers need working memory for zstd, and for groups. */
static bool
prepare_reader (struct codec_reader *reader, const struct entry *entry)
{
  if (entry->group && reader->group == NULL) {
    reader->group = malloc (CODEC_GROUP_MAX);
    if (reader->group == NULL)
      return false;
    memset (reader->group, 0, CODEC_GROUP_MAX);
  }
  if (reader->zstd == NULL
      && entry->codec.algorithm == ZRAM_ALGORITHM_ZSTD)
    reader->zstd = ZSTD_createDCtx ();
  return reader->zstd || entry->codec.algorithm != ZRAM_ALGORITHM_ZSTD;
}

static uint64_t
context_size (const struct context *context)
{
  return sizeof *context
    + ZSTD_sizeof_CCtx (context->zstd)
    + zstd_page_size (context->zstd_page)
    + (context->lz4 ? sizeof *context->lz4 : 0)
    + (context->lz4hc ? LZ4_sizeofStateHC () : 0);
}

static uint64_t
reader_size (const struct codec_reader *reader)
{
  return sizeof *reader + ZSTD_sizeof_DCtx (reader->zstd)
    + (reader->group ? CODEC_GROUP_MAX : 0);
}

/* A page of the Nth kind: noise, of which everything is a literal; few
 * different bytes; short matches; and something of each.
 */
#define NR_EXERCISES 4

static void
fill_exercise (unsigned char *page, unsigned kind)
{
  uint32_t x = 1;
  size_t i;

  for (i = 0; i < ZRAM_PAGE_SIZE; i++) {
    unsigned char noise;

    x = x * 1103515245 + 12345;
    noise = x >> 24;
    switch (kind) {
    case 0: page[i] = noise; break;
    case 1: page[i] = noise >> 6; break;
    case 2: page[i] = i % 8 < 6 ? i % 8 : noise; break;
    case 3: page[i] = i & 256 ? noise >> 6 : noise & i >> 4; break;
    }
  }
}

/* Let the libraries make and touch what they make and touch on first
 * use: compress pages and decompress them.
 */
static void
exercise (struct codecs *codecs, struct context *context,
          struct codec_reader *reader, unsigned codec)
{
  unsigned char *page = context->public.page;
  unsigned kind;
  size_t size;

  for (kind = 0; kind < NR_EXERCISES; kind++) {
    fill_exercise (page, kind);
    size = codecs_compress (codecs, &context->public, codec, page,
                            ZRAM_PAGE_SIZE);
    if (size)
      codecs_decompress (codecs, reader, codec, context->public.object, size,
                         page);
  }
}

/* The same for a codec for groups: SAMPLE is an object of it. */
struct sample {
  size_t size;
  unsigned char object[CODEC_GROUP_MAX];
};

static struct sample *
make_sample (const struct codecs *codecs, unsigned codec)
{
  struct codec_grouper *g = codecs_make_grouper (codecs, codec);
  unsigned char *pages = malloc (CODEC_GROUP_MAX);
  struct sample *sample = malloc (sizeof *sample);
  size_t i;

  if (g && pages && sample) {
    for (i = 0; i < CODEC_GROUP_MAX; i += ZRAM_PAGE_SIZE)
      fill_exercise (pages + i, 1 + i / ZRAM_PAGE_SIZE % 3);
    sample->size = codecs_compress_group (g, pages, CODEC_GROUP_MAX,
                                          sample->object,
                                          sizeof sample->object);
  }
  codecs_free_grouper (g);
  free (pages);
  return sample;
}

static bool
warm_pair (struct codecs *codecs, unsigned i, unsigned codec,
           const struct sample *sample)
{
  const struct entry *entry = &codecs->table[codec];
  struct context *context = &codecs->contexts[i];
  struct codec_reader *reader = &codecs->readers[i];

  if (!prepare (context, entry) || !prepare_reader (reader, entry))
    return false;
  if (sample)
    codecs_decompress_group (codecs, reader, codec, sample->object,
                             sample->size, CODEC_GROUP_MAX);
  else
    exercise (codecs, context, reader, codec);
  atomic_store (&context->size, context_size (context));
  atomic_store (&reader->size, reader_size (reader));
  return true;
}

/* Prepare all contexts and readers for a codec.  They may be in use. */
static bool
warm (struct codecs *codecs, unsigned codec)
{
  bool group = codecs->table[codec].group, ok;
  struct sample *sample = group ? make_sample (codecs, codec) : NULL;
  unsigned i;

  ok = sample || !group;
  for (i = 0; ok && i < codecs->nr_contexts; i++) {
    lend_take_this (&codecs->lent_contexts, i);
    lend_take_this (&codecs->lent_readers, i);
    ok = warm_pair (codecs, i, codec, sample);
    lend_return (&codecs->lent_readers, i);
    lend_return (&codecs->lent_contexts, i);
  }
  free (sample);
  return ok;
}

/* ---- The table ----------------------------------------------------- */

static int
find (const struct codecs *codecs, const struct zram_codec *codec, bool group)
{
  unsigned i;

  for (i = CODEC_FIRST; i < SLOT_CODECS; i++) {
    const struct entry *entry = &codecs->table[i];

    if (entry->serial && entry->ddict == NULL && entry->group == group
        && entry->codec.algorithm == codec->algorithm
        && entry->codec.level == codec->level)
      return i;
  }
  return -1;
}

/* An entry without a dictionary that zstd-page.c compresses. */
static bool
is_for_zstd_page (const struct entry *entry)
{
  return entry->codec.algorithm == ZRAM_ALGORITHM_ZSTD && !entry->group
    && !entry->ddict && entry->codec.level == ZSTD_PAGE_LEVEL;
}

/* Put an entry into the table.  If that fails it is cleared. */
static int
insert (struct codecs *codecs, struct entry *entry)
{
  unsigned i;

  for (i = CODEC_FIRST; i < SLOT_CODECS; i++)
    if (codecs->table[i].serial == 0)
      break;
  if (is_for_zstd_page (entry)) {
    entry->dictionary = zstd_dictionary_none ();
    if (entry->dictionary == NULL)
      return -1;
  }
  if (i == SLOT_CODECS) {
    entry_clear (entry);
    errno = ENOSPC;
    return -1;
  }
  entry->serial = ++codecs->last_serial;
  codecs->table[i] = *entry;
  if (warm (codecs, i)) {
    atomic_store (&codecs->dictionaries[i], entry->ddict ? entry->serial : 0);
    return i;
  }
  entry_clear (&codecs->table[i]);
  errno = ENOMEM;
  return -1;
}

/* Of algorithms that have no level 0, that is the preset one. */
static struct zram_codec
with_level (const struct zram_codec *wanted, int *min, int *max)
{
  struct zram_codec codec = {
    .algorithm = wanted->algorithm, .level = wanted->level,
  };
  int preset;

  zram_algorithm_levels (wanted->algorithm, min, max, &preset);
  if (codec.level == 0 && codec.algorithm != ZRAM_ALGORITHM_ZSTD)
    codec.level = preset;
  return codec;
}

static int
add (struct codecs *codecs, const struct zram_codec *wanted, bool group)
{
  int min, max, index;
  struct entry entry = {
    .codec = with_level (wanted, &min, &max), .group = group,
  };

  if (entry.codec.level < min || entry.codec.level > max) {
    errno = EINVAL;
    return -1;
  }
  pthread_mutex_lock (&codecs->lock);
  index = find (codecs, &entry.codec, group);
  if (index == -1)
    index = insert (codecs, &entry);
  pthread_mutex_unlock (&codecs->lock);
  return index;
}

int
codecs_add (struct codecs *codecs, const struct zram_codec *wanted)
{
  return add (codecs, wanted, false);
}

int
codecs_add_group (struct codecs *codecs, const struct zram_codec *wanted)
{
  return add (codecs, wanted, true);
}

int
codecs_add_dictionary (struct codecs *codecs, unsigned base,
                       const void *dictionary, size_t size)
{
  struct entry entry = { .codec = codecs->table[base].codec };
  int index;

  if (entry.codec.level == ZSTD_PAGE_LEVEL)
    entry.dictionary = zstd_dictionary_create (dictionary, size);
  if (entry.dictionary == NULL)
    entry.cdict = ZSTD_createCDict (dictionary, size, entry.codec.level);
  entry.ddict = ZSTD_createDDict (dictionary, size);
  if ((!entry.cdict && !entry.dictionary) || entry.ddict == NULL) {
    entry_clear (&entry);
    errno = EINVAL;             /* the other cause is no memory */
    return -1;
  }
  pthread_mutex_lock (&codecs->lock);
  index = insert (codecs, &entry);
  pthread_mutex_unlock (&codecs->lock);
  return index;
}

void
codecs_remove (struct codecs *codecs, unsigned codec)
{
  pthread_mutex_lock (&codecs->lock);
  atomic_store (&codecs->dictionaries[codec], 0);
  entry_clear (&codecs->table[codec]);
  pthread_mutex_unlock (&codecs->lock);
}

bool
codecs_is_valid (const struct codecs *codecs, unsigned codec)
{
  return codec < CODEC_FIRST || codecs->table[codec].serial;
}

bool
codecs_has_dictionary (const struct codecs *codecs, unsigned codec)
{
  return codecs->table[codec].ddict != NULL;
}

/* What contexts and readers share. */
static uint64_t
dictionaries_size (struct codecs *codecs)
{
  uint64_t size = 0;
  unsigned i;

  pthread_mutex_lock (&codecs->lock);
  for (i = CODEC_FIRST; i < SLOT_CODECS; i++)
    size += ZSTD_sizeof_CDict (codecs->table[i].cdict)
      + ZSTD_sizeof_DDict (codecs->table[i].ddict)
      + zstd_dictionary_size (codecs->table[i].dictionary);
  pthread_mutex_unlock (&codecs->lock);
  return size;
}

static uint64_t
contexts_size (struct codecs *codecs)
{
  uint64_t size = 0;
  unsigned i;

  for (i = 0; i < codecs->nr_contexts; i++)
    size += atomic_load (&codecs->contexts[i].size)
      + atomic_load (&codecs->readers[i].size);
  return size;
}

uint64_t
codecs_size (struct codecs *codecs)
{
  return sizeof *codecs + contexts_size (codecs)
    + dictionaries_size (codecs);
}

/* The libraries tell the size only of contexts that exist. */
uint64_t
codecs_size_with (unsigned nr_contexts, const struct zram_codec *codec)
{
  struct codecs *codecs = codecs_create (1);
  uint64_t size = 0;

  if (codecs && codecs_add (codecs, codec) >= 0)
    size = nr_contexts * contexts_size (codecs) + dictionaries_size (codecs);
  codecs_destroy (codecs);
  return sizeof *codecs + size;
}

uint64_t
codecs_growth (struct codecs *codecs, const struct zram_codec *wanted)
{
  int min, max;
  struct zram_codec codec = with_level (wanted, &min, &max);
  bool known;

  pthread_mutex_lock (&codecs->lock);
  known = find (codecs, &codec, false) >= 0;
  pthread_mutex_unlock (&codecs->lock);
  return known ? 0 : codecs_size_with (codecs->nr_contexts, &codec);
}

/* zstd's working memory for decompressing is some 96 KiB. */
uint64_t
codecs_group_growth (const struct codecs *codecs)
{
  return codecs->nr_contexts * (CODEC_GROUP_MAX + UINT64_C (131072));
}

/* ---- Counting ------------------------------------------------------ */

void
codecs_count (struct codecs *codecs, unsigned codec, int n)
{
  atomic_fetch_add_explicit (&codecs->stripes[stripe_current ()]
                                     .objects[codec],
                             n, memory_order_relaxed);
}

uint64_t
codecs_objects (const struct codecs *codecs, unsigned codec)
{
  int64_t sum = 0;
  unsigned i;

  for (i = 0; i < NR_STRIPES; i++)
    sum += atomic_load_explicit (&codecs->stripes[i].objects[codec],
                                 memory_order_relaxed);
  return sum > 0 ? sum : 0;
}

/* The newest one that is older than *SERIAL, which becomes its own; 0 if
 * there is none.
 */
static unsigned
next_dictionary (const struct codecs *codecs, uint64_t *serial)
{
  uint64_t newest = 0, n;
  unsigned i, found = 0;

  for (i = CODEC_FIRST; i < SLOT_CODECS; i++) {
    n = atomic_load (&codecs->dictionaries[i]);
    if (n > newest && n < *serial) {
      newest = n;
      found = i;
    }
  }
  *serial = newest;
  return found;
}

unsigned
codecs_dictionaries (const struct codecs *codecs, unsigned *indexes,
                     unsigned nr)
{
  uint64_t serial = UINT64_MAX;
  unsigned n = 0;

  while (n < nr && (indexes[n] = next_dictionary (codecs, &serial)) != 0)
    n++;
  return n;
}

uint64_t
codecs_compressed (const struct codecs *codecs)
{
  uint64_t sum = 0;
  unsigned i;

  for (i = 0; i < codecs->nr_contexts; i++)
    sum += atomic_load_explicit (&codecs->contexts[i].compressed,
                                 memory_order_relaxed);
  return sum;
}

uint64_t
codecs_read (const struct codecs *codecs)
{
  uint64_t sum = 0;
  unsigned i;

  for (i = 0; i < codecs->nr_contexts; i++)
    sum += atomic_load_explicit (&codecs->readers[i].lent,
                                 memory_order_relaxed);
  return sum;
}

/* One more, by the only thread that may say so. */
static void
count (_Atomic uint64_t *counter)
{
  uint64_t n = atomic_load_explicit (counter, memory_order_relaxed);

  atomic_store_explicit (counter, n + 1, memory_order_relaxed);
}

/* ---- Lending ------------------------------------------------------- */

struct codec_context *
codecs_get (struct codecs *codecs)
{
  return &codecs->contexts[lend_take (&codecs->lent_contexts)].public;
}

void
codecs_put (struct codecs *codecs, struct codec_context *public)
{
  lend_return (&codecs->lent_contexts,
               (struct context *) public - codecs->contexts);
}

struct codec_reader *
codecs_get_reader (struct codecs *codecs)
{
  struct codec_reader *reader
    = &codecs->readers[lend_take (&codecs->lent_readers)];

  count (&reader->lent);
  return reader;
}

void
codecs_put_reader (struct codecs *codecs, struct codec_reader *reader)
{
  lend_return (&codecs->lent_readers, reader - codecs->readers);
}

/* ---- Compressing and decompressing --------------------------------- */

/* Write what comes before an object of SIZE bytes; returns where. */
static unsigned char *
put_headers (unsigned char *object, size_t size)
{
  unsigned char *frame = object - HEADERS, *block = object - BLOCK_HEADER;
  uint32_t header = size << 3 | BLOCK_COMPRESSED | BLOCK_LAST;

  memcpy (frame, zstd_header, sizeof zstd_header);
  block[0] = header;
  block[1] = header >> 8;
  block[2] = header >> 16;
  return frame;
}

static size_t
zstd_compress (struct context *context, const struct entry *entry,
               const void *page, size_t max)
{
  unsigned char *frame = context->public.object - HEADERS;
  unsigned char expected[HEADERS + 1];
  size_t r;

  if (context->serial != entry->serial && !prepare_zstd (context, entry))
    return 0;
  r = ZSTD_compress2 (context->zstd, frame, max + HEADERS, page,
                      ZRAM_PAGE_SIZE);
  if (ZSTD_isError (r) || r <= HEADERS)
    return 0;
  put_headers (expected + HEADERS, r - HEADERS);
  return memcmp (frame, expected, HEADERS) == 0 ? r - HEADERS : 0;
}

static size_t
compress_zstd_page (struct context *context, const struct entry *entry,
                    const void *page, size_t max)
{
  if (context->page_serial != entry->serial
      && !prepare_zstd_page (context, entry))
    return 0;
  return zstd_page_compress (context->zstd_page, entry->dictionary, page,
                             context->public.object, max);
}

static bool
zstd_decompress (struct codec_reader *reader, const struct entry *entry,
                 const void *object, size_t size, void *page)
{
  unsigned char *frame = put_headers (reader->object, size);

  memcpy (reader->object, object, size);
  return ZSTD_decompress_usingDDict (reader->zstd, page, ZRAM_PAGE_SIZE,
                                     frame, HEADERS + size,
                                     entry->ddict) == ZRAM_PAGE_SIZE;
}

size_t
codecs_compress (struct codecs *codecs, struct codec_context *public,
                 unsigned codec, const void *page, size_t max)
{
  struct context *context = (struct context *) public;
  const struct entry *entry = &codecs->table[codec];
  void *dst = public->object;
  int r = 0;

  count (&context->compressed);
  switch (entry->codec.algorithm) {
  case ZRAM_ALGORITHM_NONE:
    return 0;
  case ZRAM_ALGORITHM_LZ4:
    return lz4_page_compress (context->lz4, page, ZRAM_PAGE_SIZE, dst, max,
                              entry->codec.level);
  case ZRAM_ALGORITHM_LZ4HC:
    r = LZ4_compress_HC_extStateHC (context->lz4hc, page, dst,
                                    ZRAM_PAGE_SIZE, max, entry->codec.level);
    break;
  case ZRAM_ALGORITHM_ZSTD:
    return entry->dictionary
      ? compress_zstd_page (context, entry, page, max)
      : zstd_compress (context, entry, page, max);
  }
  return r > 0 ? r : 0;
}

bool
codecs_needs_reader (const struct codecs *codecs, unsigned codec)
{
  return codec >= CODEC_FIRST
    && codecs->table[codec].codec.algorithm == ZRAM_ALGORITHM_ZSTD;
}

static bool
decompress_pattern (const void *object, size_t size, unsigned char *page)
{
  uint64_t pattern;
  size_t i;

  if (size != sizeof pattern)
    return false;
  memcpy (&pattern, object, sizeof pattern);
  for (i = 0; i < ZRAM_PAGE_SIZE; i += sizeof pattern)
    memcpy (page + i, &pattern, sizeof pattern);
  return true;
}

bool
codecs_decompress (struct codecs *codecs, struct codec_reader *reader,
                   unsigned codec, const void *object, size_t size,
                   void *page)
{
  const struct entry *entry = &codecs->table[codec];

  if (codec == CODEC_RAW) {
    memcpy (page, object, ZRAM_PAGE_SIZE);
    return size == ZRAM_PAGE_SIZE;
  }
  if (codec == CODEC_PATTERN)
    return decompress_pattern (object, size, page);

  switch (entry->codec.algorithm) {
  case ZRAM_ALGORITHM_NONE:
    break;
  case ZRAM_ALGORITHM_LZ4:
  case ZRAM_ALGORITHM_LZ4HC:
    return LZ4_decompress_safe (object, page, size, ZRAM_PAGE_SIZE)
      == ZRAM_PAGE_SIZE;
  case ZRAM_ALGORITHM_ZSTD:
    return zstd_decompress (reader, entry, object, size, page);
  }
  return false;
}

/* ---- Groups -------------------------------------------------------- */

/* At this level, the default, zstd looks for matches at 2^4 places.  Twice
 * as many make groups 1.3 % smaller and take a fifth more time; the next
 * levels take half as much again for the same.
 */
#define GROUP_LEVEL 6
#define GROUP_SEARCH_LOG 5

/* A group is compressed rarely, by one thread, so it has contexts of its
 * own, and frames as zstd makes them: six bytes more in some thousand.
 */
struct codec_grouper {
  struct zram_codec codec;
  ZSTD_CCtx *zstd;
  void *state;                  /* of lz4 and lz4hc */
};

static size_t
state_size (enum zram_algorithm algorithm)
{
  switch (algorithm) {
  case ZRAM_ALGORITHM_LZ4:
    return sizeof (struct lz4_page);
  case ZRAM_ALGORITHM_LZ4HC:
    return LZ4_sizeofStateHC ();
  case ZRAM_ALGORITHM_ZSTD:
  case ZRAM_ALGORITHM_NONE:
    break;
  }
  return 0;
}

/* zstd makes its working memory when it first compresses. */
static bool
prepare_grouper (struct codec_grouper *g)
{
  static const unsigned char warm_src[CODEC_GROUP_MAX];
  unsigned char warm_dst[256];

  if (g->codec.algorithm != ZRAM_ALGORITHM_ZSTD) {
    g->state = malloc (state_size (g->codec.algorithm));
    return g->state != NULL;
  }
  g->zstd = ZSTD_createCCtx ();
  return g->zstd
    && set_zstd (g->zstd, ZSTD_c_compressionLevel, g->codec.level)
    && set_zstd (g->zstd, ZSTD_c_contentSizeFlag, 0)
    && (g->codec.level != GROUP_LEVEL
        || set_zstd (g->zstd, ZSTD_c_searchLog, GROUP_SEARCH_LOG))
    && !ZSTD_isError (ZSTD_compress2 (g->zstd, warm_dst, sizeof warm_dst,
                                      warm_src, sizeof warm_src));
}

struct codec_grouper *
codecs_make_grouper (const struct codecs *codecs, unsigned codec)
{
  struct codec_grouper *g = calloc (1, sizeof *g);

  if (g == NULL)
    return NULL;
  g->codec = codecs->table[codec].codec;
  if (prepare_grouper (g))
    return g;
  codecs_free_grouper (g);
  return NULL;
}

void
codecs_free_grouper (struct codec_grouper *g)
{
  if (g == NULL)
    return;
  ZSTD_freeCCtx (g->zstd);
  free (g->state);
  free (g);
}

size_t
codecs_grouper_size (const struct codec_grouper *g)
{
  return sizeof *g + ZSTD_sizeof_CCtx (g->zstd)
    + (g->state ? state_size (g->codec.algorithm) : 0);
}

size_t
codecs_compress_group (struct codec_grouper *g, const void *src,
                       size_t count, void *dst, size_t max)
{
  size_t size;
  int r = 0;

  switch (g->codec.algorithm) {
  case ZRAM_ALGORITHM_NONE:
    break;
  case ZRAM_ALGORITHM_LZ4:
    return lz4_page_compress (g->state, src, count, dst, max,
                              g->codec.level);
  case ZRAM_ALGORITHM_LZ4HC:
    r = LZ4_compress_HC_extStateHC (g->state, src, dst, count, max,
                                    g->codec.level);
    break;
  case ZRAM_ALGORITHM_ZSTD:
    size = ZSTD_compress2 (g->zstd, dst, max, src, count);
    return ZSTD_isError (size) ? 0 : size;
  }
  return r > 0 ? r : 0;
}

const unsigned char *
codecs_decompress_group (struct codecs *codecs, struct codec_reader *reader,
                         unsigned codec, const void *object, size_t size,
                         size_t count)
{
  size_t got;

  if (codecs->table[codec].codec.algorithm == ZRAM_ALGORITHM_ZSTD)
    got = ZSTD_decompressDCtx (reader->zstd, reader->group, count,
                               object, size);
  else
    got = LZ4_decompress_safe (object, (char *) reader->group, size, count);
  return got == count ? reader->group : NULL;
}
