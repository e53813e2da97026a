/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* What is written to a tier, beside what had to be.
 *
 *   bench-tiers CORPUS PAGES ROUNDS
 *
 * The corpus is written to a store that has memory for a quarter of what
 * it takes compressed, and a tier for the rest.  Then pages are written
 * again at random, ROUNDS times as many as there are, on a tier that is so
 * full of what is alive: all pages as often, or as Zipf's law says.  The
 * tier is memory: it is bytes that are counted here and not time, and there
 * are no threads, so that each run gives the same figures.
 */

#include <config.h>

#include <stdio.h>
#include <stdlib.h>
#include <stdint.h>
#include <inttypes.h>
#include <string.h>
#include <errno.h>
#include <err.h>

#include <sys/mman.h>

#include "zram.h"

#include "bench.h"
#include "device.h"
#include "zipf.h"

#define MIB (UINT64_C (1) << 20)

/* RAM has this part of what the pages take. */
#define RAM_PART 4

/* Percent of the tier that are alive. */
static const unsigned full[] = { 50, 65, 80 };
#define NR_FULL (sizeof full / sizeof full[0])

/* For what is not objects: buffers, contexts, the slot table. */
#define SPARE (6 * MIB)

static const struct zram_codec codec = {
  .algorithm = ZRAM_ALGORITHM_ZSTD, .level = 1,
};

/* ---- A tier in memory ---------------------------------------------- */

static int
tier_read (void *base, void *buf, size_t count, uint64_t offset)
{
  memcpy (buf, (char *) base + offset, count);
  return 0;
}

static int
tier_write (void *base, const void *buf, size_t count, uint64_t offset)
{
  memcpy ((char *) base + offset, buf, count);
  return 0;
}

static const struct zram_tier_ops tier_ops = {
  .read = tier_read, .write = tier_write,
};

/* ---- A store that has one ------------------------------------------ */

struct small_disk {
  struct device d;
  void *storage;
  uint64_t size;
};

static struct small_disk
small_disk_open (uint64_t mem_limit, uint64_t tier_size, size_t nr_pages)
{
  struct zram_memory_config config = {
    .mem_limit = mem_limit, .recompress = default_recompress,
  };
  struct small_disk s = {
    .size = tier_size, .storage = small_pages (tier_size),
  };
  struct zram_tier tier = { &tier_ops, s.storage, tier_size };

  s.d.memory = zram_memory_create (&config);
  if (!s.d.memory)
    err (EXIT_FAILURE, "zram_memory_create");
  if (zram_add_tier (s.d.memory, &tier) == -1)
    err (EXIT_FAILURE, "zram_add_tier");
  s.d.store = zram_open (s.d.memory, (uint64_t) nr_pages * BENCH_PAGE,
                         &codec);
  if (!s.d.store)
    err (EXIT_FAILURE, "zram_open");
  return s;
}

static void
small_disk_close (struct small_disk *s)
{
  device_close (&s->d);
  munmap (s->storage, s->size);
}

static struct zram_tier_stats
stats_of (const struct small_disk *s)
{
  struct zram_memory_stats m;

  zram_memory_stats (s->d.memory, &m);
  return m.tiers[0];
}

static void
fill (const struct device *d, const struct corpus *corpus)
{
  for (size_t i = 0; i < corpus->nr_pages; ++i)
    device_write (d, i, corpus_page (corpus, i));
}

/* ---- What is measured ---------------------------------------------- */

/* What the pages take when there is no limit. */
static uint64_t
compressed_size (const struct corpus *corpus)
{
  struct device d = device_open (&codec, &default_recompress,
                                 corpus->nr_pages);
  struct zram_store_stats s;

  fill (&d, corpus);
  zram_store_stats (d.store, &s);
  device_close (&d);
  return s.compr_data_size;
}

static void
report (const char *step, const struct small_disk *s,
        const struct zram_tier_stats *before, unsigned percent)
{
  struct zram_tier_stats t = stats_of (s);
  uint64_t in = t.bytes_in - before->bytes_in;
  uint64_t written = t.bytes_written - before->bytes_written;

  printf ("tier step=%s full=%u size=%" PRIu64 " live=%" PRIu64 " in=%" PRIu64
          " written=%" PRIu64 " ratio=%.4f\n",
          step, percent, t.size, t.bytes_live, in, written,
          (double) written / in);
  fflush (stdout);
}

/* Returns what is alive on the tier then. */
static uint64_t
bench_fill (const struct corpus *corpus, uint64_t mem_limit, uint64_t size)
{
  struct small_disk s = small_disk_open (mem_limit, size, corpus->nr_pages);
  struct zram_tier_stats before = stats_of (&s), after;

  fill (&s.d, corpus);
  report ("fill", &s, &before, 0);
  after = stats_of (&s);
  small_disk_close (&s);
  return after.bytes_live;
}

/* As many writes as there are pages.  All as often, if there is no law. */
static void
overwrite (const struct device *d, const struct corpus *corpus,
           const struct zipf *zipf, const uint32_t *order, uint64_t seed)
{
  for (size_t i = 0; i < corpus->nr_pages; ++i) {
    size_t page = zipf ? order[zipf_next (zipf, &seed)]
      : random_next (&seed) % corpus->nr_pages;

    device_write (d, page, corpus_page (corpus, random_next (&seed)
                                                % corpus->nr_pages));
  }
}

/* The first round is for what was filled in order to become old. */
static void
bench_overwrite (const char *step, const struct corpus *corpus,
                 const struct zipf *zipf, size_t rounds, uint64_t mem_limit,
                 uint64_t live, unsigned percent)
{
  size_t n = corpus->nr_pages;
  struct small_disk s = small_disk_open (mem_limit, live * 100 / percent, n);
  uint32_t *order = small_pages (n * sizeof *order);
  struct zram_tier_stats before;

  random_order (order, n, 1);
  fill (&s.d, corpus);
  for (size_t round = 0; round <= rounds; ++round) {
    if (round == 1)
      before = stats_of (&s);
    overwrite (&s.d, corpus, zipf, order, round);
  }
  report (step, &s, &before, percent);
  munmap (order, n * sizeof *order);
  small_disk_close (&s);
}

int
main (int argc, char *argv[])
{
  struct corpus corpus;
  struct zipf zipf;
  size_t rounds;
  uint64_t all, mem_limit, live;

  if (argc != 4) {
    fprintf (stderr, "usage: bench-tiers CORPUS PAGES ROUNDS\n");
    return EXIT_FAILURE;
  }
  rounds = parse_count ("ROUNDS", argv[3]);
  corpus = corpus_map (argv[1], parse_count ("PAGES", argv[2]));
  zipf = zipf_create (corpus.nr_pages);

  all = compressed_size (&corpus);
  mem_limit = all / RAM_PART + SPARE;
  live = bench_fill (&corpus, mem_limit, 2 * all);
  for (unsigned i = 0; i < NR_FULL; ++i) {
    bench_overwrite ("uniform", &corpus, NULL, rounds, mem_limit, live,
                     full[i]);
    bench_overwrite ("zipf", &corpus, &zipf, rounds, mem_limit, live,
                     full[i]);
  }
  zipf_destroy (&zipf);
  return EXIT_SUCCESS;
}
