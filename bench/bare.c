/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Compression without a store around it: what the store is compared
 * with.
 *
 * "Codec" makes the very calls of lib/codec.h that the store makes, with
 * the same parameters, in a context that the thread keeps: borrowing
 * one for every page is the store's own cost.
 *
 * "Plain" is what somebody would write who reads the manual of the
 * compression library and goes no further.  It keeps one context per
 * thread, because nobody who cares would make one for every page.
 */

#include <config.h>

#include <stdio.h>
#include <stdlib.h>
#include <stdint.h>
#include <string.h>
#include <err.h>

#include <lz4.h>
#include <zstd.h>

#include "codec.h"
#include "zram.h"

#include "bare.h"
#include "bench.h"

struct bare {
  enum bare_kind kind;
  struct zram_codec codec;

  /* BARE_CODEC */
  struct codecs *codecs;
  struct codec_context *context;
  struct codec_reader *reader;
  int index;

  /* BARE_PLAIN */
  ZSTD_CCtx *cctx;
  ZSTD_DCtx *dctx;
};

static void
codec_new (struct bare *b)
{
  b->codecs = codecs_create (1);
  if (!b->codecs)
    err (EXIT_FAILURE, "codecs_create");
  b->index = codecs_add (b->codecs, &b->codec);
  if (b->index == -1)
    err (EXIT_FAILURE, "codecs_add");
  b->context = codecs_get (b->codecs);
  b->reader = codecs_get_reader (b->codecs);
}

static void
plain_new (struct bare *b)
{
  b->cctx = ZSTD_createCCtx ();
  b->dctx = ZSTD_createDCtx ();
  if (!b->cctx || !b->dctx)
    errx (EXIT_FAILURE, "ZSTD_createCCtx: out of memory");
}

struct bare *
bare_new (enum bare_kind kind, const struct zram_codec *codec)
{
  struct bare *b = calloc (1, sizeof *b);

  if (!b)
    err (EXIT_FAILURE, "calloc");
  b->kind = kind;
  b->codec = *codec;
  if (kind == BARE_CODEC)
    codec_new (b);
  else
    plain_new (b);
  return b;
}

void
bare_free (struct bare *b)
{
  if (b->context) {
    codecs_put_reader (b->codecs, b->reader);
    codecs_put (b->codecs, b->context);
  }
  codecs_destroy (b->codecs);
  ZSTD_freeCCtx (b->cctx);
  ZSTD_freeDCtx (b->dctx);
  free (b);
}

static size_t
plain_lz4_compress (const void *page, void *dst)
{
  int r = LZ4_compress_default (page, dst, BENCH_PAGE, BARE_BOUND);

  if (r <= 0)
    errx (EXIT_FAILURE, "LZ4_compress_default failed");
  return r;
}

static size_t
plain_zstd_compress (struct bare *b, const void *page, void *dst)
{
  size_t r = ZSTD_compressCCtx (b->cctx, dst, BARE_BOUND, page, BENCH_PAGE,
                                b->codec.level);

  if (ZSTD_isError (r))
    errx (EXIT_FAILURE, "ZSTD_compressCCtx: %s", ZSTD_getErrorName (r));
  return r;
}

static void
plain_lz4_decompress (const void *object, size_t size, void *page)
{
  if (LZ4_decompress_safe (object, page, size, BENCH_PAGE) != BENCH_PAGE)
    errx (EXIT_FAILURE, "LZ4_decompress_safe failed");
}

static void
plain_zstd_decompress (struct bare *b, const void *object, size_t size,
                       void *page)
{
  if (ZSTD_decompressDCtx (b->dctx, page, BENCH_PAGE, object, size)
      != BENCH_PAGE)
    errx (EXIT_FAILURE, "ZSTD_decompressDCtx failed");
}

static size_t
plain_compress (struct bare *b, const void *page, void *dst)
{
  switch (b->codec.algorithm) {
  case ZRAM_ALGORITHM_LZ4:
    return plain_lz4_compress (page, dst);
  case ZRAM_ALGORITHM_ZSTD:
    return plain_zstd_compress (b, page, dst);
  default:
    errx (EXIT_FAILURE, "no plain calls for %s",
          zram_algorithm_name (b->codec.algorithm));
  }
}

const void *
bare_compress (struct bare *b, const void *page, void *dst, size_t *size)
{
  const void *object = dst;

  if (b->kind == BARE_CODEC) {
    *size = codecs_compress (b->codecs, b->context, b->index, page,
                             BENCH_PAGE - 1);
    object = b->context->object;
  }
  else
    *size = plain_compress (b, page, dst);
  if (*size > 0 && *size < BENCH_PAGE)
    return object;
  *size = BENCH_PAGE;
  return page;
}

void
bare_decompress (struct bare *b, const void *object, size_t size, void *page)
{
  if (size == BENCH_PAGE)
    memcpy (page, object, BENCH_PAGE);
  else if (b->kind == BARE_CODEC) {
    if (!codecs_decompress (b->codecs, b->reader, b->index,
                            object, size, page))
      errx (EXIT_FAILURE, "codecs_decompress failed");
  }
  else if (b->codec.algorithm == ZRAM_ALGORITHM_LZ4)
    plain_lz4_decompress (object, size, page);
  else
    plain_zstd_decompress (b, object, size, page);
}
