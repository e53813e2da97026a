/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* What page.c and page-tier.c need of each other.  What others can do with
 * a page is in store.h.
 */

#ifndef PAGE_H
#define PAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "slot.h"

struct zram_store;

/* ---- page.c -------------------------------------------------------- */

/* A page's slot said OLD and says NEW now: count it. */
void page_count_change (struct zram_store *, uint64_t old, uint64_t new);

/* What a page that said WORD says when it was used. */
uint64_t page_touched (struct zram_store *, uint64_t word);

/* Whether a page may take more memory than it must. */
bool page_may_grow (struct zram_store *);

/* ---- page-tier.c --------------------------------------------------- */

/* Read a page that is on a tier.  Its slot says WORD and is not locked:
 * others need not wait for the storage, and a writer can overtake us.  -1
 * and errno on failure.
 */
int page_fetch (struct zram_store *, uint64_t page, uint64_t word,
                void *data);

/* The same for a reader.  If TOUCH, the page becomes young; and it comes
 * back to RAM if that is the second time within a while.
 */
int page_read_tier (struct zram_store *, slot *s, uint64_t page,
                    uint64_t word, void *data, bool touch);

/* Free the object of a page that was CLEAN, and let go of its copy. */
void page_free_clean (struct zram_store *, uint64_t word);

#endif /* PAGE_H */
