/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* What a policy does with a trace.
 *
 * The trace (trace.h) is replayed to a store whose memory is limited to a
 * part of what the trace needs, and that has a tier in anonymous memory.
 * It is the real store, real compression and the real tier format; only
 * time is not: it is the time of the trace.  There are no background
 * threads: what they would do is done here, between two pages, whenever it
 * is due.  So a run gives the same result each time, however busy the machine
 * is.
 *
 * The contents of a page are different for each page and each time that it
 * is written, and are compared when it is read.  Compressed, they are as
 * long as those of real processes are: a few hundred bytes to two thousand
 * for most, and one page in ten does not compress.
 *
 * What counts is the hit rate: the part of the reads that need nothing from
 * the tier.  The last two lines are what policies do that nobody has to pay
 * for (reference.h), if each page takes the same room.
 */

#include <config.h>

#include <err.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/mman.h>

#include "bench.h"
#include "clock.h"
#include "memory.h"
#include "reference.h"
#include "store.h"
#include "trace.h"

#define PAGE ZRAM_PAGE_SIZE
#define MIB (UINT64_C (1) << 20)

/* The background thread works after so many pages. */
#define TICK_PAGES 1000

/* How long it takes to read or write a page, ns. */
#define PAGE_NS 1000000

/* The writeback thread begins when less than this part of the limit is free
 * and goes on until more than that is; on average the limit has this part
 * more than there are objects (see writeback.c).
 */
#define FREE_LOW 16
#define FREE_HIGH 8
#define FREE_MEAN (3. / 32)

/* A page is idle after so many seconds of the trace; a walk makes pages older
 * four times in that.
 */
#define IDLE_SECONDS 60

/* ---- Time ---------------------------------------------------------- */

/* Nanoseconds.  That nothing begins at 0 is on purpose. */
static uint64_t now = 1000 * CLOCK_SECOND;

/* The library asks this one, and not the C library's. */
int
clock_gettime (clockid_t clock, struct timespec *ts)
{
  (void) clock;
  *ts = (struct timespec) {
    .tv_sec = now / CLOCK_SECOND, .tv_nsec = now % CLOCK_SECOND,
  };
  return 0;
}

/* ---- Options ------------------------------------------------------- */

static struct options {
  bool policies[ZRAM_NR_POLICIES], any_policy;
  double share;                 /* of the memory that all would need */
  double tier;                  /* times that memory */
  double full;                  /* of the tier, alive at most; 0: any part */
  struct zram_codec codec;
  unsigned walks;               /* see usage */
  bool no_reference, verbose;
} options = {
  .share = 0.25, .tier = 4, .codec = { ZRAM_ALGORITHM_LZ4, 1 },
};

static void
usage (FILE *file)
{
  fputs ("\
Usage: replay [OPTION]... TRACE\n\
Replay a trace to a store that has not enough memory for it, and say how\n\
many reads need nothing from the tier.  TRACE may be -, standard input:\n\
\n\
  gzip -dc traces/swap-compile.gz | replay --share=25 -\n\
\n\
      --policy=NAME     lru, mfu or smq; several times: each (default: all)\n\
      --share=PERCENT   memory, of what the trace takes compressed (25)\n\
      --tier=PERCENT    size of the tier, of the same (400)\n\
      --full=PERCENT    make the tier so small that this part of it is alive\n\
                        when most is\n\
      --algorithm=NAME  lz4, lz4hc, zstd or none (lz4)\n\
      --walks=N         make pages older also when an Nth of what is in RAM\n\
                        was written or missed; 0: leave that to the library\n\
                        (0)\n\
      --no-reference    without true LRU and MIN\n\
      --verbose         say more, to standard error\n\
      --help\n\
\n\
A trace is text, a line for each request:\n\
\n\
  w PAGE [COUNT]        COUNT pages (1) of 4096 bytes are written\n\
  r PAGE [COUNT]        read\n\
  t PAGE [COUNT]        trimmed, or zeroed\n\
  s SECONDS             so much time passes\n\
  # comment\n\
\n\
make-traces makes some, trace-from-nbdkit-log others.\n\
", file);
}

static double
parse_percent (const char *what, const char *text)
{
  char *end;
  double value = strtod (text, &end);

  if (*text == '\0' || *end || !(value > 0 && value <= 100000))
    errx (EXIT_FAILURE, "--%s: not a percentage: '%s'", what, text);
  return value / 100;
}

static unsigned
parse_walks (const char *text)
{
  char *end;
  unsigned long n = strtoul (text, &end, 10);

  if (*text < '0' || *text > '9' || *end || n > 10000)
    errx (EXIT_FAILURE, "--walks: not a number up to 10000: '%s'", text);
  return n;
}

static void
add_policy (const char *name)
{
  enum zram_policy policy;

  if (!zram_policy_find (name, &policy))
    errx (EXIT_FAILURE, "--policy: there is no '%s'", name);
  options.policies[policy] = options.any_policy = true;
}

static void
set_algorithm (const char *name)
{
  int min, max;

  if (!zram_algorithm_find (name, &options.codec.algorithm))
    errx (EXIT_FAILURE, "--algorithm: there is no '%s'", name);
  zram_algorithm_levels (options.codec.algorithm, &min, &max,
                         &options.codec.level);
}

/* Returns the name of the trace. */
static const char *
parse_options (int argc, char **argv)
{
  static const struct option longs[] = {
    { "policy", required_argument, NULL, 'p' },
    { "share", required_argument, NULL, 's' },
    { "tier", required_argument, NULL, 't' },
    { "full", required_argument, NULL, 'f' },
    { "algorithm", required_argument, NULL, 'a' },
    { "walks", required_argument, NULL, 'w' },
    { "no-reference", no_argument, NULL, 'n' },
    { "verbose", no_argument, NULL, 'v' },
    { "help", no_argument, NULL, 'h' },
    { NULL },
  };
  int c;

  while ((c = getopt_long (argc, argv, "", longs, NULL)) != -1) {
    switch (c) {
    case 'p': add_policy (optarg); break;
    case 's': options.share = parse_percent ("share", optarg); break;
    case 't': options.tier = parse_percent ("tier", optarg); break;
    case 'f': options.full = parse_percent ("full", optarg); break;
    case 'a': set_algorithm (optarg); break;
    case 'w': options.walks = parse_walks (optarg); break;
    case 'n': options.no_reference = true; break;
    case 'v': options.verbose = true; break;
    case 'h': usage (stdout); exit (EXIT_SUCCESS);
    default: usage (stderr); exit (EXIT_FAILURE);
    }
  }
  if (optind != argc - 1) {
    usage (stderr);
    exit (EXIT_FAILURE);
  }
  return argv[optind];
}

/* ---- Contents of pages --------------------------------------------- */

/* How many bytes of a page do not compress, in the order of how often that
 * happens to pages of processes.
 */
static size_t
random_bytes (uint64_t *state)
{
  static const uint16_t bytes[16] = {
    150, 300, 450, 600, 750, 900, 1000, 1150, 1300, 1500, 1700, 1900, 2200,
    2600, PAGE, PAGE,
  };
  uint64_t r = random_next (state);
  size_t n = bytes[r % 16];

  return n < PAGE ? n + (r >> 32) % 100 : n;
}

/* The VERSIONth contents of a page; 0: it is a hole.  Pages keep the ratio
 * that they have, more or less.
 */
static void
make_page (void *data, uint32_t page, uint32_t version)
{
  uint64_t state = page * UINT64_C (0x9e3779b97f4a7c15), *words = data;
  size_t i, n = random_bytes (&state) / sizeof *words;

  state += (uint64_t) version << 40;
  for (i = 0; i < n; i++)
    words[i] = random_next (&state);
  for (; i < PAGE / sizeof *words; i++)
    words[i] = i % 16;
  if (version == 0)
    memset (data, 0, PAGE);
}

/* ---- A tier in memory ---------------------------------------------- */

struct storage {
  unsigned char *bytes;
  uint64_t size;
  uint64_t reads, bytes_written;
};

static int
storage_read (void *opaque, void *buf, size_t count, uint64_t offset)
{
  struct storage *s = opaque;

  memcpy (buf, s->bytes + offset, count);
  s->reads++;
  return 0;
}

static int
storage_write (void *opaque, const void *buf, size_t count, uint64_t offset)
{
  struct storage *s = opaque;

  memcpy (s->bytes + offset, buf, count);
  s->bytes_written += count;
  return 0;
}

static const struct zram_tier_ops storage_ops = {
  .read = storage_read,
  .write = storage_write,
};

/* ---- The machine --------------------------------------------------- */

struct machine {
  const struct trace *trace;
  struct zram_memory *memory;
  struct zram_store *store;
  struct storage storage;
  uint32_t *versions;           /* of each page; 0: a hole */
  uint32_t *last;               /* the last version that it had */
  unsigned char page[PAGE], wanted[PAGE];

  uint64_t minimum;             /* bytes that it takes when empty */
  uint64_t slot_tables;         /* bytes, at most */
  uint64_t pages, next_tick;
  uint64_t turnover;            /* pages, since the last walk */

  uint64_t misses, promoted;
  uint64_t most_alive;          /* bytes on the tier */

  /* What had gone to the tier when it was full for the first time. */
  uint64_t in_before, written_before;
  bool was_full;

  uint64_t walks;               /* that we asked for */
  uint64_t samples, sum_in_ram; /* pages */
};

static void
machine_open (struct machine *m, const struct trace *trace,
              enum zram_policy policy, uint64_t limit, uint64_t tier_size)
{
  struct zram_memory_config config = {
    .mem_limit = limit, .policy = policy, .contexts = 2,
    .recompress = { .codec = options.codec, .age = IDLE_SECONDS },
  };
  struct zram_tier tier = { &storage_ops, &m->storage, tier_size };

  *m = (struct machine) { .trace = trace };
  m->storage.size = tier_size;
  m->storage.bytes = small_pages (tier_size);
  m->versions = calloc (trace->nr_pages, sizeof *m->versions);
  m->last = calloc (trace->nr_pages, sizeof *m->last);
  if (m->versions == NULL || m->last == NULL)
    err (EXIT_FAILURE, "calloc");
  m->memory = zram_memory_create (&config);
  if (m->memory == NULL)
    err (EXIT_FAILURE, "zram_memory_create: limit of %" PRIu64, limit);
  if (zram_add_tier (m->memory, &tier) == -1)
    err (EXIT_FAILURE, "zram_add_tier: %" PRIu64 " bytes", tier_size);
  m->store = zram_open (m->memory, trace->nr_pages * PAGE, &options.codec);
  if (m->store == NULL)
    err (EXIT_FAILURE, "zram_open");
  m->minimum = limit_resident (&m->memory->limit);
}

static void
machine_close (struct machine *m)
{
  if (zram_memory_check (m->memory, stderr))
    errx (EXIT_FAILURE, "the validator has found faults");
  zram_close (m->store);
  zram_memory_destroy (m->memory);
  munmap (m->storage.bytes, m->storage.size);
  free (m->versions);
  free (m->last);
}

static uint64_t
on_tier (const struct machine *m)
{
  return stats_read (&m->store->stats, STATS_BD_COUNT);
}

static uint64_t
in_ram (const struct machine *m)
{
  uint64_t stored = stats_read (&m->store->stats, STATS_PAGES);
  uint64_t away = on_tier (m);

  return stored > away ? stored - away : 0;
}

/* ---- What threads would do ----------------------------------------- */

static bool
is_short (struct zram_memory *memory, unsigned part)
{
  uint64_t limit = memory->limit.max;
  uint64_t resident = limit_resident (&memory->limit);
  uint64_t spare = arena_unreserved (&memory->pool.arena);

  return limit && limit - (resident - spare) < limit / part;
}

/* Without a thread, who waits for writeback does a round himself. */
static void
write_back (struct machine *m)
{
  if (!is_short (m->memory, FREE_LOW))
    return;
  while (is_short (m->memory, FREE_HIGH)
         && writeback_wait (&m->memory->writeback))
    ;
}

/* Nothing is cleaned before a tier is full. */
static void
watch_tier (struct machine *m, const struct zram_tier_stats *tier)
{
  if (tier->bytes_live > m->most_alive)
    m->most_alive = tier->bytes_live;
  if (!m->was_full && tier->bytes_written >= m->storage.size) {
    m->in_before = tier->bytes_in;
    m->written_before = tier->bytes_written;
    m->was_full = true;
  }
}

/* The background thread.  What it takes off the tier comes back. */
static void
tick (struct machine *m)
{
  struct zram_memory_stats stats;
  uint64_t before = on_tier (m), after;

  zram_memory_settle (m->memory);
  after = on_tier (m);
  if (after < before)
    m->promoted += before - after;
  zram_memory_stats (m->memory, &stats);
  watch_tier (m, &stats.tiers[0]);
  if (stats.slot_table_size > m->slot_tables)
    m->slot_tables = stats.slot_table_size;
}

static void
walk (struct machine *m)
{
  m->store->aging.next = 0;
  m->turnover = 0;
  m->walks++;
  tick (m);
}

static void
after_page (struct machine *m)
{
  m->pages++;
  now += PAGE_NS;
  write_back (m);
  if (options.walks
      && m->turnover * options.walks > in_ram (m) + options.walks)
    walk (m);
  if (m->pages < m->next_tick)
    return;
  tick (m);
  m->next_tick = m->pages + TICK_PAGES;
  m->samples++;
  m->sum_in_ram += in_ram (m);
}

/* ---- Events -------------------------------------------------------- */

static void
compare_page (struct machine *m, uint32_t page)
{
  if (zram_read (m->store, m->page, PAGE, (uint64_t) page * PAGE) == -1)
    err (EXIT_FAILURE, "zram_read: page %" PRIu32, page);
  make_page (m->wanted, page, m->versions[page]);
  if (memcmp (m->page, m->wanted, PAGE) != 0)
    errx (EXIT_FAILURE, "page %" PRIu32 " has wrong contents", page);
}

static void
read_page (struct machine *m, uint32_t page)
{
  uint64_t reads = m->storage.reads, before = on_tier (m), after;

  compare_page (m, page);
  if (m->storage.reads == reads)
    return;
  m->misses++;
  m->turnover++;
  after = on_tier (m);
  if (after < before)
    m->promoted += before - after;
}

static void
write_page (struct machine *m, uint32_t page)
{
  m->versions[page] = ++m->last[page];
  make_page (m->page, page, m->versions[page]);
  if (zram_write (m->store, m->page, PAGE, (uint64_t) page * PAGE) == -1)
    err (EXIT_FAILURE, "zram_write: page %" PRIu32, page);
  m->turnover++;
}

static void
trim_page (struct machine *m, uint32_t page)
{
  m->versions[page] = 0;
  if (zram_trim (m->store, PAGE, (uint64_t) page * PAGE) == -1)
    err (EXIT_FAILURE, "zram_trim: page %" PRIu32, page);
}

static void
pass_time (struct machine *m, uint32_t n)
{
  const uint32_t step = IDLE_SECONDS / 4;

  for (; n; n -= n < step ? n : step) {
    now += (n < step ? n : step) * CLOCK_SECOND;
    tick (m);
  }
}

static void
play (struct machine *m)
{
  size_t i;

  for (i = 0; i < m->trace->nr; i++) {
    const struct event *e = &m->trace->events[i];

    switch ((enum event_kind) e->kind) {
    case EVENT_READ: read_page (m, e->page); break;
    case EVENT_WRITE: write_page (m, e->page); break;
    case EVENT_TRIM: trim_page (m, e->page); break;
    case EVENT_SECONDS: pass_time (m, e->page); continue;
    }
    after_page (m);
  }
  tick (m);
}

/* What is there at the end is what was written. */
static void
compare_all (struct machine *m)
{
  uint64_t page;

  for (page = 0; page < m->trace->nr_pages; page++)
    compare_page (m, page);
}

/* ---- Results ------------------------------------------------------- */

/* Memory that the trace takes where there is no limit. */
struct needs {
  uint64_t slot_tables, objects;
};

static struct needs
measure (const struct trace *trace)
{
  struct zram_memory_stats stats;
  struct needs needs;
  struct machine m;

  machine_open (&m, trace, ZRAM_POLICY_LRU, 0, 8 * MIB);
  play (&m);
  zram_memory_stats (m.memory, &stats);
  needs = (struct needs) { m.slot_tables, stats.mem_used_max };
  machine_close (&m);
  return needs;
}

static void
print_row (const struct trace *trace, const char *name, uint64_t misses,
           uint64_t promoted)
{
  double reads = trace->reads ? trace->reads : 1;

  printf ("%-9s %8.4f %9" PRIu64 " %9" PRIu64, name, 1 - misses / reads,
          misses, promoted);
}

/* What it takes when empty, with a tier of that size. */
static uint64_t
minimum (const struct trace *trace, enum zram_policy policy, uint64_t tier)
{
  struct machine m;

  machine_open (&m, trace, policy, 0, tier);
  machine_close (&m);
  return m.minimum;
}

/* The size of the tier of which so much is alive when most is. */
static uint64_t
full_tier (const struct trace *trace, enum zram_policy policy, uint64_t limit,
           uint64_t large)
{
  uint64_t size;
  struct machine m;

  machine_open (&m, trace, policy, limit, large);
  play (&m);
  size = m.most_alive / options.full;
  machine_close (&m);
  return size;
}

/* Bytes written to the tier, beside those that left RAM. */
static double
amplification (const struct machine *m)
{
  struct zram_memory_stats stats;
  const struct zram_tier_stats *tier = &stats.tiers[0];

  zram_memory_stats (m->memory, &stats);
  if (tier->bytes_in == m->in_before)
    return 0;
  return (tier->bytes_written - m->written_before)
    / (double) (tier->bytes_in - m->in_before);
}

static void
replay (const struct trace *trace, const struct needs *needs,
        enum zram_policy policy)
{
  uint64_t tier = needs->objects * options.tier / MIB * MIB + 4 * MIB;
  uint64_t limit = (minimum (trace, policy, tier) + needs->slot_tables
                    + needs->objects * options.share) / (1 - FREE_MEAN);
  struct machine m;

  if (options.full)
    tier = full_tier (trace, policy, limit, tier);
  machine_open (&m, trace, policy, limit, tier);
  play (&m);
  print_row (trace, zram_policy_name (policy), m.misses, m.promoted);
  printf (" %9.1f %7.2f %9.0f %9" PRIu64 "\n",
          m.storage.bytes_written / (double) MIB, amplification (&m),
          m.samples ? m.sum_in_ram / (double) m.samples : 0, m.walks);
  fflush (stdout);
  if (options.verbose)
    fprintf (stderr, "%s: limit %.1f MiB, tier %.0f MiB\n",
             zram_policy_name (policy), limit / (double) MIB,
             tier / (double) MIB);
  compare_all (&m);
  machine_close (&m);
}

/* Pages in RAM, if all were of one size. */
static uint64_t
capacity_of (const struct trace *trace)
{
  uint64_t pages = trace->peak * options.share;

  return pages ? pages : 1;
}

static void
print_reference (const struct trace *trace, const char *name,
                 struct reference r)
{
  print_row (trace, name, r.misses, r.inserted);
  printf (" %9s %7s %9" PRIu64 " %9s\n", "-", "-", capacity_of (trace), "-");
}

int
main (int argc, char **argv)
{
  struct trace trace = trace_load (parse_options (argc, argv));
  struct needs needs = measure (&trace);
  enum zram_policy policy;

  printf ("# %" PRIu64 " reads, %" PRIu64 " writes of pages; at most %" PRIu64
          " stored, in %.1f MiB; RAM for %.0f %%\n",
          trace.reads, trace.writes, trace.peak, needs.objects / (double) MIB,
          options.share * 100);
  printf ("%-9s %8s %9s %9s %9s %7s %9s %9s\n", "policy", "hit-rate",
          "misses", "promoted", "tier-MiB", "amplif", "in-RAM", "walks");
  for (policy = 0; policy < ZRAM_NR_POLICIES; policy++)
    if (options.policies[policy] || !options.any_policy)
      replay (&trace, &needs, policy);
  if (!options.no_reference) {
    uint64_t capacity = capacity_of (&trace);

    print_reference (&trace, "true-lru", reference_lru (&trace, capacity));
    print_reference (&trace, "min", reference_min (&trace, capacity));
  }
  trace_free (&trace);
  return EXIT_SUCCESS;
}
