/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* How many bytes does a page take, and for how many microseconds, in
 * every setting that somebody could choose?
 *
 * Each setting has a store of its own, with the same pages in it, and is
 * settled: a dictionary is adopted, idle pages are regrouped where the
 * setting says so.  Then, in each round, all pages are overwritten and
 * all are read, in random order; the settings take turns, some hundred
 * pages each.  Beside them are compression libraries without a store,
 * used as their manuals say.
 *
 *   bytes     what is resident after the first settling, per page; without
 *             a store, the objects
 *   write_us  overwriting a page.  With groups, and what it takes to
 *             regroup it later.
 *   read_us   reading a page that was not read since it was settled
 *
 * Pages are overwritten with the contents of others at a distance of
 * many pages, so that neighbours remain neighbours: groups live on that.
 *
 * Times are processor time of this thread: everything is done by it, and
 * what else the machine does in the meantime is of no interest.
 */

#include <config.h>

#include <stdio.h>
#include <stdlib.h>
#include <stdint.h>
#include <stdbool.h>
#include <string.h>
#include <err.h>

#include "zram.h"

#include "bare.h"
#include "bench.h"
#include "device.h"

#define MAX_ROUNDS 99
#define CHUNK 512               /* pages in a turn */
#define NEIGHBOURS 64           /* the number of pages is a multiple */

struct setting {
  const char *name;             /* kind:setting */
  bool plain;                   /* without a store */
  struct zram_codec codec;
  struct zram_recompress recompress;
};

#define LZ4(l) .codec = { .algorithm = ZRAM_ALGORITHM_LZ4, .level = l }
#define ZSTD(l) .codec = { .algorithm = ZRAM_ALGORITHM_ZSTD, .level = l }
#define GROUP(l, n)                                                     \
  ZSTD (1), .recompress = {                                             \
    .codec = { .algorithm = ZRAM_ALGORITHM_ZSTD, .level = l },          \
    .age = 60, .group = n,                                              \
  }

static const struct setting settings[] = {
  { "ours:lz4", LZ4 (1) },
  { "ours:lz4,level=2", LZ4 (2) },
  { "ours:lz4,level=4", LZ4 (4) },
  { "ours:lz4hc", .codec = { .algorithm = ZRAM_ALGORITHM_LZ4HC } },
  { "ours:zstd,level=-5", ZSTD (-5) },
  { "ours:zstd,level=-1", ZSTD (-1) },
  { "ours:zstd,level=1", ZSTD (1) },
  { "ours:zstd,level=3", ZSTD (3) },
  { "ours:zstd,level=6", ZSTD (6) },
  { "ours:zstd,dictionary=none",
    .codec = { .algorithm = ZRAM_ALGORITHM_ZSTD, .level = 1,
               .no_dictionary = true } },
  { "idle:level=3,group=4", GROUP (3, 4) },
  { "idle:level=3,group=8", GROUP (3, 8) },
  { "idle:level=3,group=16", GROUP (3, 16) },
  { "idle:level=6,group=16", GROUP (6, 16) },
  { "plain:lz4", true, LZ4 (1) },
  { "plain:zstd,level=1", true, ZSTD (1) },
  { "plain:zstd,level=3", true, ZSTD (3) },
};
#define NR_SETTINGS (sizeof settings / sizeof settings[0])

/* What contents became without a store.  They become the same each time,
 * so objects are as dense as can be and stay where they are.
 */
struct object {
  uint8_t *bytes;
  uint32_t size;
};

struct contender {
  const struct setting *setting;
  struct device device;
  struct bare *bare;            /* without a store */
  uint8_t *end;                 /* of the objects */
  struct object *objects;       /* by contents */
  uint32_t *contents;           /* by page */
  double bytes;
  double write_us[MAX_ROUNDS], read_us[MAX_ROUNDS];
};

static struct contender contenders[NR_SETTINGS];
static uint8_t scratch[BARE_BOUND], page_buffer[BENCH_PAGE];

/* ---- One page ------------------------------------------------------ */

static size_t
contents_in_round (const struct corpus *corpus, size_t page, unsigned round)
{
  return (page + round * 37 * NEIGHBOURS) % corpus->nr_pages;
}

static void
write_page (struct contender *c, const struct corpus *corpus,
            size_t page, size_t contents)
{
  struct object *o;
  const void *made;
  size_t size;

  if (!c->setting->plain) {
    device_write (&c->device, page, corpus_page (corpus, contents));
    return;
  }
  o = &c->objects[contents];
  made = bare_compress (c->bare, corpus_page (corpus, contents), scratch,
                        &size);
  if (!o->bytes) {
    o->bytes = c->end;
    o->size = size;
    c->end += size;
  }
  memcpy (o->bytes, made, size);
  c->contents[page] = contents;
}

static void
read_page (struct contender *c, size_t page)
{
  if (c->setting->plain) {
    const struct object *o = &c->objects[c->contents[page]];

    bare_decompress (c->bare, o->bytes, o->size, page_buffer);
  }
  else
    device_read (&c->device, page, page_buffer);
}

/* ---- All pages ----------------------------------------------------- */

static void
contender_open (struct contender *c, const struct setting *setting,
                size_t nr_pages)
{
  c->setting = setting;
  if (!setting->plain) {
    c->device = device_open (&setting->codec, &setting->recompress, nr_pages);
    return;
  }
  c->bare = bare_new (BARE_PLAIN, &setting->codec);
  c->objects = calloc (nr_pages, sizeof c->objects[0]);
  c->contents = calloc (nr_pages, sizeof c->contents[0]);
  if (!c->objects || !c->contents)
    err (EXIT_FAILURE, "calloc");
  c->end = small_pages (nr_pages * BENCH_PAGE);
}

/* Do what the background would do.  Returns the nanoseconds that idle
 * pages took.
 */
static uint64_t
settle (struct contender *c)
{
  uint64_t start;

  if (c->setting->plain)
    return 0;
  zram_memory_settle (c->device.memory);
  if (c->setting->recompress.group == 0)
    return 0;
  zram_mark_idle (c->device.store, 0);
  start = cpu_ns ();
  zram_memory_settle (c->device.memory);
  return cpu_ns () - start;
}

static double
bytes_per_page (const struct contender *c, size_t nr_pages)
{
  uint64_t bytes = 0;

  if (!c->setting->plain)
    return (double) device_resident (&c->device) / nr_pages;
  for (size_t i = 0; i < nr_pages; ++i)
    bytes += c->objects[i].size;
  return (double) bytes / nr_pages;
}

static void
fill (struct contender *c, const struct corpus *corpus,
      const uint32_t *order)
{
  for (size_t i = 0; i < corpus->nr_pages; ++i)
    write_page (c, corpus, order[i], order[i]);
  settle (c);
  c->bytes = bytes_per_page (c, corpus->nr_pages);
}

static uint64_t
write_chunk (struct contender *c, const struct corpus *corpus,
             const uint32_t *order, size_t n, unsigned round)
{
  uint64_t start = cpu_ns ();

  for (size_t i = 0; i < n; ++i)
    write_page (c, corpus, order[i],
                contents_in_round (corpus, order[i], round));
  return cpu_ns () - start;
}

static uint64_t
read_chunk (struct contender *c, const uint32_t *order, size_t n)
{
  uint64_t start = cpu_ns ();

  for (size_t i = 0; i < n; ++i)
    read_page (c, order[i]);
  return cpu_ns () - start;
}

static size_t
chunk_size (const struct corpus *corpus, size_t first)
{
  size_t n = corpus->nr_pages - first;

  return n < CHUNK ? n : CHUNK;
}

/* Overwrite, settle and read everything once.  Rounds count from 1. */
static void
run_round (const struct corpus *corpus, uint32_t *order, unsigned round)
{
  uint64_t writing[NR_SETTINGS] = { 0 }, reading[NR_SETTINGS] = { 0 };
  size_t n = corpus->nr_pages;

  random_order (order, n, round * 2);
  for (size_t i = 0; i < n; i += CHUNK)
    for (size_t s = 0; s < NR_SETTINGS; ++s)
      writing[s] += write_chunk (&contenders[s], corpus, order + i,
                                 chunk_size (corpus, i), round);
  for (size_t s = 0; s < NR_SETTINGS; ++s)
    writing[s] += settle (&contenders[s]);

  random_order (order, n, round * 2 + 1);
  for (size_t i = 0; i < n; i += CHUNK)
    for (size_t s = 0; s < NR_SETTINGS; ++s)
      reading[s] += read_chunk (&contenders[s], order + i,
                                chunk_size (corpus, i));
  for (size_t s = 0; s < NR_SETTINGS; ++s) {
    contenders[s].write_us[round-1] = (double) writing[s] / n / 1000;
    contenders[s].read_us[round-1] = (double) reading[s] / n / 1000;
  }
}

/* Is everything there that was written last? */
static void
verify (struct contender *c, const struct corpus *corpus, unsigned round)
{
  for (size_t i = 0; i < corpus->nr_pages; ++i) {
    size_t contents = contents_in_round (corpus, i, round);

    read_page (c, i);
    if (memcmp (page_buffer, corpus_page (corpus, contents), BENCH_PAGE) != 0)
      errx (EXIT_FAILURE, "%s: page %zu: wrong contents",
            c->setting->name, i);
  }
}

int
main (int argc, char *argv[])
{
  struct corpus corpus;
  size_t rounds;
  uint32_t *order;

  if (argc != 4) {
    fprintf (stderr, "usage: bench-frontier CORPUS PAGES ROUNDS\n");
    return EXIT_FAILURE;
  }
  rounds = parse_count ("ROUNDS", argv[3]);
  if (rounds > MAX_ROUNDS)
    errx (EXIT_FAILURE, "at most %d rounds", MAX_ROUNDS);
  corpus = corpus_load (argv[1], parse_count ("PAGES", argv[2]),
                        CORPUS_KEEP_SAME);
  corpus.nr_pages -= corpus.nr_pages % NEIGHBOURS;
  if (corpus.nr_pages == 0)
    errx (EXIT_FAILURE, "at least %d pages", NEIGHBOURS);
  order = small_pages (corpus.nr_pages * sizeof *order);
  printf ("pages count=%zu rounds=%zu\n", corpus.nr_pages, rounds);

  random_order (order, corpus.nr_pages, 0);
  for (size_t s = 0; s < NR_SETTINGS; ++s) {
    contender_open (&contenders[s], &settings[s], corpus.nr_pages);
    fill (&contenders[s], &corpus, order);
  }
  for (unsigned round = 1; round <= rounds; ++round)
    run_round (&corpus, order, round);
  for (size_t s = 0; s < NR_SETTINGS; ++s) {
    struct contender *c = &contenders[s];

    verify (c, &corpus, rounds);
    printf ("frontier name=%s bytes=%.1f write_us=%.3f read_us=%.3f\n",
            c->setting->name, c->bytes, median (c->write_us, rounds),
            median (c->read_us, rounds));
  }
  return EXIT_SUCCESS;
}
