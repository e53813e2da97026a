/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The model: a plain array beside a store.
 *
 * The only freedom that a store has is in a write that fails: each of
 * its pages must then be as before or as after, whole, and nothing
 * beyond the range may have changed.  The model accepts which of the two
 * it was, page by page, and goes on from there.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"
#include "pages.h"

#define PAGE ZRAM_PAGE_SIZE

static void __attribute__ ((noreturn))
differ (const struct model *m, const char *what, uint64_t count,
        uint64_t offset)
{
  fprintf (stderr, "model: %s: store and model differ: "
           "count=%" PRIu64 " offset=%" PRIu64 " size=%" PRIu64 " (%s)\n",
           what, count, offset, m->size, strerror (errno));
  abort ();
}

static void *
xmalloc (size_t size)
{
  void *p = calloc (1, size ? size : 1);

  if (p == NULL)
    abort ();
  return p;
}

unsigned
model_steps (unsigned steps)
{
  const char *part = getenv ("MODEL_PART");
  unsigned n = part ? strtoul (part, NULL, 10) : 1;

  return n ? steps / n : steps;
}

void
model_init (struct model *m, struct zram_store *store, uint64_t start,
            uint64_t size)
{
  *m = (struct model) { .store = store, .start = start, .size = size };
  m->data = xmalloc (size);
  m->written = xmalloc ((size / PAGE + 2) * sizeof *m->written);
}

void
model_destroy (struct model *m)
{
  free (m->data);
  free (m->written);
}

/* ---- Pages of a range ---------------------------------------------- */

/* Pages are counted from the one that the model starts in. */
static uint64_t
page_of (const struct model *m, uint64_t offset)
{
  return (m->start + offset) / PAGE - m->start / PAGE;
}

/* The bytes of the range that are in its first page. */
static uint64_t
in_first_page (const struct model *m, uint64_t count, uint64_t offset)
{
  uint64_t rest = PAGE - (m->start + offset) % PAGE;

  return count < rest ? count : rest;
}

/* Whether this piece of a page is all of the page that the store has. */
static bool
is_whole (const struct model *m, uint64_t count, uint64_t offset)
{
  uint64_t at = m->start + offset;

  return at % PAGE == 0
    && (count == PAGE || at + count == zram_size (m->store));
}

/* ---- Operations ---------------------------------------------------- */

/* Where reads can fail nothing is lost by it: one of the next ones of the same
 * page will not.
 */
static int
read_again (const struct model *m, void *buf, size_t count, uint64_t offset)
{
  unsigned tries = 1000;
  int r;

  do
    r = zram_read (m->store, buf, count, m->start + offset);
  while (r == -1 && errno == EIO && --tries);
  return r;
}

static int
read_store (const struct model *m, unsigned char *buf, size_t count,
            uint64_t offset)
{
  if (!m->may_fail_reads)
    return zram_read (m->store, buf, count, m->start + offset);
  while (count) {
    uint64_t n = in_first_page (m, count, offset);

    if (read_again (m, buf, n, offset) == -1)
      return -1;
    buf += n;
    offset += n;
    count -= n;
  }
  return 0;
}

void
model_read (struct model *m, size_t count, uint64_t offset)
{
  unsigned char *buf = xmalloc (count);

  if (read_store (m, buf, count, offset) == -1
      || memcmp (buf, m->data + offset, count) != 0)
    differ (m, "read", count, offset);
  free (buf);
}

/* Accept for each page of a range what the store says now: it must be
 * either the model's data or BUF's.
 */
static void
accept_either (struct model *m, const unsigned char *buf, uint64_t count,
               uint64_t offset)
{
  unsigned char now[PAGE];

  while (count) {
    uint64_t n = in_first_page (m, count, offset);

    if (read_store (m, now, n, offset) == -1)
      differ (m, "read after failed write", n, offset);
    if (memcmp (now, m->data + offset, n) != 0) {
      if (memcmp (now, buf, n) != 0)
        differ (m, "failed write", n, offset);
      memcpy (m->data + offset, buf, n);
    }
    offset += n;
    buf += n;
    count -= n;
  }
}

static int
note_extent (void *opaque, uint64_t offset, uint64_t count,
             enum zram_extent type)
{
  bool *written = opaque;

  (void) offset;
  (void) count;
  *written = type != ZRAM_EXTENT_HOLE;
  return 0;
}

/* Which pages are holes after an operation that failed: ask. */
static void
accept_holes (struct model *m, uint64_t count, uint64_t offset)
{
  while (count) {
    uint64_t n = in_first_page (m, count, offset);

    if (zram_extents (m->store, n, m->start + offset, note_extent,
                      &m->written[page_of (m, offset)]) == -1)
      differ (m, "extents after failure", n, offset);
    offset += n;
    count -= n;
  }
}

/* An operation failed that would have made the range like BUF. */
static void
failed (struct model *m, const char *what, const unsigned char *buf,
        uint64_t count, uint64_t offset)
{
  if (!(m->may_fill_up && errno == ENOSPC)
      && !(m->may_fail_reads && errno == EIO))
    differ (m, what, count, offset);
  accept_either (m, buf, count, offset);
  accept_holes (m, count, offset);
}

void
model_write (struct model *m, const void *buf, size_t count, uint64_t offset)
{
  uint64_t first = page_of (m, offset), page;

  if (zram_write (m->store, buf, count, m->start + offset) == -1) {
    failed (m, "write", buf, count, offset);
    return;
  }
  memcpy (m->data + offset, buf, count);
  for (page = first; count && page <= page_of (m, offset + count - 1); page++)
    m->written[page] = true;
}

void
model_zero (struct model *m, uint64_t count, uint64_t offset, bool trim)
{
  int r = trim ? zram_trim (m->store, count, m->start + offset)
    : zram_zero (m->store, count, m->start + offset);

  if (r == -1) {
    unsigned char *zeroes = xmalloc (count);

    failed (m, trim ? "trim" : "zero", zeroes, count, offset);
    free (zeroes);
    return;
  }
  memset (m->data + offset, 0, count);
  while (count) {
    uint64_t n = in_first_page (m, count, offset);

    if (is_whole (m, n, offset))
      m->written[page_of (m, offset)] = false;
    offset += n;
    count -= n;
  }
}

/* ---- Extents ------------------------------------------------------- */

struct walk {
  struct model *m;
  uint64_t next;                /* where the next extent must begin */
  int last;                     /* type of the last one, or -1 */
};

static bool
page_is_zero (const struct model *m, uint64_t offset)
{
  uint64_t at = m->start + offset;
  uint64_t begin = at - at % PAGE, end = begin + PAGE, i;

  begin = begin < m->start ? m->start : begin;
  end = end > m->start + m->size ? m->start + m->size : end;
  for (i = begin; i < end; i++)
    if (m->data[i - m->start])
      return false;
  return true;
}

static int
check_extent (void *opaque, uint64_t offset, uint64_t count,
              enum zram_extent type)
{
  struct walk *walk = opaque;
  struct model *m = walk->m;

  if (offset != walk->next || count == 0 || (int) type == walk->last)
    differ (m, "extents are not contiguous and maximal", count,
            offset - m->start);
  walk->next += count;
  walk->last = type;
  for (offset -= m->start; count; ) {
    uint64_t n = in_first_page (m, count, offset);
    enum zram_extent right = !m->written[page_of (m, offset)]
      ? ZRAM_EXTENT_HOLE
      : page_is_zero (m, offset) ? ZRAM_EXTENT_ZERO : ZRAM_EXTENT_DATA;

    if (type != right)
      differ (m, "type of extent", n, offset);
    offset += n;
    count -= n;
  }
  return 0;
}

void
model_extents (struct model *m, uint64_t count, uint64_t offset)
{
  struct walk walk = { m, m->start + offset, -1 };

  if (zram_extents (m->store, count, m->start + offset, check_extent,
                    &walk) == -1
      || walk.next != m->start + offset + count)
    differ (m, "extents", count, offset);
}

/* ---- Everything ---------------------------------------------------- */

void
model_verify (struct model *m)
{
  model_read (m, m->size, 0);
}

void
model_check_memory (struct zram_memory *memory)
{
  if (zram_memory_check (memory, stderr)) {
    fprintf (stderr, "model: the validator found faults\n");
    abort ();
  }
}

/* A random length: small ones, whole pages, and large ones. */
static uint64_t
random_count (struct rng *rng, uint64_t max)
{
  uint64_t n;

  switch (rng_below (rng, 4)) {
  case 0:
    n = rng_below (rng, 600);
    break;
  case 1:
    n = PAGE * (1 + rng_below (rng, 4));
    break;
  case 2:
    n = rng_below (rng, 5 * PAGE);
    break;
  default:
    n = rng_below (rng, max + 1);
  }
  return n < max ? n : max;
}

void
model_step (struct model *m, struct rng *rng, bool extents)
{
  uint64_t offset = rng_below (rng, m->size), count;
  unsigned op = rng_below (rng, 10);

  if (rng_below (rng, 2) && offset > PAGE)
    offset -= (m->start + offset) % PAGE;
  count = random_count (rng, m->size - offset);
  if (op < 5) {
    unsigned char *buf = xmalloc (count);

    pages_fill (rng, rng_below (rng, PAGES_NR_KINDS), buf, count);
    model_write (m, buf, count, offset);
    free (buf);
  }
  else if (op < 7)
    model_read (m, count, offset);
  else if (op < 9)
    model_zero (m, count, offset, op == 8);
  else if (extents)
    model_extents (m, count, offset);
}
