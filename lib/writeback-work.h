/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* What writeback is made of, from the storage up:
 *
 *   gather.c     objects in RAM are copied to a segment that is being put
 *                together
 *   clean.c      what is alive in a segment of a tier is
 *   publish.c    the segment is written, and the slots name what is in it
 *   writeback.c  when memory is short, and which tier is next
 *   policy.c     what is cold, if that is not just what is old
 *   move.c       when somebody asks for it
 */

#ifndef WRITEBACK_WORK_H
#define WRITEBACK_WORK_H

#include <stdalign.h>

#include "group.h"
#include "slot.h"
#include "tier.h"
#include "zram.h"

struct zram_memory;
struct zram_store;

/* A segment has at most one page for each so many bytes, on average. */
#define WRITEBACK_PAGE_BYTES 128
#define WRITEBACK_ENTRIES (TIER_SEGMENT_MAX / WRITEBACK_PAGE_BYTES)

/* Objects that compaction may move after each segment. */
#define WRITEBACK_COMPACT 8192

struct entry {
  uint32_t store;
  enum slot_state state;        /* to be */
  unsigned offset, length;      /* of the record */
  uint64_t page, word;          /* what its slot says */
};

/* Who wants pages, if it is not a walk that takes younger ones each time. */
enum {
  CHOICE_COLDEST = 1,           /* a policy */
  CHOICE_HUGE,                  /* huge pages leave before it is asked */
};

/* Which pages are wanted. */
struct wanted {
  uint32_t store;               /* its number; 0: all */
  uint64_t page, end;           /* of those from here, before there */
  enum zram_pages pages;
  int age;                      /* at least */
  bool older_huge;              /* huge ones pass for older than they are */
  unsigned choice;              /* whose; 0: that of a walk */
  bool copies_only;             /* only what need not be written */
  uint64_t left;                /* so many at most */
  bool unreadable;              /* give up what cannot be read */
};

struct writeback_work {
  size_t size;                  /* segments have so many bytes at most */
  size_t room;                  /* those of the one that is to be written */
  unsigned nr, used;            /* entries; bytes */
  unsigned old_used, old_alive; /* bytes of records in `old'; and of those that
                                   have pages */
  bool full;

  unsigned gone;                /* pages that have left RAM */
  unsigned moved;               /* pages that were written */
  uint64_t gone_bytes;          /* of those that need not be written */

  /* The walk that goes on when memory is short: page is where. */
  struct wanted walk;
  uint64_t era;                 /* when its age was right (turnover.h) */

  /* The one for huge pages, and from which era on it is worth while. */
  struct wanted huge;
  uint64_t huge_era;

  /* Of each as much has memory as segments of that size need.  (What has no
   * room any more is entered too, to be counted: a group's pages.)
   */
  alignas (TIER_BLOCK) struct entry entries[WRITEBACK_ENTRIES
                                            + GROUP_PAGES_MAX];
  alignas (TIER_BLOCK) unsigned char segment[TIER_SEGMENT_MAX];
  unsigned char old[TIER_SEGMENT_MAX];  /* one that is being cleaned */
};

/* Whether there are entries for one more record, be it a group's. */
static inline bool
writeback_has_entries (const struct writeback_work *work)
{
  return work->nr + GROUP_PAGES_MAX <= work->room / WRITEBACK_PAGE_BYTES;
}

/* Nothing in it.  ROOM: the size of the segment that is to be filled. */
void writeback_clear (struct writeback_work *, size_t room);

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

/* ---- Gathering (all: memory->writeback.working is held) ------------- */

/* For memory: go on with work->walk until there is a segment full, or
 * nothing left.
 */
void gather_oldest (struct zram_memory *, bool copies_only);

/* The same with a walk of a store that is known, memory->lock held; and
 * whether the segment is full, or as much has left RAM that need not be
 * written.
 */
void gather_in_store (struct writeback_work *, struct wanted *,
                      struct zram_store *);
bool gather_is_enough (const struct writeback_work *);

/* Go on with a walk of one store.  False when it is at its end. */
bool gather_wanted (struct zram_memory *, struct wanted *);

/* Gather what is alive in a segment, and let go of clean copies in it, and
 * count it, though there may not be room for all; or gather only what is WANTED
 * (its store, pages and number).  *COMPLETE says whether all that lived there
 * was gathered.  False if it cannot be read.
 */
bool clean_gather (struct zram_memory *, struct tier *, uint32_t segment,
                   struct wanted *wanted, bool *complete);

/* ---- Publishing ---------------------------------------------------- */

/* Write what was gathered to a segment that was opened for it, and publish
 * it.  False if the write failed.
 */
bool publish_segment (struct zram_memory *, struct tier *,
                          uint32_t segment);

/* What was gathered is not written. */
void publish_nothing (struct zram_memory *);

#endif /* WRITEBACK_WORK_H */
