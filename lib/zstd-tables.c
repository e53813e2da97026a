/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The entropy tables of zstd: finite state entropy (FSE) for the codes of
 * sequences and for the lengths of Huffman codes, and Huffman codes for
 * literals.  RFC 8878, sections 4.1 and 4.2, says what they look like, and
 * leaves to the compressor which it makes.
 *
 * libzstd keeps to itself how it encodes with the tables of a dictionary.
 * So we read them here, and make what is to be made for a single page.
 * What is read comes from a dictionary that libzstd has taken, but we rely
 * on none of it: what is not as expected is refused, and then libzstd
 * compresses.
 */

#include <config.h>

#include "zstd-tables.h"

#define LOG_MIN 5               /* of any FSE table */
#define WEIGHTS_LOG_MAX 6       /* of that for weights */
#define WEIGHTS_MAX 255         /* one is not told */
#define WEIGHT_MAX ZSTD_HUFFMAN_LOG_MAX

static unsigned
high_bit (unsigned x)
{
  return 31 - __builtin_clz (x);
}

/* ---- FSE: how often symbols are expected --------------------------- */

/* How many of the states a symbol has; -1 is one as well, at the end. */
struct expected {
  int16_t states[ZSTD_FSE_SYMBOLS];
  unsigned nr;                  /* symbols */
  unsigned log;                 /* of all states */
};

/* Bits, the first lowest, of SIZE bytes; zeroes behind them. */
struct source {
  const unsigned char *bytes;
  size_t size;
  size_t position;              /* in bits */
};

static unsigned
peek (const struct source *s, unsigned nr)
{
  size_t first = s->position / 8, i;
  uint32_t word = 0;

  for (i = 0; i < 4 && first + i < s->size; i++)
    word |= (uint32_t) s->bytes[first + i] << 8 * i;
  return word >> s->position % 8 & ((1u << nr) - 1);
}

static unsigned
take (struct source *s, unsigned nr)
{
  unsigned value = peek (s, nr);

  s->position += nr;
  return value;
}

/* A number from 0 to MAX.  The small ones take a bit less. */
static unsigned
take_below (struct source *s, unsigned max)
{
  unsigned nr = high_bit (max) + 1;
  unsigned half = 1u << (nr - 1), nr_short = 2 * half - 1 - max;
  unsigned value = peek (s, nr);

  if ((value & (half - 1)) < nr_short) {
    s->position += nr - 1;
    return value & (half - 1);
  }
  s->position += nr;
  return value < half ? value : value - nr_short;
}

/* How many symbols do not occur, after one that does not. */
static unsigned
take_absent (struct source *s)
{
  unsigned nr = 0, n;

  do
    nr += n = take (s, 2);
  while (n == 3 && nr < ZSTD_FSE_SYMBOLS);
  return nr;
}

/* Returns the size of the description, or 0. */
static size_t
read_expected (struct expected *e, const unsigned char *p, size_t size,
               unsigned log_max)
{
  struct source s = { p, size, 0 };
  int left;

  memset (e, 0, sizeof *e);
  e->log = take (&s, 4) + LOG_MIN;
  if (e->log > log_max)
    return 0;
  for (left = 1 << e->log; left > 0 && e->nr < ZSTD_FSE_SYMBOLS; ) {
    int states = (int) take_below (&s, left + 1) - 1;

    left -= states < 0 ? 1 : states;
    e->states[e->nr++] = states;
    if (states == 0)
      e->nr += take_absent (&s);
  }
  if (left != 0 || e->nr > ZSTD_FSE_SYMBOLS || s.position > 8 * size)
    return 0;
  return (s.position + 7) / 8;
}

static void
put_below (struct zstd_bits *b, unsigned value, unsigned max)
{
  unsigned nr = high_bit (max) + 1;
  unsigned half = 1u << (nr - 1), nr_short = 2 * half - 1 - max;

  if (value < nr_short)
    zstd_put (b, value, nr - 1);
  else
    zstd_put (b, value < half ? value : value + nr_short, nr);
}

/* The opposite of read_expected; no symbol has -1, the last has some. */
static size_t
write_expected (const struct expected *e, unsigned char *out)
{
  struct zstd_bits b = { .out = out };
  unsigned left = 1u << e->log, i, absent;

  zstd_put (&b, e->log - LOG_MIN, 4);
  for (i = 0; i < e->nr; i++) {
    put_below (&b, e->states[i] + 1, left + 1);
    zstd_flush (&b);
    left -= e->states[i];
    if (e->states[i])
      continue;
    for (absent = 0; e->states[i + 1] == 0; i++)
      absent++;
    for (; absent >= 3; absent -= 3) {
      zstd_put (&b, 3, 2);
      zstd_flush (&b);
    }
    zstd_put (&b, absent, 2);
    zstd_flush (&b);
  }
  zstd_flush (&b);
  return b.out + (b.nr > 0) - out;
}

/* States in proportion to COUNTS, at least one for each that occurs.  What
 * is left over or too much is the most frequent one's.
 */
static bool
make_expected (struct expected *e, const uint16_t *counts, unsigned nr,
               unsigned total, unsigned log)
{
  unsigned i, most = 0;
  int left = 1 << log;

  memset (e, 0, sizeof *e);
  e->log = log;
  for (i = 0; i < nr; i++) {
    if (counts[i] == 0)
      continue;
    e->nr = i + 1;
    e->states[i] = (((unsigned) counts[i] << log) + total / 2) / total;
    if (e->states[i] == 0)
      e->states[i] = 1;
    left -= e->states[i];
    if (counts[i] > counts[most])
      most = i;
  }
  e->states[most] += left;
  return counts[most] != total && e->states[most] > 0;
}

/* ---- FSE: tables --------------------------------------------------- */

/* Which symbol each state is of. */
static void
spread (const struct expected *e, uint8_t *symbols)
{
  unsigned size = 1u << e->log, step = size / 2 + size / 8 + 3;
  unsigned high = size - 1, position = 0, i;
  int n;

  for (i = 0; i < e->nr; i++)
    if (e->states[i] == -1)
      symbols[high--] = i;
  for (i = 0; i < e->nr; i++)
    for (n = 0; n < e->states[i]; n++) {
      symbols[position] = i;
      do
        position = (position + step) & (size - 1);
      while (position > high);
    }
}

static unsigned
nr_states (const struct expected *e, unsigned symbol)
{
  return e->states[symbol] < 0 ? 1 : e->states[symbol];
}

static void
make_symbol (struct zstd_fse *fse, unsigned symbol, unsigned first,
             unsigned states)
{
  /* The states of a symbol are reached by so many bits, or one less. */
  unsigned nr = states == 1 ? fse->log : fse->log - high_bit (states - 1);

  fse->symbols[symbol].bits = (nr << 16) - (states << nr);
  fse->symbols[symbol].find = (int) first - (int) states;
  fse->cost[symbol] = 16 * fse->log - zstd_log2 (states) / 64;
}

static void
make_fse (struct zstd_fse *fse, const struct expected *e)
{
  unsigned size = 1u << e->log, first = 0, i;
  uint16_t next[ZSTD_FSE_SYMBOLS];
  uint8_t symbols[1 << ZSTD_FSE_LOG_MAX];

  spread (e, symbols);
  fse->log = e->log;
  for (i = 0; i < e->nr; i++) {
    next[i] = first;
    if (e->states[i])
      make_symbol (fse, i, first, nr_states (e, i));
    first += nr_states (e, i);
  }
  for (i = 0; i < size; i++)
    fse->states[next[symbols[i]]++] = size + i;
}

size_t
zstd_fse_read (struct zstd_fse *fse, const unsigned char *p, size_t size,
               unsigned log_max, unsigned last)
{
  struct expected e;
  size_t n = read_expected (&e, p, size, log_max);
  unsigned i;

  if (n == 0 || e.nr <= last)
    return 0;
  for (i = 0; i <= last; i++)
    if (e.states[i] == 0)
      return 0;
  make_fse (fse, &e);
  return n;
}

void
zstd_fse_set (struct zstd_fse *fse, const int8_t *states, unsigned nr,
              unsigned log)
{
  struct expected e = { .nr = nr, .log = log };
  unsigned i;

  for (i = 0; i < nr; i++)
    e.states[i] = states[i];
  make_fse (fse, &e);
}

/* So many states that the description does not cost more than they gain. */
static unsigned
best_log (unsigned total, unsigned log_max)
{
  unsigned log = high_bit (total) - 1;

  return log < LOG_MIN ? LOG_MIN : log < log_max ? log : log_max;
}

size_t
zstd_fse_make (struct zstd_fse *fse, const uint16_t *counts, unsigned nr,
               unsigned total, unsigned log_max, unsigned char *out)
{
  struct expected e;

  if (total < 2
      || !make_expected (&e, counts, nr, total, best_log (total, log_max)))
    return 0;
  make_fse (fse, &e);
  return write_expected (&e, out);
}

/* ---- Huffman codes: weights ---------------------------------------- */

/* A code of a bit less has twice the weight, and a weight one higher.  A
 * weight of 0 is a byte without a code.
 */
struct weights {
  uint8_t weights[256];
  unsigned nr;                  /* the last one has a code */
};

/* Where in the stream of states we are: it is read from its end. */
struct backward {
  const unsigned char *bytes;
  long position;                /* bits before it are not yet read */
};

/* Zeroes once all is read. */
static unsigned
take_back (struct backward *b, unsigned nr)
{
  unsigned value = 0;

  while (nr--) {
    b->position--;
    value <<= 1;
    if (b->position >= 0)
      value |= b->bytes[b->position / 8] >> b->position % 8 & 1;
  }
  return value;
}

/* Decode with two states in turns, until more was read than there is. */
static bool
decode_weights (struct weights *w, const struct expected *e,
                const unsigned char *p, size_t size)
{
  struct backward b = { p };
  unsigned next[ZSTD_FSE_SYMBOLS], i, state[2], total = 1u << e->log;
  struct { uint8_t symbol, nr; uint16_t base; } states[1 << WEIGHTS_LOG_MAX];
  uint8_t symbols[1 << WEIGHTS_LOG_MAX];

  if (size == 0 || p[size - 1] == 0)
    return false;
  b.position = 8 * (size - 1) + high_bit (p[size - 1]);
  spread (e, symbols);
  for (i = 0; i < e->nr; i++)
    next[i] = nr_states (e, i);
  for (i = 0; i < total; i++) {
    unsigned x = next[symbols[i]]++, nr = e->log - high_bit (x);

    states[i].symbol = symbols[i];
    states[i].nr = nr;
    states[i].base = (x << nr) - total;
  }
  state[0] = take_back (&b, e->log);
  state[1] = take_back (&b, e->log);
  for (i = 0; w->nr < WEIGHTS_MAX - 1; i ^= 1) {
    w->weights[w->nr++] = states[state[i]].symbol;
    state[i] = states[state[i]].base
      + take_back (&b, states[state[i]].nr);
    if (b.position < 0) {
      w->weights[w->nr++] = states[state[i ^ 1]].symbol;
      return true;
    }
  }
  return false;
}

/* Returns the size of the description, or 0.  The last weight is not in
 * it.
 */
static size_t
read_weights (struct weights *w, const unsigned char *p, size_t size)
{
  struct expected e;
  size_t n, i;

  memset (w, 0, sizeof *w);
  if (size == 0 || size < 1u + (p[0] < 128 ? p[0] : (p[0] - 126) / 2))
    return 0;
  if (p[0] >= 128) {
    w->nr = p[0] - 127;
    for (i = 0; i < w->nr; i++)
      w->weights[i] = p[1 + i / 2] >> (i % 2 ? 0 : 4) & 15;
    return 1 + (w->nr + 1) / 2;
  }
  n = read_expected (&e, p + 1, p[0], WEIGHTS_LOG_MAX);
  if (n == 0 || !decode_weights (w, &e, p + 1 + n, p[0] - n))
    return 0;
  return 1 + p[0];
}

/* With two states in turns, from the last one to the first. */
static unsigned char *
encode_weights (const struct zstd_fse *fse, const struct weights *w,
                unsigned nr, unsigned char *out)
{
  struct zstd_bits b = { .out = out };
  unsigned state[2], i = nr - 1;

  state[i & 1] = zstd_fse_first (fse, w->weights[i]);
  i--;
  state[i & 1] = zstd_fse_first (fse, w->weights[i]);
  while (i--) {
    state[i & 1] = zstd_fse_next (fse, w->weights[i], state[i & 1], &b);
    zstd_flush (&b);
  }
  zstd_fse_last (fse, state[1], &b);
  zstd_fse_last (fse, state[0], &b);
  zstd_flush (&b);
  return zstd_end (&b);
}

static size_t
write_weights (const struct weights *w, unsigned char *out)
{
  uint16_t counts[WEIGHT_MAX + 1] = { 0 };
  unsigned nr = w->nr - 1, i;   /* those that are told */
  struct zstd_fse fse;
  size_t n;

  for (i = 0; i < nr; i++)
    counts[w->weights[i]]++;
  n = zstd_fse_make (&fse, counts, WEIGHT_MAX + 1, nr, WEIGHTS_LOG_MAX,
                     out + 1);
  if (n) {
    n = encode_weights (&fse, w, nr, out + 1 + n) - (out + 1);
    if (n < 128 && (nr > 128 || n < (nr + 1) / 2)) {
      out[0] = n;
      return 1 + n;
    }
  }
  if (nr > 128)
    return 0;
  out[0] = 127 + nr;
  for (i = 0; i < nr; i += 2)
    out[1 + i / 2] = w->weights[i] << 4
      | (i + 1 < nr ? w->weights[i + 1] : 0);
  return 1 + (nr + 1) / 2;
}

/* ---- Huffman codes ------------------------------------------------- */

/* Codes of as many bits are numbered in the order of the bytes, and longer
 * ones come first.
 */
static void
make_codes (struct zstd_huffman *huffman, const struct weights *w,
            unsigned log)
{
  unsigned nr[WEIGHT_MAX + 1] = { 0 }, first[WEIGHT_MAX + 1];
  unsigned i, weight, code = 0;

  for (i = 0; i < w->nr; i++)
    nr[w->weights[i]]++;
  for (weight = 1; weight <= log; weight++) {
    first[weight] = code;
    code = (code + nr[weight]) / 2;
  }
  memset (huffman, 0, sizeof *huffman);
  for (i = 0; i < w->nr; i++) {
    weight = w->weights[i];
    if (weight)
      huffman->codes[i] = first[weight]++ | (log + 1 - weight) << 12;
  }
}

size_t
zstd_huffman_read (struct zstd_huffman *huffman, const unsigned char *p,
                   size_t size)
{
  struct weights w;
  size_t n = read_weights (&w, p, size);
  unsigned i, sum = 0, log, rest;

  if (n == 0 || w.nr != WEIGHTS_MAX)
    return 0;
  for (i = 0; i < w.nr; i++) {
    if (w.weights[i] == 0 || w.weights[i] > WEIGHT_MAX)
      return 0;
    sum += 1u << (w.weights[i] - 1);
  }
  log = high_bit (sum) + 1;
  rest = (1u << log) - sum;
  if (log > ZSTD_HUFFMAN_LOG_MAX || (rest & (rest - 1)) != 0)
    return 0;
  w.weights[w.nr++] = high_bit (rest) + 1;
  make_codes (huffman, &w, log);
  return n;
}

/* A byte that occurs, or a node of the tree. */
struct node {
  uint32_t count;
  uint16_t parent;              /* in nodes */
  uint8_t byte, bits;
};

/* Put the bytes that occur into an order of their counts: those that are
 * rare by buckets, the few others by insertion.
 */
#define BUCKETS 32

static unsigned
sort_bytes (struct node *nodes, const uint16_t *counts)
{
  uint16_t starts[BUCKETS + 1] = { 0 };
  unsigned i, k, nr, often;

  for (i = 0; i < 256; i++)
    starts[counts[i] < BUCKETS ? counts[i] : BUCKETS]++;
  nr = 256 - starts[0];
  starts[0] = 0;
  for (i = 1, k = 0; i <= BUCKETS; i++) {
    k += starts[i];
    starts[i] = k - starts[i];
  }
  often = starts[BUCKETS];
  for (i = 0; i < 256; i++) {
    if (counts[i] == 0)
      continue;
    k = starts[counts[i] < BUCKETS ? counts[i] : BUCKETS]++;
    for (; k > often && nodes[k - 1].count > counts[i]; k--)
      nodes[k] = nodes[k - 1];
    nodes[k] = (struct node) { .count = counts[i], .byte = i };
  }
  return nr;
}

/* Join the two rarest until there is one.  Of NR leaves, which are in
 * order, come nodes in order.
 */
static void
make_tree (struct node *nodes, unsigned nr)
{
  unsigned leaf = 0, inner = nr, next, i, k;

  for (next = nr; next < 2 * nr - 1; next++) {
    nodes[next].count = 0;
    for (k = 0; k < 2; k++) {
      i = leaf < nr && (inner == next
                        || nodes[leaf].count <= nodes[inner].count)
        ? leaf++ : inner++;
      nodes[i].parent = next;
      nodes[next].count += nodes[i].count;
    }
  }
  nodes[2 * nr - 2].bits = 0;
  for (i = 2 * nr - 2; i--; )
    nodes[i].bits = nodes[nodes[i].parent].bits + 1;
}

/* No code may be longer than ZSTD_HUFFMAN_LOG_MAX.  If some are, others
 * become longer as well, the rarest first, until there is room for them;
 * and what room is left then makes others shorter.
 */
static bool
limit_bits (struct node *nodes, unsigned nr)
{
  const int max = ZSTD_HUFFMAN_LOG_MAX;
  int excess = -(1 << max);
  unsigned i;

  for (i = 0; i < nr; i++) {
    if (nodes[i].bits > max)
      nodes[i].bits = max;
    excess += 1 << (max - nodes[i].bits);
  }
  for (i = 0; excess > 0 && i < nr; i++)
    while (excess > 0 && nodes[i].bits < max)
      excess -= 1 << (max - ++nodes[i].bits);
  for (i = nr; excess < 0 && i--; )
    while (nodes[i].bits > 1 && 1 << (max - nodes[i].bits) <= -excess)
      excess += 1 << (max - nodes[i].bits--);
  return excess == 0;
}

size_t
zstd_huffman_make (struct zstd_huffman *huffman, const uint16_t *counts,
                   unsigned char *out)
{
  struct node nodes[2 * 256];
  struct weights w = { .nr = 0 };
  unsigned nr = sort_bytes (nodes, counts), log = 0, i;

  if (nr < 2)
    return 0;
  make_tree (nodes, nr);
  if (!limit_bits (nodes, nr))
    return 0;
  for (i = 0; i < nr; i++)
    if (nodes[i].bits > log)
      log = nodes[i].bits;
  for (i = 0; i < nr; i++) {
    w.weights[nodes[i].byte] = log + 1 - nodes[i].bits;
    if (nodes[i].byte >= w.nr)
      w.nr = nodes[i].byte + 1;
  }
  make_codes (huffman, &w, log);
  return w.nr < 3 ? 0 : write_weights (&w, out);
}
