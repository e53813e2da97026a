/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* A store, and what can be done with one page of it.  The functions here
 * see a page; store.c sees ranges of bytes.
 */

#ifndef STORE_H
#define STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "aging.h"
#include "dictionary.h"
#include "memory.h"
#include "policy.h"
#include "recompress.h"
#include "slots.h"
#include "stats.h"

struct zram_store {
  struct zram_memory *memory;
  uint64_t size;
  uint32_t number;              /* no other store of the memory ever has it */
  struct slots slots;
  int level;                    /* of the algorithm */
  _Atomic unsigned codec;       /* that writes use */
  struct stats stats;
  struct dictionary dictionary;
  struct recompress recompress;
  struct aging aging;
  struct policy policy;
  struct zram_store *prev, *next;       /* memory->stores */
};

/* All of these are called inside the epoch of memory->table, return -1
 * and errno on failure, and do not count failures.
 */

/* Bytes FROM to FROM + COUNT of a page. */
int page_read (struct zram_store *, uint64_t page, void *buf,
               size_t from, size_t count);

/* A whole page, which stays as idle as it is. */
int page_peek (struct zram_store *, uint64_t page, void *data);

/* The same as page_read, the other way.  BUF may be NULL: write zeroes. */
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

/* The page of a slot that says WORD, into a buffer of a page; false if it
 * is locked or says something else by now.
 */
bool page_decode (struct zram_store *, slot *, uint64_t word, void *data);

/* Take a page out of its group, if its slot still says WORD and that is the
 * group with this BIRTH, and give it an object of its own; DATA is the page.
 * It is read again before it was idle, and the next time shall cost less; or
 * it is the last one.  No BIRTH is needed if the page is on a tier, or if no
 * other group can have come to the place of this one.
 */
#define ANY_BIRTH (-1)
void page_leave_group (struct zram_store *, slot *s, uint64_t word,
                       int birth, const void *data);

/* Bring a page back to RAM whose slot says WORD and is on a tier, if there is
 * memory for it; with COMPANIONS, what was read with it as well.  *PROMOTED
 * becomes the number of pages that came.  -1 and errno if it cannot be read.
 */
int page_promote (struct zram_store *, slot *s, uint64_t page, uint64_t word,
                  bool companions, unsigned *promoted);

/* A page of a slot that says WORD and is CLEAN: its object is freed, and its
 * copy on the tier is all that is left, if that is not in doubt (tiers_look);
 * or the other way round, if the copy is in that segment (0: any) of that tier.
 * False if it is not so afterwards: the slot is locked or says something else
 * by now, or a copy was doubtful.
 */
bool page_go_back (struct zram_store *, slot *s, uint64_t word);
bool page_drop_copy (struct zram_store *, slot *s, uint64_t word,
                     unsigned tier, uint32_t segment);

/* Let go of the copy of a page that says WORD and is CLEAN, if that was made
 * with a codec; and compress a page anew that says WORD and is on a tier.
 */
void page_drop_old_copy (struct zram_store *, slot *s, uint64_t word,
                         unsigned codec);
void page_renew (struct zram_store *, slot *s, uint64_t page, uint64_t word);

/* A slot that said OLD says NEW now: count it, and free what is not named
 * any more.
 */
void page_replaced (struct zram_store *, uint64_t old, uint64_t new);

/* Give up a page that says WORD, which names a tier, if it cannot be read:
 * true if that was done.
 */
bool page_give_up (struct zram_store *, slot *s, uint64_t page,
                   uint64_t word);

#endif /* STORE_H */
