/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Fill more memory than there is, and look at every byte again.
 *
 *     pressure [OPTION]... MIB
 *
 * What a page holds follows from the seed, its number, and how often it
 * was written: a head that says so, noise, and one word over and over.
 * The share of noise sets how far pages compress.  To check a page, what
 * it should hold is made once more and compared, all of it; the head of a
 * page that is wrong tells a lost write (an older version) from a page in
 * the wrong place (another number) and from garbage.
 *
 * A round visits every page once, in one of several orders, since swap
 * reads ahead and allocates differently for each:
 *
 *     0  up, rewriting every page
 *     1  at random, rewriting every page
 *     2  at random, rewriting every fourth: the others stay as they are
 *        on the swap device
 *     3  down, rewriting every page
 *     4  up, only reading
 *
 * With --bursts it is the neighbour that makes trouble: it allocates,
 * fills, checks and frees, over and over, in amounts of up to MIB.
 */

#include <config.h>

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define WORDS (PAGE / sizeof (uint64_t))

/* More wrong pages than this are only counted. */
#define REPORTED 20

enum { HEAD_PAGE, HEAD_VERSION, HEAD_SEED, HEAD_WORDS };

static uint64_t seed = 1;
static unsigned ratio = 4;
static uint64_t errors;
static uint64_t written;
static volatile sig_atomic_t stop;

struct area {
  uint64_t (*page)[WORDS];
  uint32_t *version;            /* of each page: how often written */
  uint64_t count;
};

static void
on_signal (int signal)
{
  (void) signal;
  stop = 1;
}

static double
now (void)
{
  struct timespec t;

  clock_gettime (CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static uint64_t
next_random (uint64_t *state)
{
  uint64_t x = *state += 0x9e3779b97f4a7c15;

  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

/* ---- Pages ------------------------------------------------------------ */

static void
page_make (uint64_t *out, uint64_t number, uint32_t version)
{
  uint64_t state = seed ^ (number << 32) ^ version;
  size_t noise = WORDS / ratio;
  size_t i;

  if (noise < HEAD_WORDS)
    noise = HEAD_WORDS;
  out[HEAD_PAGE] = number;
  out[HEAD_VERSION] = version;
  out[HEAD_SEED] = seed;
  for (i = HEAD_WORDS; i < noise; i++)
    out[i] = next_random (&state);
  for (; i < WORDS; i++)
    out[i] = 0x0101010101010101 * (number & 0xff);
}

static void
page_write (const struct area *area, uint64_t i)
{
  page_make (area->page[i], i, ++area->version[i]);
  written++;
}

static void
page_check (const struct area *area, uint64_t i)
{
  uint64_t expected[WORDS];
  const uint64_t *page = area->page[i];

  page_make (expected, i, area->version[i]);
  if (memcmp (page, expected, PAGE) == 0)
    return;
  if (errors++ < REPORTED)
    printf ("pressure: page %" PRIu64 " version %" PRIu32 " is wrong: its "
            "head says page %" PRIu64 " version %" PRIu64 " seed %" PRIu64
            "\n", i, area->version[i], page[HEAD_PAGE], page[HEAD_VERSION],
            page[HEAD_SEED]);
}

/* ---- Areas ------------------------------------------------------------ */

static void *
map (size_t bytes)
{
  void *r = mmap (NULL, bytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

  if (r == MAP_FAILED) {
    perror ("pressure: mmap");
    exit (2);
  }
  return r;
}

static void
area_map (struct area *area, uint64_t mib)
{
  area->count = mib * 1048576 / PAGE;
  area->page = map (area->count * PAGE);
  area->version = map (area->count * sizeof *area->version);
}

static void
area_unmap (struct area *area)
{
  munmap (area->page, area->count * PAGE);
  munmap (area->version, area->count * sizeof *area->version);
}

/* Let a share of the pages go, at random: what they held on the swap
 * device is dead then, in the midst of what is not.
 */
static void
area_thin_out (struct area *area, unsigned percent)
{
  uint64_t state = seed + 7;
  uint64_t i;

  for (i = 0; i < area->count; i++) {
    if (next_random (&state) % 100 >= percent)
      continue;
    if (madvise (area->page[i], PAGE, MADV_DONTNEED) == -1) {
      perror ("pressure: madvise");
      exit (2);
    }
    area->version[i] = 0;
  }
}

static uint64_t
greatest_divisor (uint64_t a, uint64_t b)
{
  while (b != 0) {
    uint64_t t = a % b;

    a = b;
    b = t;
  }
  return a;
}

/* A stride that leads through all of n pages, in an order that looks
 * random: it has no factor in common with n.
 */
static uint64_t
stride (uint64_t n)
{
  uint64_t r = n * 0.618 + 1;

  while (greatest_divisor (r, n) != 1)
    r++;
  return r;
}

static void
area_round (struct area *area, unsigned round)
{
  uint64_t step = stride (area->count);
  uint64_t i, page;

  for (i = 0; i < area->count && !stop; i++) {
    switch (round % 5) {
    case 1:
    case 2:  page = i * step % area->count; break;
    case 3:  page = area->count - 1 - i; break;
    default: page = i; break;
    }
    if (area->version[page] != 0)
      page_check (area, page);
    if (round % 5 == 4 || (round % 5 == 2 && page % 4 != 0))
      continue;
    page_write (area, page);
  }
}

/* Down, since what was written last is in memory yet: less swapping. */
static void
area_check (const struct area *area)
{
  uint64_t i = area->count;

  while (i-- > 0)
    if (area->version[i] != 0)
      page_check (area, i);
}

/* ---- What it does ----------------------------------------------------- */

/* None is missed between a look at the flag and the wait. */
static void
wait_for_signal (void)
{
  sigset_t both, before;

  sigemptyset (&both);
  sigaddset (&both, SIGTERM);
  sigaddset (&both, SIGINT);
  sigprocmask (SIG_BLOCK, &both, &before);
  while (!stop)
    sigsuspend (&before);
  sigprocmask (SIG_SETMASK, &before, NULL);
}

static void
walk (uint64_t mib, unsigned rounds, unsigned thin_out, bool hold)
{
  struct area area;
  unsigned round;
  double begin;

  area_map (&area, mib);
  for (round = 0; round < rounds && !stop; round++) {
    begin = now ();
    area_round (&area, round);
    printf ("pressure: round %u: %.1f s\n", round, now () - begin);
  }
  if (thin_out)
    area_thin_out (&area, thin_out);
  if (hold) {
    puts ("pressure: holding");
    wait_for_signal ();
  }
  area_check (&area);
  area_unmap (&area);
}

/* Without a break at first, then with breaks of up to a tenth of a
 * second, so that what frees memory is caught asleep.
 */
static void
bursts (uint64_t mib)
{
  uint64_t state = seed;
  uint64_t count, i;
  struct area area;

  for (count = 0; !stop; count++) {
    area_map (&area, 1 + next_random (&state) % mib);
    for (i = 0; i < area.count && !stop; i++)
      page_write (&area, i);
    area_check (&area);
    area_unmap (&area);
    if (count > 3)
      usleep (next_random (&state) % 100000);
  }
  printf ("pressure: %" PRIu64 " bursts\n", count);
}

static void
usage (void)
{
  fputs ("usage: pressure [--ratio=K] [--rounds=R] [--seed=S] [--hold]\n"
         "                [--thin-out=PERCENT] MIB\n"
         "       pressure --bursts [--ratio=K] [--seed=S] MIB\n", stderr);
  exit (2);
}

static uint64_t
number (const char *text)
{
  char *end;
  unsigned long long n;

  errno = 0;
  n = strtoull (text, &end, 10);
  if (errno != 0 || end == text || *end != '\0' || n == 0)
    usage ();
  return n;
}

static void
catch_signals (void)
{
  struct sigaction action = { .sa_handler = on_signal };

  sigaction (SIGTERM, &action, NULL);
  sigaction (SIGINT, &action, NULL);
}

int
main (int argc, char *argv[])
{
  static const struct option options[] = {
    { "bursts", no_argument, NULL, 'b' },
    { "hold", no_argument, NULL, 'h' },
    { "ratio", required_argument, NULL, 'r' },
    { "rounds", required_argument, NULL, 'R' },
    { "seed", required_argument, NULL, 's' },
    { "thin-out", required_argument, NULL, 't' },
    { NULL, 0, NULL, 0 },
  };
  unsigned rounds = 5, thin_out = 0;
  bool burst = false, hold = false;
  struct rusage usage_now;
  double begin = now ();
  uint64_t mib;
  int c;

  while ((c = getopt_long (argc, argv, "", options, NULL)) != -1) {
    switch (c) {
    case 'b': burst = true; break;
    case 'h': hold = true; break;
    case 'r': ratio = number (optarg); break;
    case 'R': rounds = number (optarg); break;
    case 's': seed = number (optarg); break;
    case 't': thin_out = number (optarg); break;
    default:  usage ();
    }
  }
  if (argc - optind != 1)
    usage ();
  mib = number (argv[optind]);

  setvbuf (stdout, NULL, _IOLBF, 0);
  catch_signals ();
  if (burst)
    bursts (mib);
  else
    walk (mib, rounds, thin_out, hold);

  getrusage (RUSAGE_SELF, &usage_now);
  printf ("pressure: %" PRIu64 " MiB, ratio %u: %.1f s, %" PRIu64 " pages "
          "written, %ld major faults, %" PRIu64 " errors\n", mib, ratio,
          now () - begin, written, usage_now.ru_majflt, errors);
  return errors != 0;
}
