/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The policy smq, stochastic multi-queue: which cluster of pages leaves
 * RAM next, and of which pages come back.
 *
 * Time is divided in *periods*.  In each the caller visits every cluster
 * that stores anything, and says whether it was used since the last visit:
 *
 *     smq_begin_period (smq);
 *     for each cluster
 *       hot = smq_visit (smq, key, SMQ_IN_RAM | SMQ_USED);
 *     smq_end_period (smq);
 *
 * A period should be as long as it takes to replace a sixteenth of what is
 * in RAM, where a page that is read from a tier counts as much as one that
 * is written.  In a much longer one everything is used, and that says
 * nothing.
 *
 * Then, and at any other time, it can ask what is to leave:
 *
 *     if (smq_coldest (smq, SMQ_LEVELS, &key))
 *       ... write it back; smq_left (smq, key) or smq_keep (smq, key)
 *
 * Nobody says that pages have come back: the next visit does.
 *
 * A cluster is named by any 64-bit number.  What it is, and how many pages
 * it has, is the caller's affair.  One of which some pages are in RAM and
 * some are not counts as in RAM.  What is done depends on the calls alone,
 * so the same calls have the same results each time.
 *
 * Locks: none.  The caller makes one call at a time.
 *
 * Source of the idea: Joe Thornber's smq for dm-cache, as Linux describes it
 * in Documentation/admin-guide/device-mapper/cache-policies.rst.  What
 * is different here, and why, stands in smq.c.
 */

#ifndef SMQ_H
#define SMQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "limit.h"
#include "smq-table.h"

#define SMQ_LEVELS 64

enum smq_flags {
  SMQ_IN_RAM = 1,               /* pages of it are in RAM */
  SMQ_ON_TIER = 2,              /* pages of it are on a tier */
  SMQ_USED = 4,                 /* one was used since the last visit */
};

/* How often what was used was where it should be. */
enum smq_confidence { SMQ_POOR, SMQ_FAIR, SMQ_WELL };

/* Entries by number, from the one that is to go first; 0 is none. */
struct smq_list {
  uint32_t oldest, newest, nr;
};

struct smq_queue {
  struct smq_list levels[SMQ_LEVELS];   /* level 0 is the coldest */
  uint64_t occupied;            /* a bit for each level that is not empty */
  uint32_t nr;
  uint64_t hits, misses;        /* in this period */
  enum smq_confidence confidence;       /* in the last one */
};

struct smq {
  struct smq_table table;
  bool period;                  /* changes with each period */
  unsigned threshold;           /* top levels that come back */

  struct smq_queue ram, hotspot;
};

/* For up to MAX clusters at once; with less address space, if there is not
 * so much.  Takes no memory yet.  -1 and errno on failure: ENOMEM.
 */
int smq_init (struct smq *, struct limit *, uint64_t max);
void smq_destroy (struct smq *);

/* Have memory for so many clusters from now on, resident and charged, so
 * that no call has to ask the system for it.  -1 and errno (ENOSPC) if that
 * would pass the limit, or MAX.
 */
int smq_reserve (struct smq *, uint64_t clusters);

/* Memory that is charged. */
uint64_t smq_charged (const struct smq *);

/* A period.  A cluster that is not visited in it is forgotten.  If it is
 * visited twice, what counts is where it was the last time, and that it was
 * used any time.
 *
 * smq_visit returns whether pages of the cluster that are on a tier should
 * come back to RAM as soon as they are read, until it is visited again.
 */
void smq_begin_period (struct smq *);
bool smq_visit (struct smq *, uint64_t key, enum smq_flags);
void smq_end_period (struct smq *);

/* The cluster that is to leave RAM next.  It is not named again until the
 * caller says what became of it, or visits it.  False if there is none in
 * the lowest LEVELS.
 */
bool smq_coldest (struct smq *, unsigned levels, uint64_t *key);

/* What became of a cluster that smq_coldest has named: all its pages have
 * left RAM; it is where it was, and as hot as it was.  The first need not
 * have been asked for.
 */
void smq_left (struct smq *, uint64_t key);
void smq_keep (struct smq *, uint64_t key);

/* What is known of a cluster: its level, or -1 if it is not in a queue.
 * *IN_RAM (may be NULL) says in which.  For statistics and tests.
 */
int smq_level (const struct smq *, uint64_t key, bool *in_ram);

/* The validator: writes a line for each fault, and returns how many there
 * are.
 */
unsigned smq_check (const struct smq *, FILE *report);

#endif /* SMQ_H */
