/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* What is written to a tier, beside what had to be.
 *
 *   bench-tiers CORPUS PAGES
 *
 * Each page of a disk is written, with what is in any of the corpus, to a
 * store that has memory for a quarter of what that takes compressed, and a
 * tier for the rest.  Then pages are written again at random, as many as
 * there are, on a tier that is so full of what is alive: all pages as often;
 * as Zipf's law says; or half of them as often, and the others never.  The
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
static const unsigned full[] = { 65, 80 };
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

/* Pages, and what can be written to them. */
struct workload {
  struct corpus corpus;
  size_t nr_pages;              /* of the disk */
  struct zipf zipf;
  uint32_t *order;              /* of pages, at random */
};

static void
write_page (const struct device *d, const struct workload *w, size_t page,
            uint64_t *seed)
{
  device_write (d, page, corpus_page (&w->corpus, random_next (seed)
                                                  % w->corpus.nr_pages));
}

static void
fill (const struct device *d, const struct workload *w)
{
  uint64_t seed = 1;

  for (size_t i = 0; i < w->nr_pages; ++i)
    write_page (d, w, i, &seed);
}

/* ---- What is measured ---------------------------------------------- */

/* What the pages take when there is no limit. */
static uint64_t
compressed_size (const struct workload *w)
{
  struct device d = device_open (&codec, &default_recompress, w->nr_pages);
  struct zram_store_stats s;

  fill (&d, w);
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

static void
bench_fill (const struct workload *w, uint64_t mem_limit, uint64_t size)
{
  struct small_disk s = small_disk_open (mem_limit, size, w->nr_pages);
  struct zram_tier_stats before = stats_of (&s);

  fill (&s.d, w);
  report ("fill", &s, &before, 0);
  small_disk_close (&s);
}

/* Which pages are written again, and how many rounds it takes before the tier
 * looks as it will look for good: what is never written must have been
 * moved out of the way of what is.
 */
enum law { LAW_UNIFORM, LAW_ZIPF, LAW_HALF, NR_LAWS };

static const struct {
  const char *name;
  unsigned rounds;
} laws[] = {
  [LAW_UNIFORM] = { "uniform", 2 },
  [LAW_ZIPF] = { "zipf", 8 },
  [LAW_HALF] = { "half", 9 },
};

static size_t
next_page (const struct workload *w, enum law law, uint64_t *seed)
{
  size_t n = law == LAW_HALF ? w->nr_pages / 2 : w->nr_pages;

  return w->order[law == LAW_ZIPF ? zipf_next (&w->zipf, seed)
                                  : random_next (seed) % n];
}

/* As many writes as there are pages. */
static void
overwrite (const struct device *d, const struct workload *w, enum law law,
           uint64_t seed)
{
  for (size_t i = 0; i < w->nr_pages; ++i)
    write_page (d, w, next_page (w, law, &seed), &seed);
}

/* What of it is alive on a tier that has room. */
static uint64_t
live_size (const struct workload *w, enum law law, uint64_t mem_limit,
           uint64_t size)
{
  struct small_disk s = small_disk_open (mem_limit, size, w->nr_pages);
  struct zram_tier_stats t;

  fill (&s.d, w);
  overwrite (&s.d, w, law, 0);
  t = stats_of (&s);
  small_disk_close (&s);
  return t.bytes_live;
}

static void
bench_overwrite (const struct workload *w, enum law law, uint64_t mem_limit,
                 uint64_t live, unsigned percent)
{
  struct small_disk s = small_disk_open (mem_limit, live * 100 / percent,
                                         w->nr_pages);
  struct zram_tier_stats before;
  unsigned round;

  fill (&s.d, w);
  for (round = 0; round < laws[law].rounds; ++round)
    overwrite (&s.d, w, law, round);
  before = stats_of (&s);
  overwrite (&s.d, w, law, round);
  report (laws[law].name, &s, &before, percent);
  small_disk_close (&s);
}

int
main (int argc, char *argv[])
{
  struct workload w;
  uint64_t all, mem_limit, live;

  if (argc != 3) {
    fprintf (stderr, "usage: bench-tiers CORPUS PAGES\n");
    return EXIT_FAILURE;
  }
  w.nr_pages = parse_count ("PAGES", argv[2]);
  w.corpus = corpus_map (argv[1], w.nr_pages);
  w.zipf = zipf_create (w.nr_pages);
  w.order = small_pages (w.nr_pages * sizeof *w.order);
  random_order (w.order, w.nr_pages, 1);

  all = compressed_size (&w);
  mem_limit = all / RAM_PART + SPARE;
  bench_fill (&w, mem_limit, 2 * all);
  for (enum law law = 0; law < NR_LAWS; ++law) {
    live = live_size (&w, law, mem_limit, 2 * all);
    for (unsigned i = 0; i < NR_FULL; ++i)
      bench_overwrite (&w, law, mem_limit, live, full[i]);
  }
  munmap (w.order, w.nr_pages * sizeof *w.order);
  zipf_destroy (&w.zipf);
  return EXIT_SUCCESS;
}
