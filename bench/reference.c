/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Both policies are one machine: a page in RAM has a number, and the one
 * with the largest leaves.  For MIN that is the event in which the page is
 * read next; for LRU it is how long ago the page was used.
 *
 * The numbers are in a heap, together with those that pages had before and
 * that do not count any more.
 */

#include <config.h>

#include <err.h>
#include <stdbool.h>
#include <stdlib.h>

#include "reference.h"

#define NEVER UINT64_MAX

struct place {
  uint64_t rank;
  uint32_t page;
};

struct machine {
  const struct trace *trace;
  uint64_t capacity, in_ram;
  bool *is_in_ram;
  uint64_t *rank;               /* of each page in RAM */
  struct place *heap;
  size_t nr;
};

static void *
allocate (size_t n, size_t size)
{
  void *p = calloc (n + 1, size);

  if (p == NULL)
    err (EXIT_FAILURE, "calloc");
  return p;
}

/* ---- Heap ---------------------------------------------------------- */

static void
heap_push (struct machine *m, struct place place)
{
  size_t i = m->nr++, up;

  for (; i > 0; i = up) {
    up = (i - 1) / 2;
    if (m->heap[up].rank >= place.rank)
      break;
    m->heap[i] = m->heap[up];
  }
  m->heap[i] = place;
}

static struct place
heap_pop (struct machine *m)
{
  struct place top = m->heap[0], last = m->heap[--m->nr];
  size_t i = 0, down;

  for (; (down = 2 * i + 1) < m->nr; i = down) {
    if (down + 1 < m->nr && m->heap[down + 1].rank > m->heap[down].rank)
      down++;
    if (last.rank >= m->heap[down].rank)
      break;
    m->heap[i] = m->heap[down];
  }
  m->heap[i] = last;
  return top;
}

/* ---- Machine ------------------------------------------------------- */

static void
leave (struct machine *m, uint32_t page)
{
  m->in_ram -= m->is_in_ram[page];
  m->is_in_ram[page] = false;
}

/* The largest number leaves that still counts. */
static void
evict (struct machine *m)
{
  while (m->in_ram > m->capacity) {
    struct place top = heap_pop (m);

    if (m->is_in_ram[top.page] && m->rank[top.page] == top.rank)
      leave (m, top.page);
  }
}

static void
use (struct machine *m, uint32_t page, uint64_t rank)
{
  m->in_ram += !m->is_in_ram[page];
  m->is_in_ram[page] = true;
  m->rank[page] = rank;
  heap_push (m, (struct place) { rank, page });
  evict (m);
}

/* RANKS has the number that a page gets in each event. */
static struct reference
run (const struct trace *t, uint64_t capacity, const uint64_t *ranks)
{
  struct machine m = { .trace = t, .capacity = capacity };
  struct reference result = { 0 };
  size_t i;

  m.is_in_ram = allocate (t->nr_pages, sizeof *m.is_in_ram);
  m.rank = allocate (t->nr_pages, sizeof *m.rank);
  m.heap = allocate (t->nr, sizeof *m.heap);
  for (i = 0; i < t->nr; i++) {
    const struct event *e = &t->events[i];
    bool missed = e->kind == EVENT_READ && !m.is_in_ram[e->page];

    if (e->kind == EVENT_SECONDS)
      continue;
    if (e->kind == EVENT_TRIM)
      leave (&m, e->page);
    else
      use (&m, e->page, ranks[i]);
    result.misses += missed;
    result.inserted += missed && m.is_in_ram[e->page];
  }
  free (m.heap);
  free (m.rank);
  free (m.is_in_ram);
  return result;
}

struct reference
reference_lru (const struct trace *t, uint64_t capacity)
{
  uint64_t *ranks = allocate (t->nr, sizeof *ranks);
  struct reference result;
  size_t i;

  for (i = 0; i < t->nr; i++)
    ranks[i] = NEVER - i;
  result = run (t, capacity, ranks);
  free (ranks);
  return result;
}

/* From the end: the event in which each page is read next, unless it is
 * written or trimmed before that.
 */
struct reference
reference_min (const struct trace *t, uint64_t capacity)
{
  uint64_t *ranks = allocate (t->nr, sizeof *ranks);
  uint64_t *next = allocate (t->nr_pages, sizeof *next);
  struct reference result;
  size_t i;

  for (i = 0; i < t->nr_pages; i++)
    next[i] = NEVER;
  for (i = t->nr; i-- > 0; ) {
    const struct event *e = &t->events[i];

    if (e->kind == EVENT_SECONDS)
      continue;
    ranks[i] = next[e->page];
    next[e->page] = e->kind == EVENT_READ ? i : NEVER;
  }
  result = run (t, capacity, ranks);
  free (next);
  free (ranks);
  return result;
}
