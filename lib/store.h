/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* A store, and what can be done with one page of it.  The functions here
 * see a page; store.c sees ranges of bytes.
 */

#ifndef STORE_H
#define STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "dictionary.h"
#include "memory.h"
#include "recompress.h"
#include "slots.h"
#include "stats.h"

struct zram_store {
  struct zram_memory *memory;
  uint64_t size;
  struct slots slots;
  int level;                    /* of the algorithm */
  _Atomic unsigned codec;       /* that writes use */
  struct stats stats;
  struct dictionary dictionary;
  struct recompress recompress;
  struct zram_store *prev, *next;       /* memory->stores */
};

/* All of these are called inside the epoch of memory->table, return -1
 * and errno on failure, and do not count failures.
 */

/* Bytes FROM to FROM + COUNT of a page. */
int page_read (struct zram_store *, uint64_t page, void *buf,
               size_t from, size_t count);

/* The same, the other way.  BUF may be NULL: write zeroes. */
int page_write (struct zram_store *, uint64_t page, const void *buf,
                size_t from, size_t count);

/* Make the page of a slot a hole.  *FREED becomes true if it was not one
 * already.  False if the slot is dead.
 */
bool page_free (struct zram_store *, slot *s, bool *freed);

/* Give the object that a slot names, as WORD, to the codec in use.  Does
 * nothing if the slot is locked or says something else by now, if the
 * object would not shrink, or at the limit.
 */
void page_recompress (struct zram_store *, slot *s, uint64_t word);

#endif /* STORE_H */
