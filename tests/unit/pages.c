/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Contents for pages.  See pages.h. */

#include <config.h>

#include <string.h>

#include "pages.h"

uint64_t
rng_next (struct rng *rng)
{
  uint64_t x = rng->state;

  x ^= x >> 12;
  x ^= x << 25;
  x ^= x >> 27;
  rng->state = x;
  return x * UINT64_C (2685821657736338717);
}

uint64_t
rng_below (struct rng *rng, uint64_t n)
{
  return (rng_next (rng) >> 8) % n;
}

static void
fill_word (unsigned char *p, size_t count, uint64_t word)
{
  size_t i;

  for (i = 0; i < count; i++)
    p[i] = word >> (i % 8 * 8);
}

static void
fill_random (struct rng *rng, unsigned char *p, size_t count)
{
  size_t i;

  for (i = 0; i < count; i++)
    p[i] = rng_next (rng) >> 56;
}

static void
fill_text (struct rng *rng, unsigned char *p, size_t count)
{
  static const char *const words[] = {
    "page ", "slot ", "object ", "class ", "the ", "of ", "memory ", "\n",
  };
  size_t i = 0, n;

  while (i < count) {
    const char *word = words[rng_below (rng, 8)];

    n = strlen (word) < count - i ? strlen (word) : count - i;
    memcpy (p + i, word, n);
    i += n;
  }
}

void
pages_fill (struct rng *rng, enum pages_kind kind, void *buf, size_t count)
{
  unsigned char *p = buf;
  uint64_t word = rng_next (rng);
  size_t n;

  switch (kind) {
  case PAGES_ZERO:
    memset (p, 0, count);
    break;
  case PAGES_WORD32:
    word = (word | 1) & UINT32_MAX;
    fill_word (p, count, word | word << 32);
    break;
  case PAGES_WORD64:
    fill_word (p, count, (word | 1) & ~(UINT64_C (1) << 32));
    break;
  case PAGES_TEXT:
    fill_text (rng, p, count);
    break;
  case PAGES_MIXED:
    n = rng_below (rng, count + 1);
    fill_random (rng, p, n);
    fill_text (rng, p + n, count - n);
    break;
  case PAGES_RANDOM:
  case PAGES_NR_KINDS:
    fill_random (rng, p, count);
    break;
  }
}
