/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* What do requests lose while idle pages are regrouped?
 *
 * Two stores with the same pages, settled, with their background threads
 * running; in one of them idle pages are regrouped, in the other not.  In
 * each round all pages are made idle, and then some threads read (or
 * overwrite) the first pages, again and again in random order, while the
 * rest waits to be regrouped.  The stores take turns in slices of some
 * milliseconds, so that whatever else the machine does meets both; the one
 * that has no turn is stopped (zram_memory_stop).  What is printed is the
 * ratio of requests per second that pass with regrouping and without.
 *
 * Background is the part of the process's time that the background thread
 * took: where requests keep all processors busy, that is what they lose, and
 * other load on the machine hardly changes it.
 *
 * In the end it is said how many pages were regrouped meanwhile: the ratio
 * means nothing if there were none.
 */

#include <config.h>

#include <stdio.h>
#include <stdlib.h>
#include <stdint.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdatomic.h>
#include <string.h>
#include <err.h>
#include <errno.h>
#include <time.h>
#include <pthread.h>

#include "zram.h"

#include "bench.h"
#include "device.h"

#define MAX_THREADS 2
#define MAX_ROUNDS 99
#define HOT_PART 16             /* the pages that are used, of all */
#define SLICE_NS 300000000
#define SLICES 4                /* of each, in a round */

enum way { OFF, ON };

struct load {
  const struct corpus *corpus;
  const struct device *device;
  bool write;
  unsigned seed;
  uint64_t end;
  uint64_t done;
  uint64_t cpu;                 /* that it took */
};

/* Processor time in the slices with regrouping. */
struct cpu {
  uint64_t requests, all;
};

static uint64_t
process_ns (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_PROCESS_CPUTIME_ID, &ts);
  return (uint64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void *
run_load (void *opaque)
{
  struct load *l = opaque;
  size_t hot = l->corpus->nr_pages / HOT_PART;
  uint64_t state = l->seed;
  uint8_t page[BENCH_PAGE];

  for (l->done = 0; now_ns () < l->end; l->done++) {
    size_t n = random_next (&state) % hot;

    if (l->write)
      device_write (l->device, n,
                    corpus_page (l->corpus, random_next (&state) % hot));
    else
      device_read (l->device, n, page);
  }
  l->cpu = cpu_ns ();
  return NULL;
}

/* Requests in one slice, by all threads. */
static uint64_t
run_slice (const struct corpus *corpus, const struct device *device,
           bool write, unsigned nr_threads, unsigned seed, struct cpu *cpu)
{
  uint64_t start = process_ns ();
  struct load loads[MAX_THREADS];
  pthread_t threads[MAX_THREADS];
  uint64_t sum = 0;

  if (zram_memory_start (device->memory) == -1)
    err (EXIT_FAILURE, "zram_memory_start");
  for (unsigned t = 0; t < nr_threads; ++t) {
    loads[t] = (struct load) {
      .corpus = corpus, .device = device, .write = write,
      .seed = seed * MAX_THREADS + t, .end = now_ns () + SLICE_NS,
    };
    errno = pthread_create (&threads[t], NULL, run_load, &loads[t]);
    if (errno)
      err (EXIT_FAILURE, "pthread_create");
  }
  for (unsigned t = 0; t < nr_threads; ++t) {
    pthread_join (threads[t], NULL);
    sum += loads[t].done;
    cpu->requests += loads[t].cpu;
  }
  zram_memory_stop (device->memory);
  cpu->all += process_ns () - start;
  return sum;
}

static uint64_t
nr_grouped (const struct device *d)
{
  struct zram_store_stats s;

  zram_store_stats (d->store, &s);
  return s.grouped_pages;
}

/* Give all pages their contents again, which ends all groups. */
static void
fill (const struct corpus *corpus, const struct device *d)
{
  for (size_t i = 0; i < corpus->nr_pages; ++i)
    device_write (d, i, corpus_page (corpus, i));
}

static double
run_round (const struct corpus *corpus, const struct device *devices,
           bool write, unsigned nr_threads, unsigned round,
           uint64_t *regrouped, struct cpu *cpu)
{
  uint64_t done[2] = { 0 };
  struct cpu cpus[2] = { { 0, 0 } };

  for (enum way way = OFF; way <= ON; ++way) {
    fill (corpus, &devices[way]);
    zram_memory_settle (devices[way].memory);
    zram_mark_idle (devices[way].store, 0);
  }
  for (unsigned slice = 0; slice < 2 * SLICES; ++slice) {
    enum way way = (slice + slice / 2 + round) % 2;

    done[way] += run_slice (corpus, &devices[way], write, nr_threads,
                            round * SLICES + slice / 2 + 1, &cpus[way]);
  }
  *regrouped += nr_grouped (&devices[ON]);
  cpu->requests += cpus[ON].requests;
  cpu->all += cpus[ON].all;
  return done[ON] / (double) done[OFF];
}

static void
report (const struct corpus *corpus, const struct device *devices,
        bool write, unsigned nr_threads, unsigned rounds)
{
  double ratios[MAX_ROUNDS], middle;
  uint64_t regrouped = 0;
  struct cpu cpu = { 0, 0 };

  for (unsigned i = 0; i < rounds; ++i)
    ratios[i] = run_round (corpus, devices, write, nr_threads, i, &regrouped,
                           &cpu);
  middle = median (ratios, rounds);
  printf ("regroup operation=%s threads=%u ratio=%.3f ratio_min=%.3f "
          "ratio_max=%.3f background=%.4f regrouped=%" PRIu64 "\n",
          write ? "write" : "read", nr_threads, middle, ratios[0],
          ratios[rounds - 1], 1 - cpu.requests / (double) cpu.all,
          regrouped / rounds);
  fflush (stdout);
}

int
main (int argc, char *argv[])
{
  static const struct zram_codec codec = {
    .algorithm = ZRAM_ALGORITHM_ZSTD, .level = 1,
  };
  struct device devices[2];
  struct corpus corpus;
  size_t rounds;

  if (argc != 4) {
    fprintf (stderr, "usage: bench-regroup CORPUS PAGES ROUNDS\n");
    return EXIT_FAILURE;
  }
  corpus = corpus_load (argv[1], parse_count ("PAGES", argv[2]),
                        CORPUS_DROP_SAME);
  rounds = parse_count ("ROUNDS", argv[3]);
  if (rounds > MAX_ROUNDS)
    errx (EXIT_FAILURE, "at most %d rounds", MAX_ROUNDS);
  for (enum way way = OFF; way <= ON; ++way) {
    devices[way] = device_open (&codec,
                                way == ON ? &default_recompress : NULL,
                                corpus.nr_pages);
    fill (&corpus, &devices[way]);
    zram_memory_settle (devices[way].memory);
  }
  for (unsigned threads = 1; threads <= MAX_THREADS; ++threads) {
    report (&corpus, devices, false, threads, rounds);
    report (&corpus, devices, true, threads, rounds);
  }
  device_close (&devices[OFF]);
  device_close (&devices[ON]);
  return EXIT_SUCCESS;
}
