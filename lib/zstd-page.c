/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Pages, compressed to zstd's format, with a dictionary or without.
 *
 * A block (RFC 8878, 3.1.1.3) has two parts: literals, with a Huffman
 * code, and sequences, which are numbers of literals to copy, lengths and
 * offsets of matches, with three FSE codes.  A dictionary brings tables
 * for all of them, and a block may use those, or bring its own.
 *
 * libzstd at level 1 takes twice as long for a page as liblz4, even with
 * a dictionary: it looks every position up in two tables, of which the
 * dictionary's is larger than the processor's first cache, and has work to
 * do for each call that does not depend on the page.  This takes less than
 * nine tenths of its time, and what it makes is smaller.
 *
 * - Matches are found as in lz4-page.c: by eight bytes or by five, only at
 *   even positions while matches are multiples of four bytes away, and few
 *   questions whose answer cannot be predicted.  Before that the last two
 *   offsets are tried, as they take next to no bits: of structures in a
 *   row, more than half of the matches are at those.
 *
 * - The content of the dictionary stands right before the page in the
 *   working memory, and its positions are in the tables to begin with.  So
 *   there is nothing to be done about it but to copy: 4 KiB of page and
 *   8 KiB of tables.
 *
 * - Literals and sequences are encoded with the dictionary's tables.  For
 *   literals, and for each of the three codes, it is estimated what
 *   tables of the page's own would save: where that is enough they are
 *   made.  (libzstd does it for literals from 1024 on, and with so few
 *   sequences never for them.)  Of the pages of bench/corpus that makes
 *   3 % less, for an eighth of the time.
 *
 * - A dictionary is trained on what is found here, and not by libzstd on
 *   what libzstd finds: 1.5 % less.
 *
 * What did not help: to take every position (as dense, 15 % slower); the
 * third of the recent offsets; matches of three bytes at recent offsets;
 * larger tables; tables that libzstd makes of only those samples that
 * compress well; to give pages that come out large to libzstd (as dense,
 * but finding matches a second time costs more than making tables).
 *
 * What comes out is for libzstd to decompress.  There is no decoder here.
 */

#include <config.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "zstd-page.h"
#include "zstd-tables.h"

#define likely(x) __builtin_expect (!!(x), 1)

/* Entries of the two tables. */
#define TABLE_LOG 11

/* Bytes in the second table. */
#define START 5

/* As in lz4-page.c: after so many literals, try positions less often. */
#define STAGE 128

#define MIN_MATCH 4
#define SEQUENCES_MAX (ZRAM_PAGE_SIZE / MIN_MATCH)

/* Read and written behind what there is. */
#define OVERRUN 32

/* Below these numbers tables of its own do not pay. */
#define OWN_LITERALS 192
#define OWN_SEQUENCES 64

/* What a description costs, about: in bits, and for each symbol. */
#define DESCRIPTION 16
#define DESCRIPTION_LITERAL 3
#define DESCRIPTION_CODE 4

/* Bits that must be saved, by estimate, to make a Huffman code or an FSE
 * table: it takes time, here and when it is read.
 */
#define GAIN_LITERALS 300
#define GAIN_CODES 128

/* The same without a dictionary. */
#define OWN_LITERALS_NONE 64
#define GAIN_NONE 64

/* Below this number they are one stream, otherwise four. */
#define ONE_STREAM 1024

/* Where some bytes were last. */
struct tables {
  uint16_t words[1 << TABLE_LOG];       /* eight of them */
  uint16_t starts[1 << TABLE_LOG];      /* START */
};

/* The codes of sequences. */
enum { LITERALS, OFFSETS, MATCHES, NR_CODES };
#define SYMBOLS_MAX 64

struct zstd_dictionary {
  bool none;                    /* only the format's own FSE tables */
  struct zstd_huffman huffman;
  struct zstd_fse fse[NR_CODES];
  uint32_t recent[3];           /* offsets */
  size_t size;                  /* of the content */
  struct tables tables;
  unsigned char content[ZSTD_CONTENT_MAX];
};

/* OFFSET is 1 to 3 for a recent one, or 3 more than it is; LENGTH 3 less.
 * The format calls them Offset_Value and Match_Length_Value.
 */
struct sequence {
  uint16_t literals, length, offset;
  uint8_t codes[NR_CODES];
};

struct zstd_page {
  struct tables tables;
  struct sequence sequences[SEQUENCES_MAX];
  unsigned char literals[ZRAM_PAGE_SIZE + OVERRUN];
  unsigned char bytes[ZSTD_CONTENT_MAX + ZRAM_PAGE_SIZE + OVERRUN];
};

static inline unsigned
high_bit (unsigned x)
{
  return 31 - __builtin_clz (x);
}

/* Eight bytes, the first lowest. */
static inline uint64_t
load (const unsigned char *p)
{
  uint64_t word;

  memcpy (&word, p, sizeof word);
  return le64toh (word);
}

/* Which byte is the first that differs. */
static inline size_t
first_byte (uint64_t difference)
{
  return (unsigned) __builtin_ctzll (difference) / 8;
}

/* One multiplication makes both hashes: see lz4-page.c. */
static inline uint64_t
hash_of (uint64_t word)
{
  return word * UINT64_C (0x9e3779b97f4a7c15);
}

static inline uint16_t *
word_entry (struct tables *tables, uint64_t hash)
{
  return &tables->words[hash >> (64 - TABLE_LOG)];
}

static inline uint16_t *
start_entry (struct tables *tables, uint64_t hash)
{
  return &tables->starts[hash << (64 - 8 * START) >> (64 - TABLE_LOG)];
}

/* ---- Life ---------------------------------------------------------- */

static const unsigned char dictionary_magic[4] = { 0x37, 0xa4, 0x30, 0xec };
#define MAGIC_SIZE 8            /* and the number of the dictionary */

/* The order of the tables in a dictionary. */
static const unsigned table_order[NR_CODES] = { OFFSETS, MATCHES, LITERALS };

/* The recent offsets that a page begins with, where they are ours. */
static const uint32_t first_recent[3] = { 1, 4, 8 };

/* Codes that pages need: all lengths, and offsets in content and page. */
static const struct { unsigned log_max, last; } code_limits[NR_CODES] = {
  [OFFSETS] = { 8, 13 }, [MATCHES] = { 9, 47 }, [LITERALS] = { 9, 30 },
};

static void
enter_content (struct zstd_dictionary *d)
{
  size_t i;

  for (i = 0; i + 8 <= d->size; i++) {
    uint64_t hash = hash_of (load (d->content + i));

    *word_entry (&d->tables, hash) = i;
    *start_entry (&d->tables, hash) = i;
  }
}

/* The end of the content, and the offsets, which must be inside of it. */
static bool
read_content (struct zstd_dictionary *d, const unsigned char *p, size_t size)
{
  unsigned i;
  uint32_t n;

  if (size < sizeof d->recent)
    return false;
  for (i = 0; i < 3; i++, p += sizeof n) {
    memcpy (&n, p, sizeof n);
    d->recent[i] = le32toh (n);
  }
  size -= sizeof d->recent;
  d->size = size < ZSTD_CONTENT_MAX ? size : ZSTD_CONTENT_MAX;
  for (i = 0; i < 3; i++)
    if (d->recent[i] == 0 || d->recent[i] > d->size)
      return false;
  memcpy (d->content, p + size - d->size, d->size);
  enter_content (d);
  return true;
}

static bool
digest (struct zstd_dictionary *d, const unsigned char *p, size_t size)
{
  const unsigned char *end = p + size;
  unsigned i;
  size_t n;

  if (size < MAGIC_SIZE
      || memcmp (p, dictionary_magic, sizeof dictionary_magic) != 0)
    return false;
  p += MAGIC_SIZE;
  n = zstd_huffman_read (&d->huffman, p, end - p);
  for (i = 0; n && i < NR_CODES; i++) {
    p += n;
    n = zstd_fse_read (&d->fse[table_order[i]], p, end - p,
                       code_limits[table_order[i]].log_max,
                       code_limits[table_order[i]].last);
  }
  return n && read_content (d, p + n, end - (p + n));
}

/* What the format has where there is no dictionary (RFC 8878, 3.1.1.3.2.2)
 */
static const int8_t literals_states[36] = {
  4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1,
  2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1,
};

static const int8_t offsets_states[29] = {
  1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1,
  1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1,
};

static const int8_t matches_states[53] = {
  1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1,
  1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
  1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
};

struct zstd_dictionary *
zstd_dictionary_none (void)
{
  struct zstd_dictionary *d = calloc (1, sizeof *d);

  if (d == NULL)
    return NULL;
  d->none = true;
  memcpy (d->recent, first_recent, sizeof first_recent);
  zstd_fse_set (&d->fse[LITERALS], literals_states, 36, 6);
  zstd_fse_set (&d->fse[OFFSETS], offsets_states, 29, 5);
  zstd_fse_set (&d->fse[MATCHES], matches_states, 53, 6);
  return d;
}

struct zstd_dictionary *
zstd_dictionary_create (const void *dictionary, size_t size)
{
  struct zstd_dictionary *d = calloc (1, sizeof *d);

  if (d && digest (d, dictionary, size))
    return d;
  free (d);
  return NULL;
}

void
zstd_dictionary_free (struct zstd_dictionary *d)
{
  free (d);
}

size_t
zstd_dictionary_size (const struct zstd_dictionary *d)
{
  return d ? sizeof *d : 0;
}

/* All of it is touched, as a request must not be the first to do so; with
 * zeroes compilers would call calloc.
 */
struct zstd_page *
zstd_page_create (void)
{
  struct zstd_page *z = malloc (sizeof *z);

  if (z)
    memset (z, -1, sizeof *z);
  return z;
}

void
zstd_page_free (struct zstd_page *z)
{
  free (z);
}

size_t
zstd_page_size (const struct zstd_page *z)
{
  return z ? sizeof *z : 0;
}

void
zstd_page_prepare (struct zstd_page *z, const struct zstd_dictionary *d)
{
  memcpy (z->bytes, d->content, d->size);
}

/* ---- Finding matches ----------------------------------------------- */

struct input {
  const unsigned char *bytes;   /* content, page */
  size_t end;
};

struct match {
  size_t start, source, end;    /* positions */
};

/* Where two positions, that are equal so far, begin to differ. */
static size_t
compare (const struct input *in, size_t position, size_t source)
{
  for (; position + 8 <= in->end; position += 8, source += 8) {
    uint64_t difference = load (in->bytes + position)
      ^ load (in->bytes + source);

    if (difference)
      return position + first_byte (difference);
  }
  while (position < in->end && in->bytes[position] == in->bytes[source])
    position++, source++;
  return position;
}

/* The same for two that have eight bytes in common. */
static inline size_t
compare_long (const struct input *in, size_t position, size_t source)
{
  uint64_t a, b;

  if (!likely (position + 24 <= in->end))
    return compare (in, position + 8, source + 8);
  a = load (in->bytes + position + 8) ^ load (in->bytes + source + 8);
  b = load (in->bytes + position + 16) ^ load (in->bytes + source + 16);
  if (!likely (a | b))
    return compare (in, position + 24, source + 24);
  return position + (a ? 8 : 16) + first_byte (a ? a : b);
}

/* Whether NR bytes at SOURCE are those at the match's start. */
static inline bool
is_match (const struct input *in, uint64_t word, size_t source, unsigned nr,
          struct match *match)
{
  uint64_t difference = load (in->bytes + source) ^ word;

  if (difference << (64 - 8 * nr) != 0)
    return false;
  match->source = source;
  match->end = likely (difference)
    ? match->start + first_byte (difference)
    : compare (in, match->start + 8, source + 8);
  return true;
}

/* Try a position and enter it into the tables.  Those never name what is
 * not before it, but one whose entry is 0 may be the first.
 */
static inline bool
try (struct zstd_page *z, const struct input *in, size_t position,
     const uint32_t *recent, struct match *match)
{
  uint64_t word = load (in->bytes + position), hash = hash_of (word);
  uint16_t *w = word_entry (&z->tables, hash);
  uint16_t *s = start_entry (&z->tables, hash);
  size_t word_source = *w, start_source = *s;

  *w = position;
  *s = position;
  match->start = position;
  if (is_match (in, word, position - recent[0], MIN_MATCH, match)
      || is_match (in, word, position - recent[1], MIN_MATCH, match))
    return true;
  if (load (in->bytes + word_source) == word && word_source < position) {
    match->source = word_source;
    match->end = compare_long (in, position, word_source);
    return true;
  }
  return is_match (in, word, start_source, START, match)
    && start_source < position;
}

/* Find the next match from a position on, as in lz4-page.c.  A word that
 * is read begins at LAST or before it.
 */
static inline bool
find (struct zstd_page *z, const struct input *in, size_t position,
      size_t even, const uint32_t *recent, struct match *match)
{
  const size_t last = in->end - 8;
  size_t skip = 1, limit;

  do {
    limit = position + STAGE < last ? position + STAGE : last;
    for (; likely (position <= limit); position = (position | even) + skip)
      if (try (z, in, position, recent, match))
        return true;
    skip += 2;
  } while (position <= last);
  return false;
}

/* The byte before a match, if it is a literal, may belong to it. */
static inline void
extend_back (const struct input *in, size_t anchor, struct match *match)
{
  size_t literals = match->start - anchor, n;

  if (!likely (match->source))
    return;
  n = in->bytes[match->start - 1] == in->bytes[match->source - 1];
  n = n < literals ? n : literals;
  match->start -= n;
  match->source -= n;
}

/* ---- Sequences ----------------------------------------------------- */

/* The codes of lengths of literals from 16 to 63, each for 8, and of
 * matches from 32 to 127.
 */
static const uint8_t literals_codes[64] = {
  0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
  16, 16, 17, 17, 18, 18, 19, 19, 20, 20, 20, 20, 21, 21, 21, 21,
  22, 22, 22, 22, 22, 22, 22, 22, 23, 23, 23, 23, 23, 23, 23, 23,
  24, 24, 24, 24, 24, 24, 24, 24, 24, 24, 24, 24, 24, 24, 24, 24,
};

static const uint8_t literals_bits[36] = {
  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
  1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
};

static const uint8_t matches_codes[128] = {
  0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
  16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
  32, 32, 33, 33, 34, 34, 35, 35, 36, 36, 36, 36, 37, 37, 37, 37,
  38, 38, 38, 38, 38, 38, 38, 38, 39, 39, 39, 39, 39, 39, 39, 39,
  40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40,
  41, 41, 41, 41, 41, 41, 41, 41, 41, 41, 41, 41, 41, 41, 41, 41,
  42, 42, 42, 42, 42, 42, 42, 42, 42, 42, 42, 42, 42, 42, 42, 42,
  42, 42, 42, 42, 42, 42, 42, 42, 42, 42, 42, 42, 42, 42, 42, 42,
};

static const uint8_t matches_bits[53] = {
  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
  1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
};

static inline unsigned
literals_code (unsigned literals)
{
  return likely (literals < 64) ? literals_codes[literals]
    : high_bit (literals) + 19;
}

static inline unsigned
matches_code (unsigned length)
{
  return likely (length < 128) ? matches_codes[length]
    : high_bit (length) + 36;
}

/* What an offset is called, and the recent ones after it.  Without
 * literals the most recent one would only have made the match before
 * longer, so the names mean others then.
 */
static inline uint32_t
name_offset (uint32_t offset, size_t literals, uint32_t *recent)
{
  uint32_t a = recent[0], b = recent[1], c = recent[2];

  if (offset == a && literals)
    return 1;
  recent[0] = offset;
  recent[1] = a;
  if (offset == b)
    return literals ? 2 : 1;
  recent[2] = b;
  if (offset == c)
    return literals ? 3 : 2;
  return offset == a - 1 && literals == 0 ? 3 : offset + 3;
}

/* Without content the first offsets lead nowhere before this position. */
#define FIRST 8

/* Take the page apart.  Returns the number of sequences, and in *END
 * where the literals end.
 */
static size_t
find_sequences (struct zstd_page *z, const struct zstd_dictionary *d,
                unsigned char **end)
{
  const struct input in = { z->bytes, d->size + ZRAM_PAGE_SIZE };
  uint32_t recent[3] = { d->recent[0], d->recent[1], d->recent[2] };
  struct sequence *sequence = z->sequences;
  unsigned char *literals = z->literals;
  struct match match = { .end = d->size ? d->size : FIRST };
  size_t anchor = d->size, n, even = 0;

  while (find (z, &in, match.end, even, recent, &match)) {
    extend_back (&in, anchor, &match);
    n = match.start - anchor;
    memcpy (literals, in.bytes + anchor, 16);
    if (!likely (n <= 16))
      memcpy (literals, in.bytes + anchor, n);
    literals += n;
    even = (match.start - match.source) % 4 == 0;
    sequence->literals = n;
    sequence->length = match.end - match.start - 3;
    sequence->offset = name_offset (match.start - match.source, n, recent);
    sequence->codes[LITERALS] = literals_code (sequence->literals);
    sequence->codes[MATCHES] = matches_code (sequence->length);
    sequence->codes[OFFSETS] = high_bit (sequence->offset);
    sequence++;
    anchor = match.end;
  }
  memcpy (literals, in.bytes + anchor, in.end - anchor);
  *end = literals + (in.end - anchor);
  return sequence - z->sequences;
}

/* ---- Writing literals ---------------------------------------------- */

/* What is written, and how far it may go. */
struct output {
  unsigned char *out, *end;
};

static bool
has_room (const struct output *o, size_t size)
{
  return size <= (size_t) (o->end - o->out);
}

/* N times its logarithm, in sixteenths.  No branch for those that are
 * not known beforehand.
 */
static const uint16_t times_logs[64] = {
  0, 0, 32, 76, 128, 186, 248, 314,
  384, 456, 532, 609, 688, 770, 853, 938,
  1024, 1112, 1201, 1291, 1383, 1476, 1570, 1665,
  1761, 1858, 1955, 2054, 2154, 2254, 2355, 2457,
  2560, 2663, 2768, 2872, 2978, 3084, 3191, 3298,
  3406, 3515, 3624, 3733, 3843, 3954, 4065, 4177,
  4289, 4402, 4515, 4629, 4743, 4857, 4972, 5088,
  5203, 5320, 5436, 5553, 5671, 5788, 5907, 6025,
};

static inline unsigned
times_log (unsigned n)
{
  return likely (n < 64) ? times_logs[n] : n * zstd_log2 (n) / 64;
}

static void
count_bytes (const unsigned char *p, size_t n, uint16_t *counts)
{
  uint16_t more[3][256] = { 0 };
  size_t i;

  memset (counts, 0, 256 * sizeof *counts);
  for (i = 0; i + 4 <= n; i += 4) {
    counts[p[i]]++;
    more[0][p[i + 1]]++;
    more[1][p[i + 2]]++;
    more[2][p[i + 3]]++;
  }
  for (; i < n; i++)
    counts[p[i]]++;
  for (i = 0; i < 256; i++)
    counts[i] += more[0][i] + more[1][i] + more[2][i];
}

/* The bits that literals take. */
static size_t
huffman_cost (const struct zstd_huffman *huffman, const uint16_t *counts)
{
  size_t i, sum = 0;

  for (i = 0; i < 256; i++)
    sum += counts[i] * (huffman->codes[i] >> 12);
  return sum;
}

/* The bits that they would take with a code of their own, about. */
static size_t
own_huffman_cost (const uint16_t *counts, size_t n)
{
  unsigned i, nr = 0, sum = 0;

  for (i = 0; i < 256; i++) {
    sum += times_log (counts[i]);
    nr += counts[i] != 0;
  }
  return (times_log (n) - sum) / 16 + nr * DESCRIPTION_LITERAL + DESCRIPTION;
}

/* A stream begins with the last literal. */
static unsigned char *
put_stream (const struct zstd_huffman *huffman, const unsigned char *p,
            size_t n, unsigned char *out)
{
  struct zstd_bits b = { .out = out };
  const uint16_t *codes = huffman->codes;

  for (; n % 4; n--)
    zstd_put (&b, codes[p[n - 1]] & 0xfff, codes[p[n - 1]] >> 12);
  zstd_flush (&b);
  for (; n; n -= 4) {
    unsigned w = codes[p[n - 1]], x = codes[p[n - 2]];
    unsigned y = codes[p[n - 3]], z = codes[p[n - 4]];
    uint64_t wx = (w & 0xfff) | (x & 0xfff) << (w >> 12);
    uint64_t yz = (y & 0xfff) | (z & 0xfff) << (y >> 12);
    unsigned nr = (w >> 12) + (x >> 12);

    zstd_put (&b, wx | yz << nr, nr + (y >> 12) + (z >> 12));
    zstd_flush (&b);
  }
  return zstd_end (&b);
}

static unsigned char *
put_streams (const struct zstd_huffman *huffman, const unsigned char *p,
             size_t n, unsigned char *out)
{
  unsigned char *sizes = out;
  size_t part = (n + 3) / 4, size;
  unsigned i;

  if (n < ONE_STREAM)
    return put_stream (huffman, p, n, out);
  out += 6;
  for (i = 0; i < 3; i++, p += part) {
    unsigned char *end = put_stream (huffman, p, part, out);

    size = end - out;
    sizes[2 * i] = size;
    sizes[2 * i + 1] = size >> 8;
    out = end;
  }
  return put_stream (huffman, p, n - 3 * part, out);
}

/* Kinds of literals. */
enum { RAW = 0, COMPRESSED = 2, TREELESS = 3 };

/* The header of literals with a Huffman code. */
static void
put_literals_header (unsigned char *p, unsigned kind, size_t n, size_t size)
{
  uint32_t header;

  if (n < ONE_STREAM) {
    header = kind | n << 4 | size << 14;
    p[2] = header >> 16;
  }
  else {
    header = kind | 2 << 2 | n << 4 | size << 18;
    p[2] = header >> 16;
    p[3] = header >> 24;
  }
  p[0] = header;
  p[1] = header >> 8;
}

static bool
put_raw_literals (const unsigned char *p, size_t n, struct output *o)
{
  if (!has_room (o, 2 + n))
    return false;
  if (n < 32)
    *o->out++ = RAW | n << 3;
  else {
    *o->out++ = RAW | 1 << 2 | (n & 15) << 4;
    *o->out++ = n >> 4;
  }
  memcpy (o->out, p, n);
  o->out += n;
  return true;
}

/* The most that streams of so many bits take, and their header. */
static size_t
streams_size (size_t n, size_t bits)
{
  return n < ONE_STREAM ? 3 + bits / 8 + 1 : 4 + 6 + bits / 8 + 4;
}

static bool
put_literals (const struct zstd_dictionary *d, const unsigned char *p,
              size_t n, struct output *o)
{
  const struct zstd_huffman *huffman = &d->huffman;
  unsigned char description[ZSTD_HUFFMAN_DESCRIPTION], *start = o->out, *q;
  unsigned header = n < ONE_STREAM ? 3 : 4;
  size_t size = 0, bits, own_bits;
  struct zstd_huffman own;
  uint16_t counts[256];

  count_bytes (p, n, counts);
  bits = d->none ? 8 * n : huffman_cost (huffman, counts);
  if (n >= (d->none ? OWN_LITERALS_NONE : OWN_LITERALS)
      && own_huffman_cost (counts, n)
         + (d->none ? GAIN_NONE : GAIN_LITERALS) < bits) {
    size = zstd_huffman_make (&own, counts, description);
    own_bits = huffman_cost (&own, counts);
    if (size && own_bits + 8 * size < bits) {
      bits = own_bits;
      huffman = &own;
    }
    else
      size = 0;
  }
  if (streams_size (n, bits) + size >= n + 2 || (d->none && size == 0))
    return put_raw_literals (p, n, o);
  if (!has_room (o, streams_size (n, bits) + size))
    return false;
  q = start + header;
  memcpy (q, description, size);
  o->out = put_streams (huffman, p, n, q + size);
  put_literals_header (start, size ? COMPRESSED : TREELESS, n, o->out - q);
  return true;
}

/* ---- Writing sequences --------------------------------------------- */

/* How often each code occurs. */
static void
count_codes (const struct sequence *sequences, size_t n,
             uint16_t (*counts)[SYMBOLS_MAX])
{
  size_t i;

  memset (counts, 0, NR_CODES * sizeof *counts);
  for (i = 0; i < n; i++) {
    counts[LITERALS][sequences[i].codes[LITERALS]]++;
    counts[MATCHES][sequences[i].codes[MATCHES]]++;
    counts[OFFSETS][sequences[i].codes[OFFSETS]]++;
  }
}

/* Whether a table of its own would be better, about. */
static bool
wants_own (const struct zstd_fse *fse, const uint16_t *counts, size_t n,
           unsigned last, unsigned gain)
{
  unsigned own = times_log (n), ours = 0, i, nr = 0;

  for (i = 0; i <= last; i++) {
    own -= times_log (counts[i]);
    ours += counts[i] * fse->cost[i];
    nr += counts[i] != 0;
  }
  return own / 16 + nr * DESCRIPTION_CODE + DESCRIPTION + gain
    < ours / 16;
}

/* Modes of codes. */
enum { PREDEFINED = 0, OWN = 2, REPEAT = 3 };

/* Choose the tables, and write the header. */
static bool
choose_tables (const struct zstd_dictionary *d,
               const struct sequence *sequences, size_t n,
               struct zstd_fse *own, const struct zstd_fse **fse,
               struct output *o)
{
  uint16_t counts[NR_CODES][SYMBOLS_MAX];
  unsigned char *modes = o->out++;
  unsigned i;

  *modes = 0;
  if (n >= OWN_SEQUENCES)
    count_codes (sequences, n, counts);
  for (i = 0; i < NR_CODES; i++) {
    size_t size = 0;

    fse[i] = &d->fse[i];
    if (n >= OWN_SEQUENCES
        && wants_own (fse[i], counts[i], n, code_limits[i].last,
                      d->none ? GAIN_NONE : GAIN_CODES)) {
      if (!has_room (o, ZSTD_FSE_DESCRIPTION))
        return false;
      size = zstd_fse_make (&own[i], counts[i], code_limits[i].last + 1, n,
                            code_limits[i].log_max, o->out);
    }
    if (size)
      fse[i] = &own[i];
    *modes |= (size ? OWN : d->none ? PREDEFINED : REPEAT) << (6 - 2 * i);
    o->out += size;
  }
  return true;
}

/* What a sequence has beside its codes. */
static inline void
put_rest (const struct sequence *s, struct zstd_bits *b)
{
  unsigned nr = literals_bits[s->codes[LITERALS]];

  zstd_put (b, s->literals & ((1u << nr) - 1), nr);
  nr = matches_bits[s->codes[MATCHES]];
  zstd_put (b, s->length & ((1u << nr) - 1), nr);
  nr = s->codes[OFFSETS];
  zstd_put (b, s->offset & ((1u << nr) - 1), nr);
  zstd_flush (b);
}

/* The most that a sequence takes: twice 57 bits. */
#define SEQUENCE_MAX 16

/* From the last one to the first. */
static bool
put_codes (const struct zstd_fse *const *fse,
           const struct sequence *sequences, size_t n, struct output *o)
{
  struct zstd_bits b = { .out = o->out };
  const struct sequence *s = &sequences[n - 1];
  unsigned literals = zstd_fse_first (fse[LITERALS], s->codes[LITERALS]);
  unsigned match = zstd_fse_first (fse[MATCHES], s->codes[MATCHES]);
  unsigned offset = zstd_fse_first (fse[OFFSETS], s->codes[OFFSETS]);

  put_rest (s, &b);
  while (s-- > sequences) {
    if (b.out > o->end)
      return false;
    offset = zstd_fse_next (fse[OFFSETS], s->codes[OFFSETS], offset, &b);
    match = zstd_fse_next (fse[MATCHES], s->codes[MATCHES], match, &b);
    literals = zstd_fse_next (fse[LITERALS], s->codes[LITERALS], literals,
                              &b);
    zstd_flush (&b);
    put_rest (s, &b);
  }
  zstd_fse_last (fse[MATCHES], match, &b);
  zstd_fse_last (fse[OFFSETS], offset, &b);
  zstd_fse_last (fse[LITERALS], literals, &b);
  zstd_flush (&b);
  o->out = zstd_end (&b);
  return o->out <= o->end;
}

static bool
put_sequences (const struct zstd_dictionary *d,
               const struct sequence *sequences, size_t n, struct output *o)
{
  const struct zstd_fse *fse[NR_CODES];
  struct zstd_fse own[NR_CODES];

  if (!has_room (o, 3))
    return false;
  if (n >= 128)
    *o->out++ = (n >> 8) + 128;
  *o->out++ = n;
  if (n == 0)
    return true;
  return choose_tables (d, sequences, n, own, fse, o)
    && put_codes (fse, sequences, n, o);
}

/* ---- A page -------------------------------------------------------- */

/* As find_sequences. */
static size_t
take_apart (struct zstd_page *z, const struct zstd_dictionary *d,
            const void *page, unsigned char **end)
{
  z->tables = d->tables;
  memcpy (z->bytes + d->size, page, ZRAM_PAGE_SIZE);
  return find_sequences (z, d, end);
}

size_t
zstd_page_compress (struct zstd_page *z, const struct zstd_dictionary *d,
                    const void *page, void *dst, size_t max)
{
  struct output o = { dst, (unsigned char *) dst + max };
  unsigned char *end;
  size_t n;

  n = take_apart (z, d, page, &end);
  if (!put_literals (d, z->literals, end - z->literals, &o)
      || !put_sequences (d, z->sequences, n, &o))
    return 0;
  return o.out - (unsigned char *) dst;
}

/* ---- Training ------------------------------------------------------ */

/* How often what occurs in sample pages. */
struct census {
  uint32_t bytes[256];
  uint32_t codes[NR_CODES][SYMBOLS_MAX];
};

/* Of so many, as counts of 16 bits. */
#define CENSUS_SCALE 30000

static void
add_counts (uint32_t *sums, const uint16_t *counts, unsigned nr)
{
  unsigned i;

  for (i = 0; i < nr; i++)
    sums[i] += counts[i];
}

static void
take_census (struct zstd_page *z, const struct zstd_dictionary *d,
             const unsigned char *pages, size_t nr_pages, struct census *c)
{
  uint16_t bytes[256], codes[NR_CODES][SYMBOLS_MAX];
  unsigned char *end;
  unsigned i;
  size_t n;

  memset (c, 0, sizeof *c);
  for (; nr_pages--; pages += ZRAM_PAGE_SIZE) {
    n = take_apart (z, d, pages, &end);
    count_bytes (z->literals, end - z->literals, bytes);
    add_counts (c->bytes, bytes, 256);
    count_codes (z->sequences, n, codes);
    for (i = 0; i < NR_CODES; i++)
      add_counts (c->codes[i], codes[i], SYMBOLS_MAX);
  }
}

/* Once at least each, as what does not occur may do so in other pages.
 * Returns their sum.
 */
static unsigned
scale_counts (const uint32_t *sums, unsigned nr, uint16_t *counts)
{
  uint64_t sum = 1;
  unsigned i, total = 0;

  for (i = 0; i < nr; i++)
    sum += sums[i];
  for (i = 0; i < nr; i++) {
    counts[i] = 1 + sums[i] * CENSUS_SCALE / sum;
    total += counts[i];
  }
  return total;
}

/* Write the tables as a dictionary has them.  False if that cannot be. */
static bool
put_tables (const struct census *c, struct output *o)
{
  struct zstd_huffman huffman;
  struct zstd_fse fse;
  uint16_t counts[256];
  unsigned i, total, nr;
  size_t n;

  scale_counts (c->bytes, 256, counts);
  n = zstd_huffman_make (&huffman, counts, o->out);
  if (n == 0) {                 /* that all are alike cannot be told */
    counts[0] *= 4;
    n = zstd_huffman_make (&huffman, counts, o->out);
  }
  o->out += n;
  for (i = 0; n && i < NR_CODES; i++) {
    nr = code_limits[table_order[i]].last + 1;
    total = scale_counts (c->codes[table_order[i]], nr, counts);
    n = zstd_fse_make (&fse, counts, nr, total,
                       code_limits[table_order[i]].log_max, o->out);
    o->out += n;
  }
  return n != 0;
}

/* Everything that matters to find matches with some content. */
static struct zstd_dictionary *
start_dictionary (const void *content, size_t size)
{
  struct zstd_dictionary *d = calloc (1, sizeof *d);

  if (d == NULL)
    return NULL;
  memcpy (d->recent, first_recent, sizeof first_recent);
  memcpy (d->content, content, size);
  d->size = size;
  enter_content (d);
  return d;
}

static void
put_content (const struct zstd_dictionary *d, struct output *o)
{
  unsigned i;

  for (i = 0; i < 3; i++) {
    uint32_t n = htole32 (d->recent[i]);

    memcpy (o->out, &n, sizeof n);
    o->out += sizeof n;
  }
  memcpy (o->out, d->content, d->size);
  o->out += d->size;
}

size_t
zstd_dictionary_train (const void *content, size_t size,
                       const unsigned char *pages, size_t nr_pages,
                       unsigned char *dst)
{
  struct zstd_dictionary *d = start_dictionary (content, size);
  struct zstd_page *z = zstd_page_create ();
  struct output o = { .out = dst };
  struct census census;
  bool ok = false;

  if (d && z) {
    zstd_page_prepare (z, d);
    take_census (z, d, pages, nr_pages, &census);
    memcpy (o.out, dictionary_magic, sizeof dictionary_magic);
    memset (o.out + 4, 1, 4);   /* its number, which frames do not tell */
    o.out += MAGIC_SIZE;
    ok = put_tables (&census, &o);
    put_content (d, &o);
  }
  zstd_dictionary_free (d);
  zstd_page_free (z);
  return ok ? o.out - dst : 0;
}
