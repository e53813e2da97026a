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
 * A context is guarded by a mutex.  A thread tries those next to its
 * processor first, so it tends to get one whose tables are in its cache,
 * and if all are taken it waits for the one it tried first.
 *
 * Objects hold no more than they must: we know that a page has 4096
 * bytes and where its object ends, so zstd's frames carry no content
 * size and no checksum.  (A checksum belongs where storage can rot: on a
 * tier.)  What is left of the frame's header is then the same six bytes
 * for every page (RFC 8878, 3.1.1), and they are not stored.  zstd reads
 * them, so before decompressing the object is copied behind them: 30 ns
 * for 0.7 % of the memory.
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <lz4.h>
#include <lz4hc.h>
#include <zstd.h>

#include "codec.h"
#include "slot.h"
#include "stripe.h"

/* lz4 takes any acceleration, and treats what is beyond this like it. */
#define LZ4_LEVEL_MAX 65537

/* The window that zstd needs for a page: 2^12 bytes. */
#define ZSTD_WINDOW_LOG 12

/* What each of its frames begins with then: the magic number, no flags,
 * and the window: exponent 12 - 10, mantissa 0.
 */
static const unsigned char zstd_header[] = {
  0x28, 0xb5, 0x2f, 0xfd, 0x00, (ZSTD_WINDOW_LOG - 10) << 3,
};

/* A context as we know it; users see the first member. */
struct context {
  struct codec_context public;
  pthread_mutex_t lock;
  ZSTD_CCtx *zstd_compress;
  ZSTD_DCtx *zstd_decompress;
  int zstd_level;               /* what zstd_compress is set to */
  void *lz4;                    /* working memory of lz4... */
  void *lz4hc;                  /* ...and lz4hc, where they are used */
};

struct codecs {
  struct zram_codec table[SLOT_CODECS];
  unsigned nr_codecs;
  struct context *contexts;
  unsigned nr_contexts;
};

/* ---- Algorithms and levels ----------------------------------------- */

static const char *const algorithm_names[ZRAM_NR_ALGORITHMS] = {
  [ZRAM_ALGORITHM_NONE] = "none",
  [ZRAM_ALGORITHM_LZ4] = "lz4",
  [ZRAM_ALGORITHM_LZ4HC] = "lz4hc",
  [ZRAM_ALGORITHM_ZSTD] = "zstd",
};

const char *
zram_algorithm_name (enum zram_algorithm algorithm)
{
  return algorithm_names[algorithm];
}

bool
zram_algorithm_find (const char *name, enum zram_algorithm *algorithm)
{
  unsigned i;

  for (i = 0; i < ZRAM_NR_ALGORITHMS; i++) {
    if (strcmp (name, algorithm_names[i]) == 0) {
      *algorithm = i;
      return true;
    }
  }
  return false;
}

void
zram_algorithm_levels (enum zram_algorithm algorithm,
                       int *min, int *max, int *preset)
{
  *min = *max = *preset = 0;
  switch (algorithm) {
  case ZRAM_ALGORITHM_NONE:
    break;
  case ZRAM_ALGORITHM_LZ4:
    *min = *preset = 1;
    *max = LZ4_LEVEL_MAX;
    break;
  case ZRAM_ALGORITHM_LZ4HC:
    *min = LZ4HC_CLEVEL_MIN;
    *max = LZ4HC_CLEVEL_MAX;
    *preset = LZ4HC_CLEVEL_DEFAULT;
    break;
  case ZRAM_ALGORITHM_ZSTD:
    *min = ZSTD_minCLevel ();
    *max = ZSTD_maxCLevel ();
    *preset = 1;
    break;
  }
}

/* ---- Making and preparing contexts --------------------------------- */

static void
context_destroy (struct context *context)
{
  ZSTD_freeCCtx (context->zstd_compress);
  ZSTD_freeDCtx (context->zstd_decompress);
  free (context->lz4);
  free (context->lz4hc);
  pthread_mutex_destroy (&context->lock);
}

struct codecs *
codecs_create (unsigned nr_contexts)
{
  struct codecs *codecs = calloc (1, sizeof *codecs);
  unsigned i;

  if (codecs == NULL)
    return NULL;
  codecs->nr_codecs = CODEC_FIRST;
  codecs->contexts = calloc (nr_contexts, sizeof *codecs->contexts);
  if (codecs->contexts == NULL) {
    free (codecs);
    return NULL;
  }
  codecs->nr_contexts = nr_contexts;
  for (i = 0; i < nr_contexts; i++)
    pthread_mutex_init (&codecs->contexts[i].lock, NULL);
  return codecs;
}

void
codecs_destroy (struct codecs *codecs)
{
  unsigned i;

  if (codecs == NULL)
    return;
  for (i = 0; i < codecs->nr_contexts; i++)
    context_destroy (&codecs->contexts[i]);
  free (codecs->contexts);
  free (codecs);
}

static bool
prepare_zstd (struct context *context, int level)
{
  ZSTD_CCtx *cctx = context->zstd_compress;

  if (cctx == NULL)
    cctx = context->zstd_compress = ZSTD_createCCtx ();
  if (context->zstd_decompress == NULL)
    context->zstd_decompress = ZSTD_createDCtx ();
  if (cctx == NULL || context->zstd_decompress == NULL)
    return false;
  context->zstd_level = level;
  /* A page that did not fit has left a frame unfinished. */
  ZSTD_CCtx_reset (cctx, ZSTD_reset_session_only);
  return !ZSTD_isError (ZSTD_CCtx_setParameter (cctx, ZSTD_c_compressionLevel,
                                                level))
    && !ZSTD_isError (ZSTD_CCtx_setParameter (cctx, ZSTD_c_windowLog,
                                              ZSTD_WINDOW_LOG))
    && !ZSTD_isError (ZSTD_CCtx_setParameter (cctx, ZSTD_c_contentSizeFlag,
                                              0));
}

static bool
prepare (struct context *context, const struct zram_codec *codec)
{
  switch (codec->algorithm) {
  case ZRAM_ALGORITHM_NONE:
    return true;
  case ZRAM_ALGORITHM_LZ4:
    if (context->lz4 == NULL)
      context->lz4 = malloc (LZ4_sizeofState ());
    return context->lz4 != NULL;
  case ZRAM_ALGORITHM_LZ4HC:
    if (context->lz4hc == NULL)
      context->lz4hc = malloc (LZ4_sizeofStateHC ());
    return context->lz4hc != NULL;
  case ZRAM_ALGORITHM_ZSTD:
    return prepare_zstd (context, codec->level);
  }
  return false;
}

/* Let the libraries make and touch what they make and touch on first
 * use: compress a page that has something of everything.
 */
static void
warm (struct codecs *codecs, struct context *context, unsigned codec)
{
  unsigned char *page = context->public.page;
  uint32_t x = 1;
  size_t i, size;

  for (i = 0; i < ZRAM_PAGE_SIZE; i++) {
    x = x * 1103515245 + 12345;
    page[i] = i & 256 ? x >> 30 : x >> 24 & i >> 4;
  }
  size = codecs_compress (codecs, &context->public, codec, page,
                          ZRAM_PAGE_SIZE);
  if (size) {
    unsigned char object[ZRAM_PAGE_SIZE];

    memcpy (object, context->public.object, size);
    codecs_decompress (codecs, &context->public, codec, object, size, page);
  }
}

static int
find (const struct codecs *codecs, const struct zram_codec *codec)
{
  unsigned i;

  for (i = CODEC_FIRST; i < codecs->nr_codecs; i++)
    if (codecs->table[i].algorithm == codec->algorithm
        && codecs->table[i].level == codec->level)
      return i;
  return -1;
}

int
codecs_add (struct codecs *codecs, const struct zram_codec *wanted)
{
  struct zram_codec codec = *wanted;
  int min, max, preset, index;
  unsigned i;

  zram_algorithm_levels (codec.algorithm, &min, &max, &preset);
  if (codec.level == 0 && codec.algorithm != ZRAM_ALGORITHM_ZSTD)
    codec.level = preset;
  if (codec.level < min || codec.level > max) {
    errno = EINVAL;
    return -1;
  }

  index = find (codecs, &codec);
  if (index >= 0)
    return index;
  if (codecs->nr_codecs == SLOT_CODECS) {
    errno = ENOSPC;
    return -1;
  }
  index = codecs->nr_codecs;
  codecs->table[index] = codec;
  for (i = 0; i < codecs->nr_contexts; i++) {
    if (!prepare (&codecs->contexts[i], &codec)) {
      errno = ENOMEM;
      return -1;
    }
    warm (codecs, &codecs->contexts[i], index);
  }
  codecs->nr_codecs++;
  return index;
}

uint64_t
codecs_size (const struct codecs *codecs)
{
  uint64_t size = sizeof *codecs;
  unsigned i;

  for (i = 0; i < codecs->nr_contexts; i++) {
    const struct context *context = &codecs->contexts[i];

    size += sizeof *context
      + ZSTD_sizeof_CCtx (context->zstd_compress)
      + ZSTD_sizeof_DCtx (context->zstd_decompress)
      + (context->lz4 ? LZ4_sizeofState () : 0)
      + (context->lz4hc ? LZ4_sizeofStateHC () : 0);
  }
  return size;
}

/* The libraries tell the size only of contexts that exist. */
uint64_t
codecs_size_with (unsigned nr_contexts, const struct zram_codec *codec)
{
  struct codecs *codecs = codecs_create (1);
  uint64_t size = 0;

  if (codecs && codecs_add (codecs, codec) >= 0)
    size = codecs_size (codecs) - sizeof *codecs;
  codecs_destroy (codecs);
  return sizeof *codecs + nr_contexts * size;
}

/* ---- Borrowing contexts -------------------------------------------- */

struct codec_context *
codecs_get (struct codecs *codecs)
{
  unsigned first = 2 * (unsigned) sched_getcpu () % codecs->nr_contexts;
  unsigned i, n;

  for (i = 0; i < codecs->nr_contexts; i++) {
    n = (first + i) % codecs->nr_contexts;
    if (pthread_mutex_trylock (&codecs->contexts[n].lock) == 0)
      return &codecs->contexts[n].public;
  }
  pthread_mutex_lock (&codecs->contexts[first].lock);
  return &codecs->contexts[first].public;
}

void
codecs_put (struct codec_context *public)
{
  pthread_mutex_unlock (&((struct context *) public)->lock);
}

/* ---- Compressing and decompressing --------------------------------- */

/* Where zstd's frame of the object in the context begins. */
static unsigned char *
zstd_frame (struct context *context)
{
  return context->public.object - sizeof zstd_header;
}

static size_t
zstd_compress (struct context *context, int level, const void *page,
               size_t max)
{
  unsigned char *frame = zstd_frame (context);
  size_t r;

  if (context->zstd_level != level && !prepare_zstd (context, level))
    return 0;
  r = ZSTD_compress2 (context->zstd_compress, frame, max + sizeof zstd_header,
                      page, ZRAM_PAGE_SIZE);
  if (ZSTD_isError (r) || memcmp (frame, zstd_header, sizeof zstd_header) != 0)
    return 0;
  return r - sizeof zstd_header;
}

static bool
zstd_decompress (struct context *context, const void *object, size_t size,
                 void *page)
{
  unsigned char *frame = zstd_frame (context);

  memcpy (frame, zstd_header, sizeof zstd_header);
  memcpy (context->public.object, object, size);
  return ZSTD_decompressDCtx (context->zstd_decompress, page, ZRAM_PAGE_SIZE,
                              frame, sizeof zstd_header + size)
    == ZRAM_PAGE_SIZE;
}

size_t
codecs_compress (struct codecs *codecs, struct codec_context *public,
                 unsigned index, const void *page, size_t max)
{
  struct context *context = (struct context *) public;
  const struct zram_codec *codec = &codecs->table[index];
  void *dst = public->object;
  int r = 0;

  switch (codec->algorithm) {
  case ZRAM_ALGORITHM_NONE:
    return 0;
  case ZRAM_ALGORITHM_LZ4:
    r = LZ4_compress_fast_extState (context->lz4, page, dst, ZRAM_PAGE_SIZE,
                                    max, codec->level);
    break;
  case ZRAM_ALGORITHM_LZ4HC:
    r = LZ4_compress_HC_extStateHC (context->lz4hc, page, dst,
                                    ZRAM_PAGE_SIZE, max, codec->level);
    break;
  case ZRAM_ALGORITHM_ZSTD:
    return zstd_compress (context, codec->level, page, max);
  }
  return r > 0 ? r : 0;
}

bool
codecs_needs_context (const struct codecs *codecs, unsigned index)
{
  return index >= CODEC_FIRST
    && codecs->table[index].algorithm == ZRAM_ALGORITHM_ZSTD;
}

static bool
decompress_pattern (const void *object, size_t size, uint64_t *page)
{
  uint64_t pattern;
  size_t i;

  if (size != sizeof pattern)
    return false;
  memcpy (&pattern, object, sizeof pattern);
  for (i = 0; i < ZRAM_PAGE_SIZE / sizeof pattern; i++)
    memcpy (&page[i], &pattern, sizeof pattern);
  return true;
}

bool
codecs_decompress (struct codecs *codecs, struct codec_context *public,
                   unsigned index, const void *object, size_t size,
                   void *page)
{
  struct context *context = (struct context *) public;

  if (index == CODEC_RAW) {
    memcpy (page, object, ZRAM_PAGE_SIZE);
    return size == ZRAM_PAGE_SIZE;
  }
  if (index == CODEC_PATTERN)
    return decompress_pattern (object, size, page);

  switch (codecs->table[index].algorithm) {
  case ZRAM_ALGORITHM_NONE:
    break;
  case ZRAM_ALGORITHM_LZ4:
  case ZRAM_ALGORITHM_LZ4HC:
    return LZ4_decompress_safe (object, page, size, ZRAM_PAGE_SIZE)
      == ZRAM_PAGE_SIZE;
  case ZRAM_ALGORITHM_ZSTD:
    return zstd_decompress (context, object, size, page);
  }
  return false;
}

bool
codecs_is_valid (const struct codecs *codecs, unsigned codec)
{
  return codec < codecs->nr_codecs;
}
