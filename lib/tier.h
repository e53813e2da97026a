/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Tiers: slower storage below RAM, and what is stored there.
 *
 * A tier is written in *segments* of up to 1 MiB, once, from beginning to
 * end.  A segment is a row of *records*, at multiples of 32 bytes: a header
 * and an object as it was in RAM, of one page or of a group of pages.  The
 * slots of its pages name the record by tier, segment, offset and length.
 * Small tiers have smaller segments (TIER_SEGMENTS): what is cleaned can be
 * chosen better from many, and the one to spare costs less.
 *
 * A segment counts the pages that name a record in it: slots, and objects
 * in RAM whose clean copy it is.  When there are none left, and no request
 * can still be reading there (a grace period, epoch.h), it is free to be
 * written again.
 *
 * Source of the idea: M. Rosenblum and J. Ousterhout, "The design and
 * implementation of a log-structured file system", 1991.
 */

#ifndef TIER_H
#define TIER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "budget.h"
#include "epoch.h"
#include "latency.h"
#include "lend.h"
#include "limit.h"
#include "slot.h"
#include "tier-buffers.h"
#include "tier-mark.h"
#include "zram.h"

/* A tier's segments are of such a power of two that there are at least so
 * many of them, if it can be.
 */
#define TIER_SEGMENT_MIN (1 << 17)
#define TIER_SEGMENT_MAX (1 << 20)
#define TIER_SEGMENTS 512

/* Segment 0 has the mark (tier-mark.h). */
_Static_assert (TIER_MARK_AREA <= TIER_SEGMENT_MIN, "it is alone there");

#define TIER_RECORD_ALIGN SLOT_TIER_UNIT

/* I/O is done in whole blocks of this size, at multiples of it, in memory
 * that is aligned to it.
 */
#define TIER_BLOCK 4096

/* A record's length stands in eight bits, in units of 32 bytes, and of 64
 * where it is a group's.
 */
#define TIER_PAGE_UNIT TIER_RECORD_ALIGN
#define TIER_GROUP_UNIT (2 * TIER_RECORD_ALIGN)
#define TIER_LENGTH_MAX 255
#define TIER_RECORD_MAX (TIER_LENGTH_MAX * TIER_GROUP_UNIT)

/* What a group's ends with, see tier-record.c. */
#define TIER_PARITY_SIZE TIER_GROUP_UNIT

_Static_assert (TIER_SEGMENT_MAX / SLOT_TIER_UNIT <= 1 << 15,
                "a slot's word has room for an offset");

/* What is read at most around a record. */
#define TIER_NEIGHBOURS 65536

/* A record and what is around it, in whole blocks. */
#define TIER_BUFFER_SIZE (TIER_NEIGHBOURS + TIER_RECORD_MAX / TIER_BLOCK \
                          * TIER_BLOCK + 2 * TIER_BLOCK)

#define TIER_NR_MAX ZRAM_TIERS_MAX
#define TIER_SEGMENTS_MAX (1 << 22)

struct tier_record {
  uint64_t checksum;            /* XXH64 of all that follows */
  uint64_t page;                /* of a group, the first of its run */
  uint32_t store;               /* zram_store.number */
  uint16_t state;               /* SLOT_TIER or SLOT_TIER_GROUP */
  uint16_t size;                /* bytes that follow */
};

enum segment_state {
  SEGMENT_FREE,
  SEGMENT_OPEN,                 /* being written */
  SEGMENT_FULL,
  SEGMENT_DYING,                /* no page names it; a grace period to go */
  SEGMENT_ABANDONED,            /* it may be written at any time, not by us */
};

struct segment {
  _Atomic uint32_t live;        /* pages that name a record in it */
  uint32_t next;                /* in the list of its state, or 0 */
  uint32_t life;                /* how often it was opened */
  _Atomic uint16_t weight;      /* of what slots name, see tier_weight... */
  uint16_t written;             /* ...and that if all of it was used */
  uint32_t sequence;            /* segments that were opened before it */
  _Atomic bool used;            /* somebody has read from it */
  uint8_t cleaned;              /* how often what is in it was, about */
  bool aside : 1;               /* it is not to be cleaned now */
  bool bad : 1;                 /* it could not be written last time */
  bool unanswered : 1;          /* it is to be abandoned */
  bool doubtful : 1;            /* what is in RAM may not leave for its copy */
  _Atomic uint8_t state;
};

struct tier {
  struct zram_tier storage;
  unsigned number;              /* that words name it by */
  uint64_t mark;                /* of this opening, in every checksum */
  size_t segment_size;          /* bytes: TIER_SEGMENT_MIN to ..._MAX */
  uint32_t nr_segments;         /* 1 .. nr_segments - 1 are used */

  _Atomic bool leaving;         /* it is being drained */
  struct lend readers;          /* turns of those who read */

  /* Only who writes back uses these (writeback.c, `working'). */
  uint64_t retry, delay;        /* ns: after a write that failed */
  uint32_t opened;              /* segments, ever */
  uint32_t looked;              /* the segment that tiers_look has read last */
  uint32_t opened_before;       /* `opened' at that time */

  pthread_mutex_t lock;         /* covers the lists, and their lengths */
  struct segment *segments;
  uint32_t free, nr_free;
  uint32_t bad, last_bad;       /* free, but could not be written: */
  uint32_t nr_bad;              /* for when there are no others */
  uint32_t nr_dying;            /* that will be free soon */
  uint32_t nr_abandoned;
  uint32_t dying, expiring;     /* that have no ticket yet; that wait for... */
  uint64_t ticket;              /* ...this */

  _Atomic uint64_t pages, weight;       /* that slots name */
  _Atomic uint64_t copies;              /* pages that are in RAM as well */
  _Atomic uint64_t bytes_in, bytes_written, reads, writes;
  _Atomic uint64_t read_errors, write_errors;
  _Atomic uint64_t corrected_errors;    /* in records of groups */
  struct latency read_latency, write_latency;

  /* What most take longer than (tier-io.c): a read before its first byte,
   * ns; and each byte, ps.
   */
  _Atomic uint64_t read_ns, byte_ps;
};

/* All tiers of a memory. */
struct tiers {
  /* By number, NULL where there is none.  Whoever is inside the epoch and
   * has found a word that names a tier can use it.
   */
  struct tier *_Atomic tiers[TIER_NR_MAX];

  /* From fast to slow.  Changed with `lock' by who writes back, who can
   * read it without.
   */
  struct tier *order[TIER_NR_MAX];
  _Atomic unsigned nr;
  pthread_mutex_t lock;

  struct epoch *epoch;
  struct limit *limit;
  struct budget budget;         /* for what is written */

  struct tier_buffers buffers;
};

/* Nothing in it, and nothing charged.  At most WRITE_LIMIT bytes are
 * written in a day; 0: no limit.
 */
void tiers_init (struct tiers *, struct limit *, struct epoch *,
                 uint64_t write_limit);
void tiers_destroy (struct tiers *);

/* Make a tier, which may wait for memory, and then add it below the others,
 * which does not: writers may wait for who writes back, and must not wait for
 * what waits for them.  NULL and errno on failure: EINVAL if it is smaller
 * than ZRAM_TIER_SIZE_MIN, ENOSPC at the limit or if there are TIER_NR_MAX
 * already, ENOMEM.
 */
struct tier *tiers_make (struct tiers *, const struct zram_tier *);
void tiers_add (struct tiers *, struct tier *);

/* Take away a tier that nobody can find in a slot any more, and then close
 * it.
 */
void tiers_remove (struct tiers *, struct tier *);
void tiers_close (struct tiers *, struct tier *);

/* The tier of that number; NULL if there is none. */
static inline struct tier *
tiers_get (struct tiers *tiers, unsigned number)
{
  return number < TIER_NR_MAX
    ? atomic_load_explicit (&tiers->tiers[number], memory_order_acquire)
    : NULL;
}

/* The tier that a word names. */
static inline struct tier *
tiers_of (struct tiers *tiers, uint64_t word)
{
  return tiers_get (tiers, slot_tier (word));
}

/* Memory that is charged for them. */
uint64_t tiers_charged (const struct tiers *);

/* ---- Segments (tier.c) --------------------------------------------- */

/* Of a storage of SIZE bytes: TIER_SEGMENT_MIN to TIER_SEGMENT_MAX. */
size_t tier_segment_size (uint64_t size);

/* Where it begins in the storage. */
static inline uint64_t
tier_segment_offset (const struct tier *tier, uint32_t segment)
{
  return (uint64_t) segment * tier->segment_size;
}

/* A segment to write: its number, or 0 if none is free, or if it must not
 * be written now.  The last one, of a large tier the last ones, are for what
 * was CLEANED, so often.  One that could not be written comes when there are no
 * others.
 */
uint32_t tier_open_segment (struct tiers *, struct tier *, unsigned cleaned);

/* Whether that would find one, at least for cleaning. */
bool tier_has_room (struct tiers *, struct tier *);
bool tier_has_spare (struct tiers *, struct tier *);
bool tiers_have_room (struct tiers *);

/* Whether there is room that could be written the last time. */
bool tiers_have_good_room (struct tiers *);

/* Whether there are clean copies on them. */
bool tiers_have_copies (const struct tiers *);

/* How many segments are free; are abandoned; and have something in them. */
struct tier_counts {
  uint32_t free, abandoned, used;
};
struct tier_counts tier_count_segments (struct tier *);

/* The time until a tier may be tried that cannot be written, ns; 0 if there
 * is none.
 */
uint64_t tiers_retry_time (struct tiers *);

/* What became of writing one; UNANSWERED: nobody knows. */
void tier_write_failed (struct tier *, uint32_t segment, bool unanswered);
void tier_write_succeeded (struct tier *, uint32_t segment);

/* What a word that names a record stands for, in units of
 * TIER_RECORD_ALIGN: of a group, a sixteenth.
 */
static inline unsigned
tier_weight (uint64_t word)
{
  return slot_state (word) == SLOT_TIER
    ? slot_tier_length (word)
    : (slot_tier_length (word) + 7) / 8;
}

/* A page names a record in a segment that is open; or does so no longer,
 * or never came to.
 */
void tier_enter (struct tiers *, uint64_t word);
void tier_leave (struct tiers *, uint64_t word);

/* What a slot names becomes the clean copy of an object in RAM; the other
 * way round; and the object does without.
 */
void tier_make_copy (struct tiers *, uint64_t word);
void tier_use_copy (struct tiers *, uint64_t word);
void tier_drop_copy (struct tiers *, uint64_t word);

/* All pages that could have been, have been entered.  WRITTEN would be what
 * slots name if it was full of what is in it, and none had been overwritten
 * meanwhile.
 */
void tier_close_segment (struct tier *, uint32_t segment, unsigned written);

/* Have all that is used for requests in memory, after a fork. */
void tiers_touch (struct tiers *);

/* Make segments free whose time has come.  True if some are waiting, or
 * being discarded.
 */
bool tiers_poll (struct tiers *);

/* ---- Choosing (tier-choose.c) -------------------------------------- */

/* The segment that is best worth cleaning, of those that have lost at least one
 * PARTth of what was in them; 0 if there is none.  Others come first when it
 * has been set aside.  If LIKE is not 0, one that was cleaned as often as that
 * is preferred: what has outlived as much is likely to live for as long.
 */
uint32_t tier_to_clean (struct tier *, unsigned part, uint32_t like);
void tier_set_aside (struct tier *, uint32_t segment);

/* What is alive in it would take as much elsewhere (groups of which some
 * pages are): not before it has lost some more.
 */
void tier_no_gain (struct tier *, uint32_t segment);

/* One that was written long ago, and not read since; 0 if there is none. */
uint32_t tier_coldest (struct tier *);

/* It has been dealt with: others come first now. */
void tier_defer (struct tier *, uint32_t segment);

/* The next one after that which has pages; 0 if there is none. */
uint32_t tier_next_full (struct tier *, uint32_t segment);

/* FOUND pages are all that can be moved out of a segment.  False if more
 * are alive in it, because a record is damaged: then it cannot be cleaned,
 * and is left alone until nothing else is left to clean.
 */
bool tier_can_clean (struct tier *, uint32_t segment, unsigned found);

/* ---- Records (tier-record.c) --------------------------------------- */

/* The length that a record of an object of SIZE bytes takes, in units of
 * the state's, with the parity of a group; 0 if that is too long.
 */
unsigned tier_length (enum slot_state state, size_t size);
size_t tier_length_bytes (enum slot_state state, unsigned length);

/* Fill in the checksum of a record that is to stand at OFFSET of SEGMENT, and
 * the parity if it is a group's.
 */
void tier_seal (const struct tier *, uint32_t segment, unsigned offset,
                struct tier_record *);

/* Whether a record of SIZE bytes that was read from there is as it was
 * written.  That of a group is put right if not more than one row of 64 bytes
 * is damaged.
 */
bool tier_verify (struct tier *, uint32_t segment, unsigned offset,
                  struct tier_record *, enum slot_state, size_t size);

/* The same where no word says what it is: its length, in units of its state;
 * 0 if there is none within ROOM bytes, or if what is damaged is what says how
 * long it is.
 */
unsigned tier_verify_next (struct tier *, uint32_t segment, unsigned offset,
                           struct tier_record *, size_t room);

/* ---- Reading and writing (tier-io.c) ------------------------------- */

/* Read all of it.  False if that failed. */
bool tier_read_segment (struct tier *, uint32_t segment, void *buf);

/* Write it.  BUF is aligned to TIER_BLOCK.  False if that failed. */
bool tier_write_segment (struct tiers *, struct tier *, uint32_t segment,
                         const void *buf, size_t size);

/* What was read around a record: COUNT bytes at offset FROM of a segment,
 * in a buffer that must be put back.
 */
struct tier_fetched {
  struct tier *tier;
  uint32_t segment;
  unsigned from, count;
  bool wide;                    /* more than was asked for */
  unsigned turn;                /* of the tier's readers */
  unsigned char *buffer;
  const struct tier_record *record;
};

/* Read the record that a word names, and if AROUND its neighbours where they
 * cost next to nothing (TIER_NEIGHBOURS).  -1 and errno: EIO if it cannot be
 * read or is not what was written.  Waits for the storage; hold no locks.
 */
int tiers_fetch (struct tiers *, uint64_t word, bool around,
                 struct tier_fetched *);
void tiers_put (struct tiers *, const struct tier_fetched *);

/* Look whether tiers with copies still have what was written there, by one
 * record of each.  Of one that has not, all that was written so far is in
 * doubt.  Waits for the storage.
 */
void tiers_look (struct tiers *);

/* The record that a word names, if that was read as well and is sound. */
const struct tier_record *tier_fetched_find (const struct tier_fetched *,
                                             uint64_t word);

void tier_stats (struct tier *, struct zram_tier_stats *);

/* What was found to name a segment, for the validator. */
struct tier_named {
  uint32_t live, weight;        /* as in struct segment */
};

/* The validator.  NAMED has for each tier an array of its segments, and
 * COPIES how many clean copies it has.
 */
unsigned tiers_check (struct tiers *, struct tier_named *const *named,
                      const uint64_t *copies, FILE *report);

#endif /* TIER_H */
