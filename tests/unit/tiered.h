/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* For tests of tiers: a store whose memory holds less than half of it, and
 * what lies on the storage below.
 */

#ifndef TIERED_H
#define TIERED_H

#include <stdbool.h>
#include <stdint.h>

#include "storage.h"
#include "store.h"

#define PAGE ZRAM_PAGE_SIZE
#define MIB (UINT64_C (1) << 20)
#define NR 3000                 /* pages that do not compress: 12 MiB */

extern struct zram_memory *memory;
extern struct zram_store *store;
extern struct storage storage, second;
extern unsigned char page[PAGE], back[PAGE];

/* For setup; as long as the test runs. */
extern enum zram_policy policy;
extern enum zram_allocator allocator;
extern uint64_t writeback_limit;
extern struct zram_codec store_codec;

/* Smallest tier whose segments are as large as they can be. */
#define LARGE (512 * MIB)

/* Make and destroy all that, but for `second'. */
void setup_with (uint64_t tier_size, const struct zram_recompress *);
void setup (uint64_t tier_size);
void teardown (void);

/* Only so many segments of a tier, the Nth, can be used. */
void leave_segments (unsigned n, unsigned nr);

struct zram_store_stats stats (void);

/* The contents of a page, the VERSIONth. */
void make_random (unsigned char *data, unsigned i, unsigned version);
void make_page (unsigned i, unsigned version);

int write_page (unsigned i, unsigned version);
void check_page (unsigned i, unsigned version);
void write_all (unsigned version);
void check_all (unsigned version);

bool is_on_tier (unsigned i);

/* Where the segment of a page begins in the storage. */
uint64_t segment_of (unsigned i);

/* A page that is on the tier. */
unsigned one_on_tier (void);

/* A thread that does random things to a part of the store, the OPAQUEth. */
void *run_thread (void *opaque);

#endif /* TIERED_H */
