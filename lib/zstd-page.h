/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Compresses a page, with a dictionary or without, to one block of the
 * zstd format, which libzstd decompresses.  zstd-page.c says why libzstd
 * does not do this as well.
 */

#ifndef ZSTD_PAGE_H
#define ZSTD_PAGE_H

#include <stddef.h>
#include <stdint.h>

#include "zram.h"

/* The level of zstd that this takes the place of. */
#define ZSTD_PAGE_LEVEL 1

/* A dictionary, digested; can be used by many threads at once. */
struct zstd_dictionary;

/* What zdict.h makes.  NULL if there is no memory or if it is another
 * kind of dictionary, which only libzstd can use.
 */
struct zstd_dictionary *zstd_dictionary_create (const void *dictionary,
                                                size_t size);
void zstd_dictionary_free (struct zstd_dictionary *);

/* In place of one, if there is none. */
struct zstd_dictionary *zstd_dictionary_none (void);

/* Make one of some content, at most ZSTD_CONTENT_MAX bytes, and of what
 * occurs in sample pages.  DST has room for the content and
 * ZSTD_DICTIONARY_TABLES.  Returns the size of the dictionary, which
 * libzstd takes as well, or 0 if there is no memory for it or nothing that
 * it could be made of.
 */
#define ZSTD_CONTENT_MAX 8192
#define ZSTD_DICTIONARY_TABLES 1024

size_t zstd_dictionary_train (const void *content, size_t size,
                              const unsigned char *pages, size_t nr_pages,
                              unsigned char *dst);

/* Its size in bytes; 0 for NULL. */
size_t zstd_dictionary_size (const struct zstd_dictionary *);

/* Working memory of one thread. */
struct zstd_page;

struct zstd_page *zstd_page_create (void);
void zstd_page_free (struct zstd_page *);
size_t zstd_page_size (const struct zstd_page *);

/* It is for this dictionary from now on. */
void zstd_page_prepare (struct zstd_page *, const struct zstd_dictionary *);

/* Compress a page.  Returns the size of the block, without its header of
 * three bytes, or 0 if that would be more than MAX, and maybe if it would be
 * only a few bytes less.  Up to MAX and ZSTD_PAGE_SLACK bytes are written.
 */
#define ZSTD_PAGE_SLACK 32

size_t zstd_page_compress (struct zstd_page *,
                           const struct zstd_dictionary *,
                           const void *page, void *dst, size_t max);

#endif /* ZSTD_PAGE_H */
