/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* What zstd-page.c makes is for libzstd to take, dictionaries and blocks;
 * so that is what is asked here.  Buffers are exactly as long as they are
 * said to be, so that the sanitizer and valgrind see one byte more.
 */

#include "unit.h"

#include <zdict.h>
#include <zstd.h>

#include "pages.h"
#include "zstd-page.h"
#include "zstd-tables.h"

#define PAGE ZRAM_PAGE_SIZE
#define NR_SAMPLES 64

static struct zstd_page *work;
static ZSTD_DCtx *dctx;

/* Both ways to use a dictionary; neither if one of the two refuses it. */
struct dictionary {
  struct zstd_dictionary *ours;
  ZSTD_DDict *theirs;
};

static void
dictionary_close (struct dictionary *d)
{
  zstd_dictionary_free (d->ours);
  ZSTD_freeDDict (d->theirs);
  *d = (struct dictionary) { NULL, NULL };
}

static bool
dictionary_open (struct dictionary *d, const void *bytes, size_t size)
{
  void *p = malloc (size ? size : 1);

  if (work == NULL) {
    work = zstd_page_create ();
    dctx = ZSTD_createDCtx ();
  }
  memcpy (p, bytes, size);
  d->ours = zstd_dictionary_create (p, size);
  d->theirs = ZSTD_createDDict (p, size);
  free (p);
  if (d->ours && d->theirs) {
    zstd_page_prepare (work, d->ours);
    return true;
  }
  dictionary_close (d);
  return false;
}

/* Something of each kind. */
static void
fill_samples (struct rng *rng, unsigned char (*samples)[PAGE])
{
  int i;

  for (i = 0; i < NR_SAMPLES; i++)
    pages_fill (rng, PAGES_TEXT + i % 3, samples[i], PAGE);
}

/* Train one of so much content. */
static size_t
train (struct rng *rng, size_t content, unsigned char *bytes)
{
  static unsigned char samples[NR_SAMPLES][PAGE];
  size_t size;

  fill_samples (rng, samples);
  size = zstd_dictionary_train (samples, content, samples[0], NR_SAMPLES,
                                bytes);
  ck_assert_uint_gt (size, content);
  ck_assert_uint_le (size, content + ZSTD_DICTIONARY_TABLES);
  return size;
}

/* No dictionary at all. */
static void
open_none (struct dictionary *d)
{
  d->ours = zstd_dictionary_none ();
  d->theirs = NULL;
  work = work ? work : zstd_page_create ();
  dctx = dctx ? dctx : ZSTD_createDCtx ();
  zstd_page_prepare (work, d->ours);
}

static void
open_trained (struct rng *rng, struct dictionary *d)
{
  static unsigned char bytes[ZSTD_CONTENT_MAX + ZSTD_DICTIONARY_TABLES];
  size_t size = train (rng, ZSTD_CONTENT_MAX, bytes);

  ck_assert (dictionary_open (d, bytes, size));
}

/* A frame of the block must be the page. */
static void
check_block (const struct dictionary *d, const void *page,
             const unsigned char *block, size_t size)
{
  unsigned char frame[9 + PAGE] = { 0x28, 0xb5, 0x2f, 0xfd, 0, 2 << 3 };
  unsigned char back[PAGE];

  ck_assert_uint_le (size, PAGE);
  frame[6] = size << 3 | 2 << 1 | 1;
  frame[7] = size >> 5;
  frame[8] = size >> 13;
  memcpy (frame + 9, block, size);
  ck_assert_uint_eq (ZSTD_decompress_usingDDict (dctx, back, PAGE, frame,
                                                 9 + size, d->theirs), PAGE);
  ck_assert_mem_eq (back, page, PAGE);
}

static size_t check (const struct dictionary *d, const void *page,
                     size_t max);

/* The same without a dictionary. */
static void
check_without (const void *page, size_t max)
{
  struct dictionary none;

  open_none (&none);
  check (&none, page, max);
  dictionary_close (&none);
}

/* Compress to at most MAX bytes.  Returns the size or 0. */
static size_t
check (const struct dictionary *d, const void *page, size_t max)
{
  unsigned char *src = malloc (PAGE), *dst = malloc (max + ZSTD_PAGE_SLACK);
  size_t n;

  memcpy (src, page, PAGE);
  n = zstd_page_compress (work, d->ours, src, dst, max);
  ck_assert_uint_le (n, max);
  if (n)
    check_block (d, page, dst, n);
  free (src);
  free (dst);
  if (d->theirs) {
    check_without (page, max);
    zstd_page_prepare (work, d->ours);
  }
  return n;
}

START_TEST (test_kinds)
{
  struct dictionary d;
  struct rng rng = { 1 };
  unsigned char page[PAGE];
  size_t n;
  int i;

  open_trained (&rng, &d);
  for (i = 0; i < 200 * PAGES_NR_KINDS; i++) {
    pages_fill (&rng, i % PAGES_NR_KINDS, page, PAGE);
    n = check (&d, page, PAGE);
    ck_assert (n || i % PAGES_NR_KINDS >= PAGES_MIXED);
  }
  dictionary_close (&d);
}
END_TEST

/* What has little room does not get more, and what fits well is made. */
START_TEST (test_every_max)
{
  struct dictionary d;
  struct rng rng = { 2 };
  unsigned char page[PAGE];
  size_t max, whole, n;
  int i;

  open_trained (&rng, &d);
  for (i = 0; i < 9; i++) {
    pages_fill (&rng, PAGES_TEXT + i % 3, page, PAGE);
    whole = check (&d, page, PAGE);
    for (max = 0; max <= PAGE; max++) {
      n = check (&d, page, max);
      ck_assert (n == whole || n == 0);
      ck_assert (whole == 0 || n || max < whole + 128);
    }
  }
  dictionary_close (&d);
}
END_TEST

/* Literals and matches of every length, near the end as well. */
START_TEST (test_every_length)
{
  struct dictionary d;
  struct rng rng = { 3 };
  unsigned char page[PAGE], noise[PAGE];
  size_t literals, length, i;

  open_trained (&rng, &d);
  for (literals = 0; literals < PAGE / 2; literals += 1 + literals / 64)
    for (length = 1; length < PAGE / 2 - 16; length += 1 + length / 32) {
      pages_fill (&rng, PAGES_RANDOM, noise, PAGE);
      for (i = 0; i < PAGE; i++)
        noise[i] &= 15;
      memcpy (page, noise, PAGE);
      memmove (page + literals + 16, page, length);
      memcpy (page + PAGE - length, noise + 100, length);
      check (&d, page, PAGE);
    }
  dictionary_close (&d);
}
END_TEST

/* Matches at every distance, into the content as well. */
START_TEST (test_every_distance)
{
  struct dictionary d;
  struct rng rng = { 4 };
  unsigned char page[PAGE];
  size_t distance, i;

  open_trained (&rng, &d);
  for (distance = 1; distance < PAGE; distance++) {
    pages_fill (&rng, PAGES_RANDOM, page, distance);
    for (i = distance; i < PAGE; i++)
      page[i] = page[i - distance];
    i = check (&d, page, PAGE);
    ck_assert (i || distance > 3 * PAGE / 4);
  }
  for (i = 0; i < 1000; i++) {
    static unsigned char samples[NR_SAMPLES][PAGE];
    struct rng again = { 4 };
    size_t start = rng_below (&rng, ZSTD_CONTENT_MAX - 100);

    fill_samples (&again, samples);
    pages_fill (&rng, PAGES_TEXT, page, PAGE);
    memcpy (page + rng_below (&rng, PAGE - 100), samples[0] + start, 100);
    ck_assert_uint_gt (check (&d, page, PAGE), 0);
  }
  dictionary_close (&d);
}
END_TEST

/* Pages of few or unequal symbols want tables of their own. */
START_TEST (test_own_tables)
{
  struct dictionary d;
  struct rng rng = { 5 };
  unsigned char page[PAGE];
  unsigned nr, steep, i;

  open_trained (&rng, &d);
  for (nr = 1; nr <= 256; nr++)
    for (steep = 1; steep < 12; steep++) {
      for (i = 0; i < PAGE; i++) {
        unsigned n = rng_below (&rng, nr), k;

        for (k = 1; k < steep; k++)
          n = rng_below (&rng, n + 1);
        page[i] = 255 - n;
      }
      check (&d, page, PAGE);
    }
  dictionary_close (&d);
}
END_TEST

/* Structures with numbers in them: many matches, at few offsets. */
START_TEST (test_structures)
{
  struct dictionary d;
  struct rng rng = { 6 };
  unsigned char page[PAGE];
  unsigned size, i;

  open_trained (&rng, &d);
  for (size = 5; size < 600; size++) {
    pages_fill (&rng, PAGES_RANDOM, page, PAGE);
    for (i = size; i < PAGE; i++)
      if (i % size > 3 + size / 16)
        page[i] = page[i - size];
    check (&d, page, PAGE);
  }
  dictionary_close (&d);
}
END_TEST

/* With another size of content, and dictionaries of zdict.h. */
START_TEST (test_dictionaries)
{
  static unsigned char samples[NR_SAMPLES][PAGE];
  static unsigned char bytes[5 * PAGE];
  struct rng rng = { 7 };
  struct dictionary d;
  size_t content, sizes[NR_SAMPLES], size;
  int i;

  for (content = 8; content <= ZSTD_CONTENT_MAX; content += content / 2) {
    size = train (&rng, content, bytes);
    ck_assert (dictionary_open (&d, bytes, size));
    fill_samples (&rng, samples);
    for (i = 0; i < NR_SAMPLES; i++)
      check (&d, samples[i], PAGE);
    dictionary_close (&d);
  }
  for (i = 0; i < NR_SAMPLES; i++)
    sizes[i] = PAGE;
  for (content = 256; content <= 4 * PAGE; content *= 2) {
    ZDICT_params_t params = { .compressionLevel = 1 };

    size = ZDICT_finalizeDictionary (bytes, sizeof bytes, samples, content,
                                     samples, sizes, NR_SAMPLES, params);
    ck_assert (!ZDICT_isError (size));
    ck_assert (dictionary_open (&d, bytes, size));
    for (i = 0; i < NR_SAMPLES; i++)
      check (&d, samples[i], PAGE);
    dictionary_close (&d);
  }
}
END_TEST

/* Whatever both take, both understand in the same way. */
START_TEST (test_bad_dictionaries)
{
  static unsigned char good[ZSTD_CONTENT_MAX + ZSTD_DICTIONARY_TABLES];
  static unsigned char bad[sizeof good];
  struct rng rng = { 8 };
  struct dictionary d;
  unsigned char page[PAGE];
  size_t size = train (&rng, 64, good), n;
  unsigned i, taken = 0;

  for (n = 0; n < size; n++)
    if (dictionary_open (&d, good, n))
      dictionary_close (&d);
  for (i = 0; i < 20000; i++) {
    memcpy (bad, good, size);
    bad[rng_below (&rng, size)] ^= 1 << rng_below (&rng, 8);
    if (i % 2)
      bad[rng_below (&rng, size)] = rng_next (&rng);
    if (!dictionary_open (&d, bad, size))
      continue;
    taken++;
    pages_fill (&rng, PAGES_TEXT + i % 2, page, PAGE);
    check (&d, page, PAGE);
    dictionary_close (&d);
  }
  ck_assert_uint_gt (taken, 0);
}
END_TEST

/* Codes for any counts: complete, as long as allowed, and read back. */
START_TEST (test_huffman)
{
  struct rng rng = { 9 };
  struct zstd_huffman huffman, back;
  unsigned char out[ZSTD_HUFFMAN_DESCRIPTION];
  uint16_t counts[256];
  unsigned round, i, sum;
  size_t n;

  for (round = 0; round < 5000; round++) {
    unsigned ones = rng_below (&rng, 256), a = 1, b = 1;

    for (i = 0; i < 256; i++) {
      unsigned next = a + b;

      counts[i] = i < ones ? 1 : a;
      if (next < 4096 && rng_below (&rng, 1 + round % 16) == 0)
        a = b, b = next;
    }
    n = zstd_huffman_make (&huffman, counts, out);
    if (n == 0)
      continue;
    for (i = sum = 0; i < 256; i++)
      sum += 1 << (ZSTD_HUFFMAN_LOG_MAX - zstd_huffman_bits (&huffman, i));
    ck_assert_uint_eq (sum, 1 << ZSTD_HUFFMAN_LOG_MAX);
    ck_assert_uint_eq (zstd_huffman_read (&back, out, n), n);
    ck_assert_mem_eq (&huffman, &back, sizeof back);
  }
}
END_TEST

START_TEST (test_fse)
{
  struct rng rng = { 10 };
  unsigned char out[ZSTD_FSE_DESCRIPTION];
  uint16_t counts[ZSTD_FSE_SYMBOLS];
  unsigned round, i, nr, total, log;
  size_t n;

  for (round = 0; round < 20000; round++) {
    static struct zstd_fse fse, back;

    nr = 2 + rng_below (&rng, ZSTD_FSE_SYMBOLS - 1);
    log = 6 + rng_below (&rng, ZSTD_FSE_LOG_MAX - 5);
    for (i = total = 0; i < nr; i++)
      total += counts[i] = 1 + rng_below (&rng, 1 + (round >> i % 12));
    memset (&fse, 0, sizeof fse);
    memset (&back, 0, sizeof back);
    n = zstd_fse_make (&fse, counts, nr, total, log, out);
    if (n == 0)
      continue;
    ck_assert_uint_le (n, ZSTD_FSE_DESCRIPTION - 8);
    ck_assert_uint_eq (zstd_fse_read (&back, out, n, log, nr - 1), n);
    ck_assert_mem_eq (&fse, &back, sizeof back);
  }
}
END_TEST

/* About as dense as libzstd with a dictionary of its own. */
START_TEST (test_density)
{
  static unsigned char samples[NR_SAMPLES][PAGE];
  static unsigned char bytes[5 * PAGE], object[2 * PAGE];
  struct rng rng = { 11 };
  ZDICT_params_t params = { .compressionLevel = 1 };
  size_t sizes[NR_SAMPLES], size, ours = 0, theirs = 0;
  ZSTD_CCtx *cctx = ZSTD_createCCtx ();
  ZSTD_CDict *cdict;
  struct dictionary d;
  int i;

  open_trained (&rng, &d);
  fill_samples (&rng, samples);
  for (i = 0; i < NR_SAMPLES; i++)
    sizes[i] = PAGE;
  size = ZDICT_finalizeDictionary (bytes, sizeof bytes, samples,
                                   ZSTD_CONTENT_MAX, samples, sizes,
                                   NR_SAMPLES, params);
  cdict = ZSTD_createCDict (bytes, size, 1);
  for (i = 0; i < 300; i++) {
    pages_fill (&rng, PAGES_TEXT, samples[0], PAGE);
    ours += check (&d, samples[0], PAGE);
    theirs += ZSTD_compress_usingCDict (cctx, object, sizeof object,
                                        samples[0], PAGE, cdict);
  }
  ck_assert_uint_le (ours, theirs + theirs / 20);
  ZSTD_freeCDict (cdict);
  ZSTD_freeCCtx (cctx);
  dictionary_close (&d);
}
END_TEST

UNIT_MAIN ("zstd-page", test_kinds, test_every_max, test_every_length,
           test_every_distance, test_own_tables, test_structures,
           test_dictionaries, test_bad_dictionaries, test_huffman, test_fse,
           test_density)
