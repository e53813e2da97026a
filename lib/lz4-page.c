/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* LZ4 blocks of single pages.
 *
 * The format (lz4_Block_format.md in the lz4 project) is a list of
 * sequences: some literals, and then a match, which is a distance
 * backwards and a length of at least 4.  How matches are found is left
 * to the compressor.  liblz4's finds 275 in a page of a process, with
 * few instructions, and takes 5 µs.  Half of that it waits, because one
 * or two branches for each match went elsewhere than predicted: a page
 * is compressed once, so there is nothing to learn it from.
 *
 * The way to be faster is to make fewer sequences, and to ask fewer
 * questions whose answer is not known beforehand:
 *
 * - At each position we look for the eight bytes there, and then, in a
 *   table of its own, for the first five of them.  What has eight in
 *   common goes on more often than not, since memory is made of words.
 *   One table of four or five bytes gives the latest match, two give a
 *   longer one: a fifth fewer sequences, which is also what makes
 *   decompressing a fifth faster.
 *
 * - If five are found in the second table, these were not eight, so the
 *   end of the match is known without another question.  The end of a
 *   longer one is found without a branch if it is less than 24 bytes
 *   away.
 *
 * - If the last match was a multiple of four bytes away, these are words
 *   or structures, and then only even positions are tried.  Whether the
 *   byte before the match belongs to it is computed, not asked.  In text
 *   the last match was anywhere, and all positions are tried.
 *
 * - One multiplication makes both hashes.  The lower N bits of a product
 *   depend on nothing but the lower N bits of its factors, so bits 29 to
 *   39 are a hash of the first five bytes.
 *
 * On the pages of bench/corpus that takes 0.80 of liblz4's time, and
 * objects have 0.97 of the size; for text it is 0.90 and 1.02, for shared
 * libraries 0.85 and 1.04.  With even positions only it would be 0.77 and
 * 0.98, but 1.13 of the size for text.
 *
 * What did not help: to test two to four positions at once and choose
 * among them without a branch (all must wait for the end of the match
 * before, which is otherwise predicted); two candidates for each hash;
 * 16 bytes at once; to enter positions that were not tried.
 *
 * The tables are cleared for each page, since the result must not depend
 * on the page before.  An entry of 0 is the first position or none.
 * That makes no difference, because all candidates are compared.
 *
 * Decoders rely on two rules: the last five bytes are literals, and the
 * last match begins twelve bytes before the end or earlier.  As eight
 * bytes are read at a time, the latter also keeps us inside the page.
 */

#include <config.h>

#include <endian.h>
#include <stdbool.h>
#include <string.h>

#include "lz4-page.h"

/* The format's. */
#define MIN_MATCH 4
#define LAST_LITERALS 5
#define LAST_MATCH 12
#define TOKEN_MAX 15

/* Bytes in the second table. */
#define START 5

/* After so many literals positions are tried less often, and again after
 * as many: pages that do not compress are not searched for long.  The
 * level divides it.
 */
#define STAGE 128

/* The most that a sequence takes if it has at most LAST_MATCH literals
 * and a length in one byte: token, literals, distance, length.
 */
#define SHORT_SEQUENCE (1 + LAST_MATCH + 2 + 1)

#define likely(x) __builtin_expect (!!(x), 1)

struct input {
  const unsigned char *bytes;
  size_t size;
};

struct match {
  size_t start, source, end;    /* positions */
};

/* Eight bytes, the first lowest. */
static inline uint64_t
load (const struct input *in, size_t position)
{
  uint64_t word;

  memcpy (&word, in->bytes + position, sizeof word);
  return le64toh (word);
}

/* Which byte is the first that differs. */
static inline size_t
first_byte (uint64_t difference)
{
  return (unsigned) __builtin_ctzll (difference) / 8;
}

/* ---- Finding matches ----------------------------------------------- */

/* Where two positions, that are equal so far, begin to differ. */
static size_t
compare (const struct input *in, size_t position, size_t source)
{
  const size_t end = in->size - LAST_LITERALS;

  for (; position + 8 <= end; position += 8, source += 8) {
    uint64_t difference = load (in, position) ^ load (in, source);

    if (difference)
      return position + first_byte (difference);
  }
  while (position < end && in->bytes[position] == in->bytes[source])
    position++, source++;
  return position;
}

/* The same for two that have eight bytes in common. */
static inline size_t
compare_long (const struct input *in, size_t position, size_t source)
{
  uint64_t a, b;

  if (!likely (position + 24 + LAST_LITERALS <= in->size))
    return compare (in, position + MIN_MATCH, source + MIN_MATCH);
  a = load (in, position + 8) ^ load (in, source + 8);
  b = load (in, position + 16) ^ load (in, source + 16);
  if (!likely (a | b))
    return compare (in, position + 24, source + 24);
  return position + (a ? 8 : 16) + first_byte (a ? a : b);
}

/* Try a position and enter it into the tables. */
static inline bool
try (struct lz4_page *lz4, const struct input *in, size_t position,
     struct match *match)
{
  uint64_t word = load (in, position), difference;
  uint64_t hash = word * UINT64_C (0x9e3779b97f4a7c15);
  uint16_t *w = &lz4->words[hash >> (64 - LZ4_PAGE_LOG)];
  uint16_t *s = &lz4->starts[hash << (64 - 8 * START)
                             >> (64 - LZ4_PAGE_LOG)];
  size_t word_source = *w, start_source = *s;

  *w = position;
  *s = position;
  match->start = position;
  match->source = word_source;
  if (load (in, word_source) == word) {
    match->end = compare_long (in, position, word_source);
    return true;
  }
  match->source = start_source;
  difference = load (in, start_source) ^ word;
  if (difference << (64 - 8 * START) != 0)
    return false;
  match->end = likely (difference)
    ? position + first_byte (difference)
    : compare (in, position + MIN_MATCH, start_source + MIN_MATCH);
  return true;
}

/* Find the next match from a position on.  Odd positions after it are
 * left out if EVEN is 1, and two more after every STAGE literals.
 */
static inline bool
find (struct lz4_page *lz4, const struct input *in, size_t position,
      size_t even, size_t stage, struct match *match)
{
  const size_t last = in->size - LAST_MATCH;
  size_t skip = 1, limit;

  do {
    limit = position + stage < last ? position + stage : last;
    for (; likely (position <= limit); position = (position | even) + skip)
      if (try (lz4, in, position, match))
        return true;
    skip += 2;
  } while (position <= last);
  return false;
}

/* The byte before a match, if it is a literal, may belong to it. */
static inline void
extend_back (const struct input *in, size_t anchor, struct match *match)
{
  const unsigned char *bytes = in->bytes;
  size_t literals = match->start - anchor, n;

  if (!likely (match->source))
    return;
  n = bytes[match->start - 1] == bytes[match->source - 1];
  n = n < literals ? n : literals;
  match->start -= n;
  match->source -= n;
}

/* ---- Writing sequences --------------------------------------------- */

static unsigned char *
put_length (unsigned char *out, size_t length)
{
  for (; length >= 255; length -= 255)
    *out++ = 255;
  *out++ = length;
  return out;
}

static size_t
length_size (size_t n)
{
  return n < TOKEN_MAX ? 0 : 1 + (n - TOKEN_MAX) / 255;
}

static unsigned
token (size_t literals, size_t length)
{
  return (literals < TOKEN_MAX ? literals : TOKEN_MAX) << 4
    | (length < TOKEN_MAX ? length : TOKEN_MAX);
}

/* Write literals, with which a block ends.  NULL if they do not fit. */
static unsigned char *
put_literals (unsigned char *out, const unsigned char *end, unsigned token,
              const unsigned char *literals, size_t n)
{
  if ((size_t) (end - out) < 1 + length_size (n) + n)
    return NULL;
  *out++ = token;
  if (n >= TOKEN_MAX)
    out = put_length (out, n - TOKEN_MAX);
  memcpy (out, literals, n);
  return out + n;
}

/* Write any sequence.  LENGTH is without MIN_MATCH. */
static unsigned char *
put_any (unsigned char *out, const unsigned char *end,
         const unsigned char *literals, size_t n, size_t distance,
         size_t length)
{
  out = put_literals (out, end, token (n, length), literals, n);
  if (out == NULL || (size_t) (end - out) < 2 + length_size (length))
    return NULL;
  *out++ = distance;
  *out++ = distance >> 8;
  return length < TOKEN_MAX ? out : put_length (out, length - TOKEN_MAX);
}

/* Write a sequence, faster if it is short and OUT is below NEAR.  As a
 * match begins LAST_MATCH bytes before the end, as many literals can be
 * read, whatever their number.
 */
static inline unsigned char *
put (unsigned char *out, const unsigned char *near, const unsigned char *end,
     const unsigned char *literals, size_t n, size_t distance, size_t length)
{
  uint16_t low = htole16 (distance);

  if (!likely (out < near) || !likely (n <= LAST_MATCH)
      || !likely (length < TOKEN_MAX + 255))
    return put_any (out, end, literals, n, distance, length);
  *out = token (n, length);
  memcpy (out + 1, literals, LAST_MATCH);
  out += 1 + n;
  memcpy (out, &low, sizeof low);
  out[2] = length - TOKEN_MAX;
  return out + 2 + (length >= TOKEN_MAX);
}

/* ---- A page -------------------------------------------------------- */

size_t
lz4_page_compress (struct lz4_page *lz4, const void *src, size_t size,
                   void *dst, size_t max, unsigned level)
{
  const struct input in = { src, size };
  unsigned char *out = dst, *end = out + max;
  const unsigned char *near = max > SHORT_SEQUENCE
    ? end - SHORT_SEQUENCE : out;
  const size_t stage = STAGE / level;
  size_t anchor = 0, distance = 1;
  struct match match = { .end = 1 };

  if (size > LAST_MATCH) {
    memset (lz4, 0, sizeof *lz4);
    while (find (lz4, &in, match.end, distance % 4 == 0, stage, &match)) {
      extend_back (&in, anchor, &match);
      distance = match.start - match.source;
      out = put (out, near, end, in.bytes + anchor, match.start - anchor,
                 distance, match.end - match.start - MIN_MATCH);
      if (!likely (out))
        return 0;
      anchor = match.end;
    }
  }
  out = put_literals (out, end, token (size - anchor, 0), in.bytes + anchor,
                      size - anchor);
  return out ? out - (unsigned char *) dst : 0;
}
