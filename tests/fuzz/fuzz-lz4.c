/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Fuzzes the compressor of lz4-page.c: whatever it makes, liblz4 turns
 * back into what it was, and it fits or nothing is made.  The first
 * three bytes choose the level and the room; all buffers are exact.
 */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include <lz4.h>

#include "lz4-page.h"

/* Compress with exactly so much room.  Returns a new buffer. */
static char *
compress (const uint8_t *data, size_t size, size_t max, unsigned level,
          size_t *n)
{
  struct lz4_page *lz4 = malloc (sizeof *lz4);
  char *dst = malloc (max + !max);

  *n = lz4_page_compress (lz4, data, size, dst, max, level);
  if (*n > max)
    abort ();
  free (lz4);
  return dst;
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  static char back[LZ4_PAGE_MAX];
  size_t max, whole, part;
  unsigned level;
  char *block, *again;

  if (size < 4 || size - 3 > LZ4_PAGE_MAX)
    return 0;
  level = 1 + (data[0] >> 4 ? 0 : data[0]);
  max = data[1] | data[2] << 8;
  data += 3;
  size -= 3;

  block = compress (data, size, LZ4_compressBound (size), level, &whole);
  if (LZ4_decompress_safe (block, back, whole, size) != (int) size
      || memcmp (data, back, size) != 0)
    abort ();
  max %= whole + 32;
  again = compress (data, size, max, level, &part);
  if (part != (max < whole ? 0 : whole) || memcmp (block, again, part) != 0)
    abort ();
  free (again);
  free (block);
  return 0;
}
