/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Something for callgrind to count: the requests of a settled store, in
 * functions of their own.
 *
 *   valgrind --tool=callgrind --toggle-collect=measured_writes \
 *     bench-instructions CORPUS PAGES ALGORITHM write
 *
 * and the same with measured_reads and "read".  The counts can be
 * repeated, other than times.  There are no threads in it, so what
 * waiting costs is not counted.
 *
 * The dictionary of zstd is made here, of pieces of the corpus, like those
 * that a store makes.  The store's own are adopted if they save time, and
 * callgrind has another notion of that.
 */

#include <config.h>

#include <stdio.h>
#include <stdlib.h>
#include <stdint.h>
#include <string.h>
#include <err.h>

#include "zram.h"
#include "zstd-page.h"

#include "bench.h"
#include "device.h"

static uint8_t page_buffer[BENCH_PAGE];

#define PIECE 256
#define NR_PIECES 32
#define NR_TRAIN 384

void measured_writes (const struct device *, const struct corpus *,
                      const uint32_t *order);
void measured_reads (const struct device *, const struct corpus *,
                     const uint32_t *order);

__attribute__ ((noinline)) void
measured_writes (const struct device *d, const struct corpus *corpus,
                 const uint32_t *order)
{
  for (size_t i = 0; i < corpus->nr_pages; ++i)
    device_write (d, order[i], corpus_page (corpus, i));
}

__attribute__ ((noinline)) void
measured_reads (const struct device *d, const struct corpus *corpus,
                const uint32_t *order)
{
  for (size_t i = 0; i < corpus->nr_pages; ++i)
    device_read (d, order[i], page_buffer);
}

/* A dictionary of pages from all over the corpus.  Returns its size. */
static size_t
make_dictionary (const struct corpus *corpus, uint8_t *out)
{
  static uint8_t content[NR_PIECES * PIECE], samples[NR_TRAIN][BENCH_PAGE];
  size_t size;

  for (size_t i = 0; i < NR_TRAIN; ++i)
    memcpy (samples[i], corpus_page (corpus, i * corpus->nr_pages / NR_TRAIN),
            BENCH_PAGE);
  for (size_t i = 0; i < NR_PIECES; ++i)
    memcpy (content + i * PIECE,
            samples[i * NR_TRAIN / NR_PIECES] + i % 16 * PIECE, PIECE);
  size = zstd_dictionary_train (content, sizeof content, samples[0],
                                NR_TRAIN, out);
  if (size == 0)
    errx (EXIT_FAILURE, "zstd_dictionary_train failed");
  return size;
}

int
main (int argc, char *argv[])
{
  struct zram_codec codec = { .level = 1 };
  static uint8_t dictionary[NR_PIECES * PIECE + ZSTD_DICTIONARY_TABLES];
  struct corpus corpus;
  struct device d;
  uint32_t *order;

  if (argc != 5) {
    fprintf (stderr, "usage: bench-instructions CORPUS PAGES ALGORITHM "
             "write|read\n");
    return EXIT_FAILURE;
  }
  if (!zram_algorithm_find (argv[3], &codec.algorithm))
    errx (EXIT_FAILURE, "%s: no such algorithm", argv[3]);
  corpus = corpus_load (argv[1], parse_count ("PAGES", argv[2]),
                        CORPUS_DROP_SAME);
  order = small_pages (corpus.nr_pages * sizeof *order);

  if (codec.algorithm == ZRAM_ALGORITHM_ZSTD) {
    codec.dictionary = dictionary;
    codec.dictionary_size = make_dictionary (&corpus, dictionary);
  }
  d = device_open (&codec, &default_recompress, corpus.nr_pages);
  for (size_t i = 0; i < corpus.nr_pages; ++i)
    device_write (&d, i, corpus_page (&corpus, i));
  zram_memory_settle (d.memory);
  printf ("instructions pages=%zu\n", corpus.nr_pages);
  random_order (order, corpus.nr_pages, 1);
  if (strcmp (argv[4], "write") == 0)
    measured_writes (&d, &corpus, order);
  else
    measured_reads (&d, &corpus, order);
  device_close (&d);
  return EXIT_SUCCESS;
}
