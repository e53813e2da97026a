/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* What the benchmarks share: the corpus, clocks, chance and medians.
 * See bench.c.
 */

#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_PAGE 4096

/* Pages in memory, all of them touched. */
struct corpus {
  uint8_t *pages;
  size_t nr_pages;
  size_t nr_same;               /* how many of them are same-filled */
};

enum corpus_same { CORPUS_KEEP_SAME, CORPUS_DROP_SAME };

/* Load the first MAX pages of a file (0: all of them).  Does not return
 * if it cannot.
 */
struct corpus corpus_load (const char *filename, size_t max,
                           enum corpus_same);

/* The same, but map the file: quick to start with.  nr_same is not
 * counted and the pages are read-only.
 */
struct corpus corpus_map (const char *filename, size_t max);

static inline const uint8_t *
corpus_page (const struct corpus *c, size_t i)
{
  return c->pages + i * BENCH_PAGE;
}

/* Does the page repeat one 64-bit word? */
bool page_is_same_filled (const uint8_t *page);

/* Fresh zeroed memory in small pages, not touched yet.  Does not return
 * if there is none.
 */
void *small_pages (size_t bytes);

/* Wall clock, in nanoseconds. */
uint64_t now_ns (void);

/* Processor time of this thread, in nanoseconds. */
uint64_t cpu_ns (void);

/* Numbers that look random.  The state may be any number. */
uint64_t random_next (uint64_t *state);

/* Put the numbers 0 to n-1 in ORDER, in random order. */
void random_order (uint32_t *order, size_t n, uint64_t seed);

/* Where a page's contents come from when the disk is overwritten for
 * the ROUNDth time (1, 2, ...; 0: its own): every page of the corpus is
 * used once per round, and far from where it was the round before.
 */
size_t churned (size_t page, unsigned round, size_t nr_pages);

/* The median.  Sorts the values. */
double median (double *values, size_t n);

/* A number greater than 0 on the command line, or an end with a
 * message.
 */
size_t parse_count (const char *what, const char *text);

#endif /* BENCH_H */
