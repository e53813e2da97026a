/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The entropy tables of zstd (RFC 8878, section 4), for who compresses:
 * read from a dictionary, or made for a page.  See zstd-tables.c.
 */

#ifndef ZSTD_TABLES_H
#define ZSTD_TABLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <endian.h>

/* ---- Bits, the first lowest ---------------------------------------- */

struct zstd_bits {
  uint64_t bits;
  unsigned nr;                  /* less than 8 after zstd_flush */
  unsigned char *out;
};

/* At most 57 bits between two flushes; VALUE has no others. */
static inline void
zstd_put (struct zstd_bits *b, uint64_t value, unsigned nr)
{
  b->bits |= value << b->nr;
  b->nr += nr;
}

/* Writes 8 bytes, of which only those with bits count. */
static inline void
zstd_flush (struct zstd_bits *b)
{
  uint64_t word = htole64 (b->bits);

  memcpy (b->out, &word, sizeof word);
  b->out += b->nr / 8;
  b->bits >>= b->nr & ~7u;
  b->nr &= 7;
}

/* The mark by which decoders, which begin there, find the end.  Returns
 * where what is written ends.
 */
static inline unsigned char *
zstd_end (struct zstd_bits *b)
{
  zstd_put (b, 1, 1);
  zstd_flush (b);
  return b->out + (b->nr > 0);
}

/* ---- FSE ----------------------------------------------------------- */

#define ZSTD_FSE_LOG_MAX 9
#define ZSTD_FSE_SYMBOLS 53     /* as many as there are codes of lengths */

/* How to encode symbols: each has a number of states in proportion to how
 * often it is expected.  In a state, the lower bits are put out, and the
 * others find the next one.
 */
struct zstd_fse {
  uint16_t states[1 << ZSTD_FSE_LOG_MAX];
  struct {
    int32_t find;
    uint32_t bits;              /* 16 bits of fraction */
  } symbols[ZSTD_FSE_SYMBOLS];
  uint8_t cost[ZSTD_FSE_SYMBOLS];       /* about, in sixteenths of a bit */
  unsigned log;
};

/* The state to begin with, whose symbol is the last. */
static inline unsigned
zstd_fse_first (const struct zstd_fse *fse, unsigned symbol)
{
  uint32_t bits = fse->symbols[symbol].bits;
  unsigned nr = (bits + (1 << 15)) >> 16;

  return fse->states[(((nr << 16) - bits) >> nr)
                     + fse->symbols[symbol].find];
}

/* Put out what leads from the state of SYMBOL, returned, to STATE. */
static inline unsigned
zstd_fse_next (const struct zstd_fse *fse, unsigned symbol, unsigned state,
               struct zstd_bits *b)
{
  unsigned nr = (state + fse->symbols[symbol].bits) >> 16;

  zstd_put (b, state & ((1u << nr) - 1), nr);
  return fse->states[(state >> nr) + fse->symbols[symbol].find];
}

static inline void
zstd_fse_last (const struct zstd_fse *fse, unsigned state,
               struct zstd_bits *b)
{
  zstd_put (b, state & ((1u << fse->log) - 1), fse->log);
}

/* Read a table of up to 2^LOG_MAX states, in which symbols up to LAST can
 * be encoded.  Returns the size of its description, 0 if it is not that.
 */
size_t zstd_fse_read (struct zstd_fse *, const unsigned char *p, size_t size,
                      unsigned log_max, unsigned last);

/* Make one of a known distribution: how many states each of NR symbols has
 * of 2^LOG; -1 is one as well.
 */
void zstd_fse_set (struct zstd_fse *, const int8_t *states, unsigned nr,
                   unsigned log);

/* Make one for symbols 0 to NR - 1 that occur COUNTS times, TOTAL in all,
 * and write its description: at most ZSTD_FSE_DESCRIPTION bytes.  Returns
 * its size, 0 if that cannot be (there is but one symbol).
 */
#define ZSTD_FSE_DESCRIPTION 96

size_t zstd_fse_make (struct zstd_fse *, const uint16_t *counts, unsigned nr,
                      unsigned total, unsigned log_max, unsigned char *out);

/* ---- Huffman codes ------------------------------------------------- */

#define ZSTD_HUFFMAN_LOG_MAX 11

struct zstd_huffman {
  uint16_t codes[256];          /* and 4 bits at the top: how many bits */
};

static inline unsigned
zstd_huffman_bits (const struct zstd_huffman *huffman, unsigned symbol)
{
  return huffman->codes[symbol] >> 12;
}

/* Read one in which all bytes have codes.  Returns the size of its
 * description, or 0.
 */
size_t zstd_huffman_read (struct zstd_huffman *, const unsigned char *p,
                          size_t size);

/* Make one for bytes that occur COUNTS times, at most 4096 in all, and
 * write its description: at most ZSTD_HUFFMAN_DESCRIPTION bytes.  Returns
 * its size, 0 if that cannot be.
 */
#define ZSTD_HUFFMAN_DESCRIPTION 256

size_t zstd_huffman_make (struct zstd_huffman *, const uint16_t *counts,
                          unsigned char *out);

/* ---- Estimates ----------------------------------------------------- */

/* The logarithm of N > 0 in 1024ths, a little less than it is. */
static inline unsigned
zstd_log2 (unsigned n)
{
  float f = n;
  uint32_t bits;

  memcpy (&bits, &f, sizeof bits);
  return (bits >> 13) - (127u << 10);
}

#endif /* ZSTD_TABLES_H */
