/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Every buffer is exactly as long as the compressor is told, so that the
 * sanitizer and valgrind see it read or write one byte more.
 */

#include "unit.h"

#include <lz4.h>

#include "lz4-page.h"
#include "pages.h"

static const unsigned levels[] = { 1, 2, 3, 9, 65537 };
#define NR_LEVELS (sizeof levels / sizeof levels[0])

static struct lz4_page lz4;

static void *
copy (const void *bytes, size_t size)
{
  void *p = malloc (size ? size : 1);

  ck_assert_ptr_nonnull (p);
  memcpy (p, bytes, size);
  return p;
}

/* The last match begins 12 bytes before the end, or earlier, and the
 * last five are literals.  Decoders may rely on it, but liblz4's does
 * not check it.
 */
static void
check_end (const unsigned char *block, size_t block_size, size_t size)
{
  size_t i = 0, position = 0, last_match = 0, n, length;

  for (;;) {
    unsigned char token = block[i++], more = 255;

    n = token >> 4;
    for (; n >= 15 && more == 255; n += more)
      more = block[i++];
    i += n;
    position += n;
    if (i == block_size)
      break;
    last_match = position;
    i += 2;
    length = (token & 15) + 4;
    for (more = 255; length >= 19 && more == 255; length += more)
      more = block[i++];
    position += length;
  }
  ck_assert_uint_eq (position, size);
  if (position != n) {
    ck_assert_uint_ge (n, 5);
    ck_assert_uint_le (last_match, size - 12);
  }
}

/* Compress to exactly MAX bytes.  Returns the block's size or 0. */
static size_t
compress (const void *page, size_t size, size_t max, unsigned level,
          unsigned char *block)
{
  unsigned char *src = copy (page, size), *dst = malloc (max ? max : 1);
  size_t n = lz4_page_compress (&lz4, src, size, dst, max, level);

  ck_assert_uint_le (n, max);
  memcpy (block, dst, n);
  free (dst);
  free (src);
  return n;
}

static size_t
check_round_trip (const void *page, size_t size, unsigned level)
{
  static unsigned char block[2 * LZ4_PAGE_MAX], back[LZ4_PAGE_MAX];
  size_t bound = LZ4_compressBound (size);
  size_t n = compress (page, size, bound, level, block);

  ck_assert_uint_gt (n, 0);
  check_end (block, n, size);
  ck_assert_int_eq (LZ4_decompress_safe ((char *) block, (char *) back, n,
                                         size), size);
  ck_assert_mem_eq (page, back, size);
  return n;
}

START_TEST (test_every_size)
{
  struct rng rng = { 1 };
  unsigned char page[4096];
  size_t size;
  int kind;

  for (kind = 0; kind < PAGES_NR_KINDS; kind++)
    for (size = 1; size <= sizeof page; size++) {
      pages_fill (&rng, kind, page, size);
      check_round_trip (page, size, levels[size % NR_LEVELS]);
      check_round_trip (page, size, 1);
    }
}
END_TEST

/* A block is written if it fits and not if it does not, wherever that
 * is found out.
 */
START_TEST (test_every_max)
{
  static unsigned char block[8192], again[8192];
  struct rng rng = { 2 };
  unsigned char page[4096];
  size_t max, n;
  int kind;

  for (kind = 0; kind < 3 * PAGES_NR_KINDS; kind++) {
    pages_fill (&rng, kind % PAGES_NR_KINDS, page, sizeof page);
    n = compress (page, sizeof page, sizeof again, 1, again);
    for (max = 0; max <= 4200; max++) {
      ck_assert_uint_eq (compress (page, sizeof page, max, 1, block),
                         max < n ? 0 : n);
      if (max >= n)
        ck_assert_mem_eq (block, again, n);
    }
  }
}
END_TEST

/* Lengths around those where the format needs another byte, at any
 * alignment, and near the end.
 */
START_TEST (test_every_length)
{
  struct rng rng = { 3 };
  unsigned char page[2048], noise[2048];
  size_t literals, length, size;

  pages_fill (&rng, PAGES_RANDOM, noise, sizeof noise);
  for (literals = 0; literals < 300; literals++)
    for (length = 4; length < 300; length += 1 + literals % 5) {
      memcpy (page, noise, 320 + literals);
      memcpy (page + 320 + literals, noise + literals % 16, length);
      size = 320 + literals + length;
      check_round_trip (page, size, 1);
      memcpy (page + size, noise + 700, 16);
      check_round_trip (page, size + length % 16, 1);
    }
}
END_TEST

/* Matches at every distance from 1. */
START_TEST (test_every_distance)
{
  struct rng rng = { 4 };
  unsigned char page[4096];
  size_t distance, i;

  for (distance = 1; distance < sizeof page; distance++) {
    pages_fill (&rng, PAGES_RANDOM, page, distance);
    for (i = distance; i < sizeof page; i++)
      page[i] = page[i - distance];
    i = check_round_trip (page, sizeof page, 1);
    ck_assert_uint_le (i, distance + distance / 8 + 64);
  }
}
END_TEST

/* Positions take all 16 bits. */
START_TEST (test_largest)
{
  static unsigned char bytes[LZ4_PAGE_MAX];
  struct rng rng = { 5 };
  int kind;

  for (kind = 0; kind < 4 * PAGES_NR_KINDS; kind++) {
    pages_fill (&rng, kind % PAGES_NR_KINDS, bytes, sizeof bytes);
    memcpy (bytes + sizeof bytes - 100, bytes, 90);
    check_round_trip (bytes, sizeof bytes, levels[kind % NR_LEVELS]);
  }
}
END_TEST

START_TEST (test_memory_does_not_matter)
{
  static unsigned char block[8192], again[8192];
  struct rng rng = { 6 };
  unsigned char page[4096];
  int i;

  for (i = 0; i < 100; i++) {
    size_t n;

    pages_fill (&rng, PAGES_MIXED, page, sizeof page);
    memset (&lz4, 0, sizeof lz4);
    n = compress (page, sizeof page, sizeof block, 1, block);
    pages_fill (&rng, PAGES_RANDOM, &lz4, sizeof lz4);
    ck_assert_uint_eq (compress (page, sizeof page, sizeof again, 1, again),
                       n);
    ck_assert_mem_eq (block, again, n);
  }
}
END_TEST

/* About as dense as liblz4, whose blocks of such words and text are no
 * more than a tenth smaller.  (Those of real memory are larger.)
 */
static void
check_density (const void *page)
{
  char block[LZ4_COMPRESSBOUND (4096)];
  int theirs = LZ4_compress_default (page, block, 4096, sizeof block);

  ck_assert_uint_le (check_round_trip (page, 4096, 1),
                     theirs + theirs / 10);
}

START_TEST (test_density)
{
  struct rng rng = { 7 };
  uint64_t words[512];
  size_t i;

  for (i = 0; i < 512; i++)
    words[i] = UINT64_C (0x00007f0123400000) + rng_below (&rng, 4096) * 16;
  check_density (words);
  pages_fill (&rng, PAGES_TEXT, words, sizeof words);
  check_density (words);
}
END_TEST

UNIT_MAIN ("lz4-page", test_every_size, test_every_max, test_every_length,
           test_every_distance, test_largest, test_memory_does_not_matter,
           test_density)
