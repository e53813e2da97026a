/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* What the benchmarks share.
 *
 * Where the memory of this process counts, the corpus is read into
 * anonymous memory and not mapped from its file: pages of the page
 * cache come and go, count differently in Pss, and may be large folios,
 * where a client's buffers never are.
 *
 * Nothing here may be a cost in what is measured, so there is nothing
 * clever: orders and numbers are made before the clock starts.
 */

#include <config.h>

#include <stdio.h>
#include <stdlib.h>
#include <stdint.h>
#include <string.h>
#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>
#include <err.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "bench.h"

static uint64_t
clock_ns (clockid_t clock)
{
  struct timespec ts;

  clock_gettime (clock, &ts);
  return (uint64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}

uint64_t
now_ns (void)
{
  return clock_ns (CLOCK_MONOTONIC);
}

uint64_t
cpu_ns (void)
{
  return clock_ns (CLOCK_THREAD_CPUTIME_ID);
}

/* Splitmix64, after the description in Steele, Lea and Flood, "Fast
 * splittable pseudorandom number generators" (2014).
 */
uint64_t
random_next (uint64_t *state)
{
  uint64_t z = *state += UINT64_C (0x9e3779b97f4a7c15);

  z = (z ^ (z >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C (0x94d049bb133111eb);
  return z ^ (z >> 31);
}

void
random_order (uint32_t *order, size_t n, uint64_t seed)
{
  for (size_t i = 0; i < n; ++i)
    order[i] = i;
  for (size_t i = n; i > 1; --i) {
    size_t j = random_next (&seed) % i;
    uint32_t t = order[i-1];

    order[i-1] = order[j];
    order[j] = t;
  }
}

static size_t
common_divisor (size_t a, size_t b)
{
  return b == 0 ? a : common_divisor (b, a % b);
}

/* A factor that has no divisor in common with the number of pages makes
 * this a permutation.
 */
size_t
churned (size_t page, unsigned round, size_t nr_pages)
{
  size_t factor = 7919;

  if (round == 0)
    return page;
  while (common_divisor (factor, nr_pages) != 1)
    factor++;
  return (page * factor + round * (nr_pages * 5 / 8 + 1)) % nr_pages;
}

static int
compare_doubles (const void *a, const void *b)
{
  double x = *(const double *) a, y = *(const double *) b;

  return (x > y) - (x < y);
}

double
median (double *values, size_t n)
{
  qsort (values, n, sizeof values[0], compare_doubles);
  return n & 1 ? values[n/2] : (values[n/2-1] + values[n/2]) / 2;
}

bool
page_is_same_filled (const uint8_t *page)
{
  return memcmp (page, page + 8, BENCH_PAGE - 8) == 0;
}

void *
small_pages (size_t bytes)
{
  void *p = mmap (NULL, bytes, PROT_READ|PROT_WRITE,
                  MAP_PRIVATE|MAP_ANONYMOUS|MAP_NORESERVE, -1, 0);

  if (p == MAP_FAILED)
    err (EXIT_FAILURE, "mmap: %zu bytes", bytes);
  /* The kernel may have been built without huge pages, and then there
   * is nothing to forbid.
   */
  if (madvise (p, bytes, MADV_NOHUGEPAGE) == -1 && errno != EINVAL)
    err (EXIT_FAILURE, "madvise");
  return p;
}

static void
read_all (int fd, const char *filename, void *buf, size_t bytes)
{
  size_t done = 0;

  while (done < bytes) {
    ssize_t r = pread (fd, (char *) buf + done, bytes - done, done);

    if (r == -1)
      err (EXIT_FAILURE, "%s", filename);
    if (r == 0)
      errx (EXIT_FAILURE, "%s: it got shorter", filename);
    done += r;
  }
}

/* Open the corpus and find how many pages are wanted. */
static int
corpus_open (const char *filename, size_t max, size_t *nr_pages)
{
  struct stat st;
  int fd = open (filename, O_RDONLY|O_CLOEXEC);

  if (fd == -1 || fstat (fd, &st) == -1)
    err (EXIT_FAILURE, "%s", filename);
  *nr_pages = st.st_size / BENCH_PAGE;
  if (*nr_pages == 0)
    errx (EXIT_FAILURE, "%s: there is no page in it", filename);
  if (max != 0 && *nr_pages > max)
    *nr_pages = max;
  return fd;
}

struct corpus
corpus_load (const char *filename, size_t max, enum corpus_same same)
{
  struct corpus c = { 0 };
  size_t n, kept = 0;
  int fd = corpus_open (filename, max, &n);

  c.pages = small_pages (n * BENCH_PAGE);
  read_all (fd, filename, c.pages, n * BENCH_PAGE);
  close (fd);

  for (size_t i = 0; i < n; ++i) {
    bool is_same = page_is_same_filled (corpus_page (&c, i));

    if (is_same && same == CORPUS_DROP_SAME)
      continue;
    c.nr_same += is_same;
    if (kept != i)
      memcpy (c.pages + kept * BENCH_PAGE, corpus_page (&c, i), BENCH_PAGE);
    kept++;
  }
  if (kept == 0)
    errx (EXIT_FAILURE, "%s: all pages are same-filled", filename);
  c.nr_pages = kept;
  return c;
}

struct corpus
corpus_map (const char *filename, size_t max)
{
  struct corpus c = { 0 };
  int fd = corpus_open (filename, max, &c.nr_pages);

  c.pages = mmap (NULL, c.nr_pages * BENCH_PAGE, PROT_READ,
                  MAP_SHARED|MAP_POPULATE, fd, 0);
  if (c.pages == MAP_FAILED)
    err (EXIT_FAILURE, "mmap: %s", filename);
  close (fd);
  return c;
}

size_t
parse_count (const char *what, const char *text)
{
  char *end;
  unsigned long long n;

  errno = 0;
  n = strtoull (text, &end, 10);
  if (errno || end == text || *end || n == 0 || n > SIZE_MAX / BENCH_PAGE)
    errx (EXIT_FAILURE, "%s: '%s' is not a count", what, text);
  return n;
}
