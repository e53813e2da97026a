/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* How much memory does the store take?
 *
 * The corpus is written to a store in random order, then all of it is
 * overwritten several times in random order, each page with the
 * contents of another.  That is what swap space goes through, and it is
 * where an allocator shows how it ages.  After the first fill and at
 * the end, background work is done at once (zram_memory_settle) and the
 * numbers are printed; and once more after all pages were made idle
 * (zram_mark_idle).  The step "small" is a store with 1 MiB in it.  In
 * bytes:
 *
 *   orig        pages written * 4096
 *   compr       the sum of the objects' sizes
 *   mem_used    what the pool holds for them
 *   resident    all memory, as the library counts it
 *   slots       the part of it in the slot table
 *   pss         how much this process grew since before the store was
 *               made, as the kernel counts it (Pss in smaps_rollup)
 *
 * resident and pss must agree, or the first is not worth printing.  To
 * that end the benchmark itself allocates nothing while it measures,
 * and a store is made, used and destroyed beforehand, so that the code
 * of the libraries is in memory already.
 */

#include <config.h>

#include <stdio.h>
#include <stdlib.h>
#include <stdint.h>
#include <inttypes.h>
#include <string.h>
#include <fcntl.h>
#include <unistd.h>
#include <err.h>

#include "zram.h"

#include "bench.h"
#include "device.h"

/* Pages of a small store: 1 MiB. */
#define SMALL 256

static uint8_t page_buffer[BENCH_PAGE];

/* This process's memory in bytes. */
static uint64_t
pss (void)
{
  /* No stdio: it would allocate. */
  static char text[8192];
  int fd = open ("/proc/self/smaps_rollup", O_RDONLY|O_CLOEXEC);
  ssize_t r;
  char *line;

  if (fd == -1)
    err (EXIT_FAILURE, "/proc/self/smaps_rollup");
  r = read (fd, text, sizeof text - 1);
  close (fd);
  if (r <= 0)
    err (EXIT_FAILURE, "/proc/self/smaps_rollup");
  text[r] = '\0';
  line = strstr (text, "\nPss:");
  if (!line)
    errx (EXIT_FAILURE, "/proc/self/smaps_rollup: no Pss");
  return strtoull (line + strlen ("\nPss:"), NULL, 10) * 1024;
}

static void
write_all (const struct device *d, const struct corpus *corpus,
           uint32_t *order, unsigned round)
{
  size_t n = corpus->nr_pages;

  random_order (order, n, round);
  for (size_t i = 0; i < n; ++i)
    device_write (d, order[i],
                  corpus_page (corpus, churned (order[i], round, n)));
}

static void
verify (const struct device *d, const struct corpus *corpus, unsigned round)
{
  size_t n = corpus->nr_pages;

  for (size_t i = 0; i < n; ++i) {
    device_read (d, i, page_buffer);
    if (memcmp (page_buffer, corpus_page (corpus, churned (i, round, n)),
                BENCH_PAGE) != 0)
      errx (EXIT_FAILURE, "page %zu: wrong contents", i);
  }
}

static void
report (const struct device *d, const char *algorithm, const char *step,
        uint64_t before)
{
  struct zram_store_stats s;
  struct zram_memory_stats m;
  uint64_t after;

  zram_memory_settle (d->memory);
  after = pss ();
  zram_store_stats (d->store, &s);
  zram_memory_stats (d->memory, &m);
  printf ("memory algorithm=%s step=%s orig=%" PRIu64 " compr=%" PRIu64
          " mem_used=%" PRIu64 " resident=%" PRIu64 " slots=%" PRIu64
          " pss=%" PRIi64 " same=%" PRIu64 " huge=%" PRIu64
          " compacted=%" PRIu64 " grouped=%" PRIu64 "\n",
          algorithm, step, s.orig_data_size, s.compr_data_size,
          m.mem_used_total, m.resident, m.slot_table_size,
          (int64_t) (after - before), s.same_pages, s.huge_pages,
          m.pages_compacted, s.grouped_pages);
  fflush (stdout);
}

/* The same when nobody has used any page for long. */
static void
report_idle (const struct device *d, const char *algorithm, const char *step,
             uint64_t before)
{
  zram_mark_idle (d->store, 0);
  report (d, algorithm, step, before);
}

/* Make, use and destroy a small store, twice: the first time warms up
 * what the second measures.
 */
static void
bench_small (const struct corpus *corpus, const struct zram_codec *codec,
             const char *algorithm)
{
  size_t n = corpus->nr_pages < SMALL ? corpus->nr_pages : SMALL;
  struct corpus part = { .pages = corpus->pages, .nr_pages = n };
  uint32_t order[SMALL];

  for (int i = 0; i < 2; ++i) {
    uint64_t before = pss ();
    struct device d = device_open (codec, &default_recompress, n);

    write_all (&d, &part, order, 0);
    if (i == 1)
      report (&d, algorithm, "small", before);
    verify (&d, &part, 0);
    device_close (&d);
  }
}

static void
bench_algorithm (const struct corpus *corpus, const char *name,
                 unsigned overwrites, uint32_t *order)
{
  struct zram_codec codec = { .level = 1 };
  struct device d;
  uint64_t before;

  if (!zram_algorithm_find (name, &codec.algorithm))
    errx (EXIT_FAILURE, "%s: no such algorithm", name);
  bench_small (corpus, &codec, name);

  before = pss ();
  d = device_open (&codec, &default_recompress, corpus->nr_pages);
  write_all (&d, corpus, order, 0);
  report (&d, name, "fill", before);
  report_idle (&d, name, "idle", before);
  for (unsigned round = 1; round <= overwrites; ++round)
    write_all (&d, corpus, order, round);
  report (&d, name, "overwritten", before);
  report_idle (&d, name, "overwritten-idle", before);
  verify (&d, corpus, overwrites);
  device_close (&d);
}

int
main (int argc, char *argv[])
{
  struct corpus corpus;
  size_t overwrites;
  uint32_t *order;

  if (argc < 5) {
    fprintf (stderr, "usage: bench-memory CORPUS PAGES OVERWRITES "
             "ALGORITHM [ALGORITHM ...]\n");
    return EXIT_FAILURE;
  }
  overwrites = parse_count ("OVERWRITES", argv[3]);
  corpus = corpus_load (argv[1], parse_count ("PAGES", argv[2]),
                        CORPUS_KEEP_SAME);
  order = small_pages (corpus.nr_pages * sizeof *order);
  random_order (order, corpus.nr_pages, 0);

  printf ("pages count=%zu same=%zu overwrites=%zu\n",
          corpus.nr_pages, corpus.nr_same, overwrites);
  for (int i = 4; i < argc; ++i)
    bench_algorithm (&corpus, argv[i], overwrites, order);
  return EXIT_SUCCESS;
}
