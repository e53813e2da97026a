/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Fuzzes the compressor of zstd-page.c, and what it makes of dictionaries:
 * whatever it writes, libzstd turns back into what it was, and it fits or
 * nothing is made.  The first bytes say how: with no dictionary, with one
 * that is trained on the data, or with the data as a dictionary, which
 * libzstd may take or not.
 */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include <zstd.h>

#include "zstd-page.h"

#define PAGE ZRAM_PAGE_SIZE

/* A dictionary trained on the page, changed at one place perhaps. */
static size_t
train (const uint8_t *page, size_t content, unsigned change, uint8_t *bytes)
{
  size_t n = zstd_dictionary_train (page, content, page, 1, bytes);

  if (n && change)
    bytes[change % n] ^= change >> 8;
  return n;
}

static void
check (const struct zstd_dictionary *ours, const ZSTD_DDict *theirs,
       const uint8_t *page, size_t max)
{
  static ZSTD_DCtx *dctx;
  uint8_t frame[9 + PAGE] = { 0x28, 0xb5, 0x2f, 0xfd, 0, 2 << 3 };
  uint8_t back[PAGE], *dst = malloc (max + ZSTD_PAGE_SLACK);
  struct zstd_page *work = zstd_page_create ();
  size_t n;

  if (dctx == NULL)
    dctx = ZSTD_createDCtx ();
  zstd_page_prepare (work, ours);
  n = zstd_page_compress (work, ours, page, dst, max);
  if (n > max)
    abort ();
  if (n) {
    frame[6] = n << 3 | 2 << 1 | 1;
    frame[7] = n >> 5;
    frame[8] = n >> 13;
    memcpy (frame + 9, dst, n);
    if (ZSTD_decompress_usingDDict (dctx, back, PAGE, frame, 9 + n,
                                    theirs) != PAGE
        || memcmp (page, back, PAGE) != 0)
      abort ();
  }
  zstd_page_free (work);
  free (dst);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  uint8_t page[PAGE], bytes[PAGE + ZSTD_DICTIONARY_TABLES];
  struct zstd_dictionary *ours = NULL;
  ZSTD_DDict *theirs = NULL;
  size_t max, n, i;
  unsigned mode, change;

  if (size < 8)
    return 0;
  mode = data[0] % 4;
  max = (data[1] | data[2] << 8) % (PAGE + 1);
  change = mode == 2 ? data[3] | data[4] << 8 | data[5] << 16 : 0;
  data += 6;
  size -= 6;
  for (i = 0; i < PAGE; i++)
    page[i] = data[i % size];
  if (mode == 0)
    ours = zstd_dictionary_none ();
  else if (mode == 3) {
    ours = zstd_dictionary_create (data, size);
    theirs = ZSTD_createDDict (data, size);
  }
  else {
    n = train (page, 8 + max % (PAGE - 8), change, bytes);
    ours = zstd_dictionary_create (bytes, n);
    theirs = ZSTD_createDDict (bytes, n);
  }
  if (ours && (theirs || mode == 0)) {
    check (ours, theirs, page, max);
    check (ours, theirs, page, PAGE);
  }
  zstd_dictionary_free (ours);
  ZSTD_freeDDict (theirs);
  return 0;
}
