/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* What does the store cost on top of the compression?
 *
 * Three ways to keep the same pages in memory are timed side by side:
 *
 *   plain  the functions of the compression library that anybody would
 *          call (LZ4_compress_default, ZSTD_compressCCtx), the result
 *          copied to its place
 *   bare   the same with the calls that the store makes
 *   store  zram_write and zram_read
 *
 * The first two have no allocator: an object's place is known before,
 * in one piece of memory as dense as can be, and an index says for
 * every page where its object is.  That is the least any store could
 * do, so store / bare is what slots, locks, allocation and counters
 * cost.
 *
 * Nobody writes pages in order, and code that is measured in a cache
 * says nothing about gigabytes.  So pages are written and read in random
 * order (a new one for every phase), in all three ways in the same one.
 * Same-filled pages are left out, they never reach a codec.  There are
 * three phases:
 *
 *   fill       every page is written once, into memory that the kernel
 *              has yet to give: page faults are part of it
 *   overwrite  every page gets the contents of another one.  (Without a
 *              store it is copied over the bytes which that other page
 *              had, which are the same: the places stay dense, and what
 *              they cost does not depend on luck.)
 *   read       every page is read
 *
 * The machine may be busy with other things.  So the three ways take
 * turns, chunk by chunk, a few milliseconds each, and the first becomes
 * the last with every chunk; a chunk runs on all threads and ends when
 * the last of them is done.  A round is everything from empty memory;
 * the figures are medians over the rounds, of ratios within a round.
 * With one thread, what a page costs is the processor time of that thread,
 * whatever else the machine does; with more, and for the gain from a
 * second one, it is time that passes.
 *
 * "settled" is another contest: the store as users get it who set
 * nothing, after it has adopted a dictionary of what was filled in,
 * beside plain lz4, and plain zstd in the place of "bare".
 */

#include <config.h>

#include <stdio.h>
#include <stdlib.h>
#include <stdint.h>
#include <stdbool.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>
#include <err.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

#include <lz4.h>
#include <zstd.h>

#include "zram.h"

#include "bare.h"
#include "bench.h"
#include "device.h"

#define MAX_THREADS 2
#define MAX_ROUNDS 99

/* Pages in a chunk.  Reading is faster, so its chunks are larger. */
#define CHUNK_WRITE 4096
#define CHUNK_READ 8192

enum way { PLAIN, BARE, STORE };
#define NR_WAYS 3

enum phase { FILL, OVERWRITE, READ };
#define NR_PHASES 3

static const char *const phase_names[NR_PHASES] = {
  [FILL] = "fill", [OVERWRITE] = "overwrite", [READ] = "read",
};

/* Where an object is: offset * 8192 + size. */
typedef uint64_t place;

/* Pages without a store. */
struct area {
  uint8_t *memory;
  place *place;                 /* of the object with these contents */
  place *index;                 /* of the page's object */
};

/* What is compared. */
struct contest {
  struct zram_codec plain, bare, store;
  enum bare_kind bare_kind;
  bool settled;                 /* the store has adopted a dictionary */
};

/* What one thread has to itself. */
struct worker {
  struct round *round;
  unsigned number;
  pthread_t thread;
  struct bare *bare[STORE];     /* for PLAIN and BARE */
  uint64_t end[STORE];          /* of this thread's part of the area */
  uint8_t scratch[BARE_BOUND];
  uint8_t page[BENCH_PAGE];
};

/* Everything from empty memory, with a number of threads. */
struct round {
  const struct corpus *corpus;
  const struct contest *contest;
  unsigned nr_threads;
  struct worker worker[MAX_THREADS];
  struct area area[STORE];
  struct device device;
  uint32_t *order;

  /* The chunk that is running. */
  enum way way;
  enum phase phase;
  size_t first, last;
  bool stop;

  /* Barrier: who is there, and how often all were. */
  atomic_uint arrived, generation;
};

/* Nanoseconds per page. */
struct result {
  double ns[NR_WAYS][NR_PHASES];        /* that passed */
  double cost[NR_WAYS][NR_PHASES];      /* see above */
  unsigned dictionary;          /* the store has one */
};

/* ---- One page ------------------------------------------------------ */

/* Which page's original contents a page has in the end. */
static size_t
contents_after (const struct round *r, size_t page)
{
  return (page + r->corpus->nr_pages / 2) % r->corpus->nr_pages;
}

static void
area_write (struct worker *w, enum way way, enum phase phase,
            size_t page, size_t contents)
{
  struct area *a = &w->round->area[way];
  size_t size;
  const void *object
    = bare_compress (w->bare[way], corpus_page (w->round->corpus, contents),
                     w->scratch, &size);

  if (phase == FILL) {
    a->place[contents] = w->end[way] * 8192 + size;
    w->end[way] += size;
  }
  memcpy (a->memory + a->place[contents] / 8192, object, size);
  a->index[page] = a->place[contents];
}

static void
area_read (struct worker *w, enum way way, size_t page)
{
  struct area *a = &w->round->area[way];

  bare_decompress (w->bare[way], a->memory + a->index[page] / 8192,
                   a->index[page] % 8192, w->page);
}

/* ---- One chunk ----------------------------------------------------- */

static void
write_part (struct worker *w, size_t first, size_t last)
{
  struct round *r = w->round;

  for (size_t i = first; i < last; ++i) {
    size_t page = r->order[i];
    size_t contents = r->phase == FILL ? page : contents_after (r, page);

    if (r->way == STORE)
      device_write (&r->device, page, corpus_page (r->corpus, contents));
    else
      area_write (w, r->way, r->phase, page, contents);
  }
}

static void
read_part (struct worker *w, size_t first, size_t last)
{
  struct round *r = w->round;

  for (size_t i = first; i < last; ++i) {
    if (r->way == STORE)
      device_read (&r->device, r->order[i], w->page);
    else
      area_read (w, r->way, r->order[i]);
  }
}

/* A thread's part of the chunk. */
static void
do_part (struct worker *w)
{
  struct round *r = w->round;
  size_t n = r->last - r->first;
  size_t first = r->first + n * w->number / r->nr_threads;
  size_t last = r->first + n * (w->number + 1) / r->nr_threads;

  if (r->phase == READ)
    read_part (w, first, last);
  else
    write_part (w, first, last);
}

/* Wait for all threads.  A thread that slept would take long to wake,
 * compared with a chunk, so nobody does.
 */
static void
meet (struct round *r)
{
  unsigned generation = atomic_load (&r->generation);
  unsigned spins = 0;

  if (atomic_fetch_add (&r->arrived, 1) + 1 == r->nr_threads) {
    atomic_store (&r->arrived, 0);
    atomic_fetch_add (&r->generation, 1);
    return;
  }
  while (atomic_load (&r->generation) == generation)
    if (++spins > 10000)
      sched_yield ();
}

static void *
helper (void *wp)
{
  struct worker *w = wp;

  for (;;) {
    meet (w->round);
    if (w->round->stop)
      return NULL;
    do_part (w);
    meet (w->round);
  }
}

/* Returns the time that passed, and adds to *CPU what this thread took. */
static uint64_t
run_chunk (struct round *r, enum way way, enum phase phase,
           size_t first, size_t last, uint64_t *cpu)
{
  uint64_t start, cpu_start;

  r->way = way;
  r->phase = phase;
  r->first = first;
  r->last = last;
  meet (r);
  start = now_ns ();
  cpu_start = cpu_ns ();
  do_part (&r->worker[0]);
  *cpu += cpu_ns () - cpu_start;
  meet (r);
  return now_ns () - start;
}

/* ---- One round ----------------------------------------------------- */

static void
area_open (struct area *a, size_t nr_pages)
{
  a->memory = small_pages (nr_pages * BENCH_PAGE);
  a->place = calloc (nr_pages, sizeof *a->place);
  a->index = calloc (nr_pages, sizeof *a->index);
  if (!a->place || !a->index)
    err (EXIT_FAILURE, "calloc");
  /* Small and not what we measure. */
  memset (a->place, 0xff, nr_pages * sizeof *a->place);
  memset (a->index, 0xff, nr_pages * sizeof *a->index);
}

static void
area_close (struct area *a, size_t nr_pages)
{
  munmap (a->memory, nr_pages * BENCH_PAGE);
  free (a->place);
  free (a->index);
}

static void
start_background (struct round *r)
{
  if (zram_memory_start (r->device.memory) == -1)
    err (EXIT_FAILURE, "zram_memory_start");
}

static void
worker_start (struct round *r, unsigned number)
{
  struct worker *w = &r->worker[number];
  size_t nr_pages = r->corpus->nr_pages;
  int e;

  w->round = r;
  w->number = number;
  w->bare[PLAIN] = bare_new (BARE_PLAIN, &r->contest->plain);
  w->bare[BARE] = bare_new (r->contest->bare_kind, &r->contest->bare);
  for (enum way way = PLAIN; way < STORE; ++way)
    w->end[way] = (uint64_t) nr_pages * number / r->nr_threads * BENCH_PAGE;
  /* The caller is the first worker. */
  if (number > 0 &&
      (e = pthread_create (&w->thread, NULL, helper, w)) != 0) {
    errno = e;
    err (EXIT_FAILURE, "pthread_create");
  }
}

static void
workers_stop (struct round *r)
{
  r->stop = true;
  meet (r);
  for (unsigned t = 0; t < r->nr_threads; ++t) {
    if (t > 0)
      pthread_join (r->worker[t].thread, NULL);
    bare_free (r->worker[t].bare[PLAIN]);
    bare_free (r->worker[t].bare[BARE]);
  }
}

/* Nanoseconds per page in each of the ways. */
static void
run_phase (struct round *r, enum phase phase, uint64_t seed,
           struct result *result)
{
  size_t n = r->corpus->nr_pages;
  size_t chunk = phase == READ ? CHUNK_READ : CHUNK_WRITE;
  uint64_t ns[NR_WAYS] = { 0 }, cpu[NR_WAYS] = { 0 };
  unsigned turn = seed;

  random_order (r->order, n, seed);
  for (size_t first = 0; first < n; first += chunk, ++turn) {
    size_t last = first + chunk < n ? first + chunk : n;

    for (unsigned i = 0; i < NR_WAYS; ++i) {
      enum way way = (turn + i) % NR_WAYS;

      ns[way] += run_chunk (r, way, phase, first, last, &cpu[way]);
    }
  }
  for (enum way way = 0; way < NR_WAYS; ++way) {
    result->ns[way][phase] = (double) ns[way] / n;
    result->cost[way][phase]
      = r->nr_threads == 1 ? (double) cpu[way] / n : result->ns[way][phase];
  }
}

/* Is everything there that was written? */
static void
verify (struct round *r)
{
  struct worker *w = &r->worker[0];

  for (size_t page = 0; page < r->corpus->nr_pages; ++page) {
    const uint8_t *expected = corpus_page (r->corpus,
                                           contents_after (r, page));

    for (enum way way = 0; way < NR_WAYS; ++way) {
      if (way == STORE)
        device_read (&r->device, page, w->page);
      else
        area_read (w, way, page);
      if (memcmp (w->page, expected, BENCH_PAGE) != 0)
        errx (EXIT_FAILURE, "page %zu: wrong contents", page);
    }
  }
}

static bool
has_dictionary (struct zram_store *store)
{
  struct zram_store_stats stats;

  zram_store_stats (store, &stats);
  return stats.dictionary_generation > 0;
}

static void
run_round (const struct corpus *corpus, const struct contest *contest,
           unsigned nr_threads, uint64_t seed, struct result *result)
{
  static struct round round;
  struct round *r = &round;

  memset (r, 0, sizeof *r);
  r->corpus = corpus;
  r->contest = contest;
  r->nr_threads = nr_threads;
  r->order = calloc (corpus->nr_pages, sizeof *r->order);
  if (!r->order)
    err (EXIT_FAILURE, "calloc");
  area_open (&r->area[PLAIN], corpus->nr_pages);
  area_open (&r->area[BARE], corpus->nr_pages);
  r->device = device_open (&contest->store, &default_recompress,
                           corpus->nr_pages);
  if (!contest->settled)
    start_background (r);
  for (unsigned t = 0; t < nr_threads; ++t)
    worker_start (r, t);

  for (enum phase phase = 0; phase < NR_PHASES; ++phase) {
    run_phase (r, phase, seed * NR_PHASES + phase, result);
    if (phase == FILL && contest->settled) {
      zram_memory_settle (r->device.memory);
      result->dictionary = has_dictionary (r->device.store);
      start_background (r);
    }
  }
  if (seed == 0)
    verify (r);

  workers_stop (r);
  device_close (&r->device);
  area_close (&r->area[PLAIN], corpus->nr_pages);
  area_close (&r->area[BARE], corpus->nr_pages);
  free (r->order);
}

/* ---- Report -------------------------------------------------------- */

static double
median_us (struct result (*results)[MAX_THREADS], unsigned rounds,
           unsigned t, enum way way, enum phase phase)
{
  double values[MAX_ROUNDS];

  for (unsigned i = 0; i < rounds; ++i)
    values[i] = results[i][t].cost[way][phase] / 1000;
  return median (values, rounds);
}

static void
print_cost (struct result (*results)[MAX_THREADS], unsigned rounds,
            unsigned t, enum phase phase, const char *algorithm)
{
  double ratios[MAX_ROUNDS], middle;

  for (unsigned i = 0; i < rounds; ++i) {
    const struct result *x = &results[i][t];

    ratios[i] = x->cost[STORE][phase] / x->cost[BARE][phase];
  }
  middle = median (ratios, rounds);     /* sorts them, too */
  printf ("cost algorithm=%s threads=%u phase=%s plain_us=%.3f bare_us=%.3f "
          "store_us=%.3f ratio=%.3f ratio_min=%.3f ratio_max=%.3f\n",
          algorithm, t + 1, phase_names[phase],
          median_us (results, rounds, t, PLAIN, phase),
          median_us (results, rounds, t, BARE, phase),
          median_us (results, rounds, t, STORE, phase),
          middle, ratios[0], ratios[rounds-1]);
}

/* How much faster with the second thread? */
static double
gain (const struct result *x, enum way way, enum phase phase)
{
  return x[0].ns[way][phase] / x[1].ns[way][phase];
}

static void
print_gain (struct result (*results)[MAX_THREADS], unsigned rounds,
            enum phase phase, const char *algorithm)
{
  double bare[MAX_ROUNDS], store[MAX_ROUNDS], ratios[MAX_ROUNDS];

  for (unsigned i = 0; i < rounds; ++i) {
    bare[i] = gain (results[i], BARE, phase);
    store[i] = gain (results[i], STORE, phase);
    ratios[i] = store[i] / bare[i];
  }
  printf ("gain algorithm=%s phase=%s bare=%.3f store=%.3f ratio=%.3f\n",
          algorithm, phase_names[phase], median (bare, rounds),
          median (store, rounds), median (ratios, rounds));
}

/* Time per page, and how often that of others. */
static void
print_settled (struct result (*results)[MAX_THREADS], unsigned rounds,
               unsigned t, enum phase phase)
{
  double ratios[MAX_ROUNDS], middle;

  for (unsigned i = 0; i < rounds; ++i) {
    const struct result *x = &results[i][t];

    ratios[i] = x->cost[STORE][phase] / x->cost[PLAIN][phase];
  }
  middle = median (ratios, rounds);
  printf ("settled threads=%u phase=%s dictionary=%u lz4_us=%.3f zstd_us=%.3f "
          "store_us=%.3f ratio=%.3f ratio_min=%.3f ratio_max=%.3f\n",
          t + 1, phase_names[phase], results[0][t].dictionary,
          median_us (results, rounds, t, PLAIN, phase),
          median_us (results, rounds, t, BARE, phase),
          median_us (results, rounds, t, STORE, phase),
          middle, ratios[0], ratios[rounds-1]);
}

static struct result results[MAX_ROUNDS][MAX_THREADS];

static void
run_contest (const struct corpus *corpus, const struct contest *contest,
             unsigned rounds)
{
  for (unsigned i = 0; i < rounds; ++i)
    for (unsigned t = 0; t < MAX_THREADS; ++t)
      run_round (corpus, contest, t + 1, i, &results[i][t]);
}

/* The same codec in all three ways. */
static void
bench_algorithm (const struct corpus *corpus, const char *name,
                 unsigned rounds)
{
  /* The bare codec has no dictionary, so the store must not have one. */
  struct zram_codec codec = { .level = 1, .no_dictionary = true };
  struct contest contest = { .bare_kind = BARE_CODEC };

  if (!zram_algorithm_find (name, &codec.algorithm))
    errx (EXIT_FAILURE, "%s: no such algorithm", name);
  contest.plain = contest.bare = contest.store = codec;
  run_contest (corpus, &contest, rounds);

  for (unsigned t = 0; t < MAX_THREADS; ++t)
    for (enum phase phase = 0; phase < NR_PHASES; ++phase)
      print_cost (results, rounds, t, phase, name);
  for (enum phase phase = 0; phase < NR_PHASES; ++phase)
    print_gain (results, rounds, phase, name);
}

/* What users get who set nothing, beside the plain libraries. */
static void
bench_settled (const struct corpus *corpus, unsigned rounds)
{
  static const struct contest contest = {
    .plain = { .algorithm = ZRAM_ALGORITHM_LZ4, .level = 1 },
    .bare = { .algorithm = ZRAM_ALGORITHM_ZSTD, .level = 1 },
    .bare_kind = BARE_PLAIN,
    .store = { .algorithm = ZRAM_ALGORITHM_ZSTD, .level = 1 },
    .settled = true,
  };

  run_contest (corpus, &contest, rounds);
  for (unsigned t = 0; t < MAX_THREADS; ++t) {
    print_settled (results, rounds, t, OVERWRITE);
    print_settled (results, rounds, t, READ);
  }
}

int
main (int argc, char *argv[])
{
  struct corpus corpus;
  size_t pages, rounds;

  if (argc == 2 && strcmp (argv[1], "--version") == 0) {
    printf ("lz4 %s, zstd %s\n", LZ4_versionString (),
            ZSTD_versionString ());
    return EXIT_SUCCESS;
  }
  if (argc < 5) {
    fprintf (stderr, "usage: bench-store CORPUS PAGES ROUNDS "
             "ALGORITHM|settled ...\n"
             "       bench-store --version\n");
    return EXIT_FAILURE;
  }
  pages = parse_count ("PAGES", argv[2]);
  rounds = parse_count ("ROUNDS", argv[3]);
  if (rounds > MAX_ROUNDS)
    errx (EXIT_FAILURE, "at most %d rounds", MAX_ROUNDS);

  corpus = corpus_load (argv[1], pages, CORPUS_DROP_SAME);
  printf ("pages count=%zu rounds=%zu\n", corpus.nr_pages, rounds);
  for (int i = 4; i < argc; ++i)
    if (strcmp (argv[i], "settled") == 0)
      bench_settled (&corpus, rounds);
    else
      bench_algorithm (&corpus, argv[i], rounds);
  return EXIT_SUCCESS;
}
