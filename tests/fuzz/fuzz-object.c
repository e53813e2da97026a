/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Fuzzes decompression: an object whose bytes are anything at all is
 * refused or gives some page, and nothing else happens.  And the way
 * there and back: a page of the input's bytes survives every codec.
 */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "codec.h"

static const struct zram_codec all[] = {
  { ZRAM_ALGORITHM_LZ4, 1 },
  { ZRAM_ALGORITHM_LZ4HC, 9 },
  { ZRAM_ALGORITHM_ZSTD, 1 },
  { ZRAM_ALGORITHM_ZSTD, 19 },
  { ZRAM_ALGORITHM_ZSTD, -5 },
};
#define NR_CODECS (sizeof all / sizeof all[0])

static struct codecs *codecs;
static int indexes[NR_CODECS];

static void
init (void)
{
  unsigned i;

  codecs = codecs_create (1);
  for (i = 0; i < NR_CODECS; i++) {
    indexes[i] = codecs_add (codecs, &all[i]);
    if (indexes[i] == -1)
      abort ();
  }
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  unsigned char page[ZRAM_PAGE_SIZE] = { 0 }, back[ZRAM_PAGE_SIZE],
    object[ZRAM_PAGE_SIZE];
  struct codec_context *context;
  struct codec_reader *reader;
  unsigned i;

  if (codecs == NULL)
    init ();
  if (size == 0 || size > ZRAM_PAGE_SIZE)
    return 0;
  context = codecs_get (codecs);
  reader = codecs_get_reader (codecs);
  for (i = 0; i < NR_CODECS; i++) {
    size_t n;

    memcpy (object, data, size);
    codecs_decompress (codecs, reader, indexes[i], object, size, page);
    memset (page, 0, sizeof page);
    memcpy (page, data, size);
    n = codecs_compress (codecs, context, indexes[i], page, 4080);
    memcpy (object, context->object, n);
    if (n && (n > 4080
              || !codecs_decompress (codecs, reader, indexes[i], object, n,
                                     back)
              || memcmp (page, back, sizeof page) != 0))
      abort ();
  }
  codecs_put_reader (codecs, reader);
  codecs_put (codecs, context);
  return 0;
}
