/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* What writeback.c and clean.c work with: a segment that is being put
 * together.
 */

#ifndef WRITEBACK_WORK_H
#define WRITEBACK_WORK_H

#include "group.h"
#include "slot.h"
#include "tier.h"

/* Pages in a segment, at most. */
#define WRITEBACK_ENTRIES 8192

struct entry {
  uint32_t store;
  enum slot_state state;        /* to be */
  unsigned offset, length;      /* of the record */
  uint64_t page, word;          /* what its slot says */
};

struct writeback_work {
  unsigned char segment[TIER_SEGMENT_SIZE];
  unsigned char old[TIER_SEGMENT_SIZE]; /* one that is being cleaned */
  struct entry entries[WRITEBACK_ENTRIES];
  unsigned nr, used;            /* entries; bytes */
  bool full;

  /* Where the walk goes on, and what is old enough for it. */
  uint32_t store;
  uint64_t page;
  int age;
};

/* Room for a record; NULL if there is none, and then the segment is full.
 */
struct tier_record *writeback_make_record (struct writeback_work *,
                                           enum slot_state,
                                           unsigned length);

/* A page whose slot says WORD is in the record that is being made. */
void writeback_add_entry (struct writeback_work *, const struct zram_store *,
                          uint64_t page, uint64_t word, enum slot_state,
                          unsigned length);

/* NULL: it was closed. */
struct zram_store *writeback_find_store (struct zram_memory *,
                                         uint32_t number);

/* Gather what is alive in a segment that was read to work->old.  Returns how
 * many pages that is.
 */
unsigned clean_gather (struct zram_memory *, unsigned tier, uint32_t segment);

#endif /* WRITEBACK_WORK_H */
