/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Codecs: how a page becomes an object and comes back.
 *
 * A slot names its object's codec by an index into a table.  Two are
 * always there; the others are added as stores are opened and as
 * dictionaries are trained.  A codec with a dictionary is removed when
 * its last object is gone, and its index may then get another meaning:
 * so whoever looks at a slot and then at the table does so inside the
 * epoch of the slot table, and codecs are removed a grace period later.
 */

#ifndef CODEC_H
#define CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "zram.h"

enum {
  CODEC_RAW,                    /* the page itself, 4096 bytes */
  CODEC_PATTERN,                /* a 64-bit word that the page repeats */
  CODEC_FIRST,                  /* the first one that is added */
};

struct codecs;

/* What a thread needs to compress: working memory of the libraries and
 * two buffers.  Belongs to one thread at a time.
 */
struct codec_context {
  unsigned char page[ZRAM_PAGE_SIZE];   /* the user's, to assemble a page */
  unsigned char header[16];             /* see codec.c */
  unsigned char object[ZRAM_PAGE_SIZE]; /* what codecs_compress makes */
  unsigned char slack[32];
};

/* What a thread needs to decompress.  Apart from the others, so that
 * reads do not queue behind writes, which take three times as long.
 */
struct codec_reader;

/* ---- The table ----------------------------------------------------- */

/* Make a table with NR_CONTEXTS contexts.  NULL and errno on failure. */
struct codecs *codecs_create (unsigned nr_contexts);
void codecs_destroy (struct codecs *);

/* The index of a codec without a dictionary, which is added if it is
 * new.  -1 and errno: EINVAL if the level does not exist, ENOMEM, ENOSPC
 * if the table is full.
 */
int codecs_add (struct codecs *, const struct zram_codec *);

/* Add the codec BASE (zstd) with a dictionary, which is copied.  -1 and
 * errno as for codecs_add; EINVAL if zstd does not take the dictionary.
 * Contexts are prepared before it returns, so that nobody has to wait who
 * uses it.
 */
int codecs_add_dictionary (struct codecs *, unsigned base,
                           const void *dictionary, size_t size);

/* The index of a codec for groups, which is added if it is new.  Its
 * objects are made by a codec_grouper and decompressed by
 * codecs_decompress_group.  Errors as for codecs_add.
 */
int codecs_add_group (struct codecs *, const struct zram_codec *);

/* An upper bound for what codecs_size grows by then. */
uint64_t codecs_group_growth (const struct codecs *);

/* Remove a codec that nobody names or uses. */
void codecs_remove (struct codecs *, unsigned codec);

/* Whether the table has such an index, and whether it is a codec with a
 * dictionary.
 */
bool codecs_is_valid (const struct codecs *, unsigned codec);
bool codecs_has_dictionary (const struct codecs *, unsigned codec);

/* Memory that contexts and dictionaries take, in bytes. */
uint64_t codecs_size (struct codecs *);

/* An upper bound for what that grows by if this codec is added. */
uint64_t codecs_growth (struct codecs *, const struct zram_codec *);

/* What that will be with NR_CONTEXTS contexts and this one codec. */
uint64_t codecs_size_with (unsigned nr_contexts, const struct zram_codec *);

/* ---- Counting ------------------------------------------------------ */

/* There are N more (or less) objects of a codec, and how many there are
 * (of all stores together).
 */
void codecs_count (struct codecs *, unsigned codec, int n);
uint64_t codecs_objects (const struct codecs *, unsigned codec);

/* The codecs with dictionaries, the newest first, into INDEXES (which has
 * room for NR).  Returns how many there are, at most NR.  Takes no lock.
 */
unsigned codecs_dictionaries (const struct codecs *, unsigned *indexes,
                              unsigned nr);

/* How many pages have been compressed since the table was made, and how
 * often readers were lent: for each page, or group, that is decompressed and
 * needs one.
 */
uint64_t codecs_compressed (const struct codecs *);
uint64_t codecs_read (const struct codecs *);

/* ---- Compressing --------------------------------------------------- */

/* Take a context, waiting for one if all are taken, and put it back.
 * Take it before a reader, and a reader before a slot is locked, never
 * after.
 */
struct codec_context *codecs_get (struct codecs *);
void codecs_put (struct codecs *, struct codec_context *);

/* Compress a page to an object in the context.  Returns its size, or 0
 * if that would be more than MAX (at most ZRAM_PAGE_SIZE).
 */
size_t codecs_compress (struct codecs *, struct codec_context *,
                        unsigned codec, const void *page, size_t max);

/* ---- Decompressing ------------------------------------------------- */

struct codec_reader *codecs_get_reader (struct codecs *);
void codecs_put_reader (struct codecs *, struct codec_reader *);

/* Whether decompressing needs a reader. */
bool codecs_needs_reader (const struct codecs *, unsigned codec);

/* Decompress an object.  The reader may be NULL where none is needed.
 * False if the object is not what CODEC makes of a page; the contents of
 * PAGE are undefined then.
 */
bool codecs_decompress (struct codecs *, struct codec_reader *,
                        unsigned codec, const void *object, size_t size,
                        void *page);

/* ---- Groups -------------------------------------------------------- */

/* Several pages at once: COUNT bytes, at most CODEC_GROUP_MAX. */
#define CODEC_GROUP_MAX 65536

/* What it takes to compress them.  Large, so it is made for the time of
 * some work and freed again.  NULL and errno if there is no memory.
 */
struct codec_grouper;

struct codec_grouper *codecs_make_grouper (const struct codecs *,
                                           unsigned codec);
void codecs_free_grouper (struct codec_grouper *);

/* Its size in bytes. */
size_t codecs_grouper_size (const struct codec_grouper *);

/* Compress to DST.  Returns the size, or 0 if it would be more than MAX. */
size_t codecs_compress_group (struct codec_grouper *, const void *src,
                              size_t count, void *dst, size_t max);

/* Decompress an object of COUNT bytes.  Returns them (in the reader, until
 * it is put back), or NULL if this is not an object of CODEC.
 */
const unsigned char *codecs_decompress_group (struct codecs *,
                                              struct codec_reader *,
                                              unsigned codec,
                                              const void *object,
                                              size_t size, size_t count);

#endif /* CODEC_H */
