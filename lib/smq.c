/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Stochastic multi-queue.
 *
 * A queue is 64 lists, the *levels*.  One after the other they are a single
 * order from the coldest to the hottest cluster, and at the end of each
 * period they are cut anew so that all levels are of the same length.  A
 * cluster that was used goes up some levels, to the end of the list there,
 * and the oldest one of that level takes its place.  Nobody counts hits: a
 * cluster that is used more often than others has been swapped with more of
 * them.  How often it is used within a period makes no difference.
 *
 * There are two queues.  One has the clusters in RAM; what leaves RAM is
 * the oldest of its lowest level.  The other, *hotspot*, has clusters on
 * tiers that were used there or have left RAM lately, four times as many as
 * are in RAM at most; the coldest is forgotten for a new one.  What is used
 * now and is in the top levels there comes back: not at once and whole, but
 * each page when somebody reads it, since of a cluster only a page or two may
 * be hot.
 *
 * How many are the top levels depends on how well RAM does: if of all that
 * was used about half was in the upper quarter of the levels of RAM, many,
 * since a change may help; if nearly nothing was or nearly everything, few.
 * If little of what was used on tiers was in the upper quarter of hotspot,
 * then the order there says little: fewer come back, and what is used goes
 * up in larger steps, so that the order becomes another one soon.
 *
 * Where this is not what dm-cache does:
 *
 * - There, only what was used several times comes into the cache.  Here
 *   pages are born in RAM.  They begin in the middle: the levels above
 *   cannot be had by writing once, however much, and in those below there
 *   are some periods to be used again.
 * - So what is below drifts down as others are born.  What is used must go
 *   up faster than that: it rises from where others are born if it was
 *   lower, and by larger steps in RAM too if the order there says little.
 * - Steps are four times as large.  There, a period of hotspot is a second;
 *   here it is the time in which a sixteenth of RAM is replaced.
 * - Hotspot knows what has left RAM, too: what is missed soon after rises
 *   sooner.  But nothing comes back for one use, or whoever reads all that
 *   has just left would have it back.
 * - What comes back begins at three quarters, not at the top, where it
 *   would be in the way of what was used for longer.
 * - There, the number of top levels that is meant for a cache that is full
 *   is not used, by a mistake of version 2.0.0.  Here it is.
 * - Redistribution does not change the order, so the top levels of hotspot
 *   need not be shorter than others.
 *
 * The numbers were chosen by trying: of those that keep a loop and a scan
 * from emptying RAM, the ones that follow a working set that moves, and
 * lose little where clusters are merely more or less popular, or where what
 * is written once is read once, as with swap.  To be born lower is better
 * for the former, and higher for the latter.  Steps of 4, 2 and 1 took five
 * times as long to follow.
 *
 * Places.  A cluster in RAM is in the RAM queue, or in no list if it was
 * named by smq_coldest (LEAVING).  One on a tier is in hotspot, or in no
 * list if it is expected in RAM by the next visit (AWAITED).
 */

#include <config.h>

#include <inttypes.h>

#include "smq.h"

enum smq_place {
  PLACE_RAM,
  PLACE_LEAVING,
  PLACE_HOTSPOT,
  PLACE_AWAITED,
};

/* Where a cluster begins: one that is written; one that has come back and
 * one that has left.  The first is also the lowest level from which a
 * cluster in RAM rises.
 */
#define LEVEL_BORN (SMQ_LEVELS / 2)
#define LEVEL_BACK (SMQ_LEVELS * 3 / 4)
#define LEVEL_LEFT 0

/* From here on it counts as a hit. */
#define LEVEL_HIT (SMQ_LEVELS * 3 / 4)

/* Hotspot has so many times the clusters that RAM has, and may always have
 * the other number.
 */
#define HOTSPOT_TIMES 4
#define HOTSPOT_MIN 1024

/* In so many periods it must have been used since it left. */
#define USES_BACK 2

/* By how many levels what is used goes up; and what a number of levels that
 * come back is divided by.
 */
static const unsigned jumps[] = { 16, 8, 4 };
static const unsigned divisors[] = { 4, 2, 1 };

/* How many levels come back, for each sixteenth of what was used that was
 * in the upper levels of RAM.
 */
static const unsigned thresholds[17] = {
  1, 1, 1, 2, 4, 6, 7, 8, 7, 6, 4, 4, 3, 3, 2, 2, 1,
};

static struct smq_entry *
entry_at (const struct smq *smq, uint32_t number)
{
  return smq_table_entry (&smq->table, number);
}

/* ---- Lists --------------------------------------------------------- */

static void
list_push_newest (struct smq *smq, struct smq_list *list, struct smq_entry *e)
{
  uint32_t number = e - entry_at (smq, 0);

  e->newer = 0;
  e->older = list->newest;
  if (list->newest)
    entry_at (smq, list->newest)->newer = number;
  else
    list->oldest = number;
  list->newest = number;
  list->nr++;
}

static void
list_remove (struct smq *smq, struct smq_list *list, struct smq_entry *e)
{
  if (e->older)
    entry_at (smq, e->older)->newer = e->newer;
  else
    list->oldest = e->newer;
  if (e->newer)
    entry_at (smq, e->newer)->older = e->older;
  else
    list->newest = e->older;
  list->nr--;
}

/* All of MORE, which is empty then, after what is in LIST. */
static void
list_append (struct smq *smq, struct smq_list *list, struct smq_list *more)
{
  if (more->nr == 0)
    return;
  if (list->nr) {
    entry_at (smq, list->newest)->newer = more->oldest;
    entry_at (smq, more->oldest)->older = list->newest;
    list->newest = more->newest;
    list->nr += more->nr;
  }
  else
    *list = *more;
  *more = (struct smq_list) { 0 };
}

/* ---- Queues -------------------------------------------------------- */

/* NULL if it is not in a queue now. */
static struct smq_queue *
queue_of (struct smq *smq, const struct smq_entry *e)
{
  if (e->place == PLACE_RAM)
    return &smq->ram;
  return e->place == PLACE_HOTSPOT ? &smq->hotspot : NULL;
}

/* Put an entry that is in no list in a queue, as the newest of a level. */
static void
queue_push (struct smq *smq, struct smq_queue *q, struct smq_entry *e,
            unsigned level)
{
  e->place = q == &smq->ram ? PLACE_RAM : PLACE_HOTSPOT;
  e->level = level;
  list_push_newest (smq, &q->levels[level], e);
  q->occupied |= UINT64_C (1) << level;
  q->nr++;
}

/* Take an entry out of the queue that it is in, if any. */
static void
take_out (struct smq *smq, struct smq_entry *e)
{
  struct smq_queue *q = queue_of (smq, e);
  struct smq_list *list;

  if (q == NULL)
    return;
  list = &q->levels[e->level];
  list_remove (smq, list, e);
  q->nr--;
  if (list->nr == 0)
    q->occupied &= ~(UINT64_C (1) << e->level);
}

/* The first to go; NULL if the queue is empty. */
static struct smq_entry *
queue_coldest (struct smq *smq, struct smq_queue *q)
{
  if (q->occupied == 0)
    return NULL;
  return entry_at (smq, q->levels[__builtin_ctzll (q->occupied)].oldest);
}

/* An entry was used.  The oldest of its new level comes to where it was. */
static void
queue_rise (struct smq *smq, struct smq_queue *q, struct smq_entry *e,
            unsigned from)
{
  unsigned old = e->level, new = from + jumps[q->confidence];
  struct smq_entry *other;

  if (new > SMQ_LEVELS - 1)
    new = SMQ_LEVELS - 1;
  take_out (smq, e);
  if (new > old && q->levels[new].nr) {
    other = entry_at (smq, q->levels[new].oldest);
    take_out (smq, other);
    queue_push (smq, q, other, old);
  }
  queue_push (smq, q, e, new);
}

/* Count what was used, before it rises. */
static void
queue_count (struct smq_queue *q, unsigned level)
{
  if (level >= LEVEL_HIT)
    q->hits++;
  else
    q->misses++;
}

/* Cut NR entries, from NUMBER on, off for a level.  Returns the one that
 * follows.
 */
static uint32_t
cut_level (struct smq *smq, struct smq_queue *q, unsigned level,
           uint32_t number, uint32_t nr)
{
  struct smq_list *list = &q->levels[level];
  uint32_t i, next = number;

  *list = (struct smq_list) { 0 };
  for (i = 0; i < nr; i++) {
    struct smq_entry *e = entry_at (smq, next);

    next = e->newer;
    e->level = level;
    list_push_newest (smq, list, e);
  }
  return next;
}

/* Make all levels as long as each other, in the same order.  Of few entries
 * the hottest are in the upper levels.
 */
static void
queue_redistribute (struct smq *smq, struct smq_queue *q)
{
  struct smq_list all = { 0 };
  uint32_t number;
  unsigned level;

  for (level = 0; level < SMQ_LEVELS; level++)
    list_append (smq, &all, &q->levels[level]);
  number = all.oldest;
  q->occupied = 0;
  for (level = 0; level < SMQ_LEVELS; level++) {
    number = cut_level (smq, q, level, number,
                        (q->nr + level) / SMQ_LEVELS);
    if (q->levels[level].nr)
      q->occupied |= UINT64_C (1) << level;
  }
}

/* ---- Entries ------------------------------------------------------- */

/* Entries that the caller has in his hand are not valid after this. */
static void
entry_remove (struct smq *smq, struct smq_entry *e)
{
  uint32_t number = e - entry_at (smq, 0);
  struct smq_queue *q;
  struct smq_list *list;

  take_out (smq, e);
  if (!smq_table_remove (&smq->table, e))
    return;
  q = queue_of (smq, e);
  if (q == NULL)
    return;
  list = &q->levels[e->level];
  *(e->older ? &entry_at (smq, e->older)->newer : &list->oldest) = number;
  *(e->newer ? &entry_at (smq, e->newer)->older : &list->newest) = number;
}

/* An entry that is in no list; NULL if there is no room.  The coldest of
 * hotspot makes room.
 */
static struct smq_entry *
entry_make (struct smq *smq, uint64_t key)
{
  struct smq_entry *e = smq_table_add (&smq->table, key), *coldest;

  if (e == NULL) {
    coldest = queue_coldest (smq, &smq->hotspot);
    if (coldest == NULL)
      return NULL;
    entry_remove (smq, coldest);
    e = smq_table_add (&smq->table, key);
  }
  if (e) {
    e->place = PLACE_AWAITED;
    e->period = smq->period;
  }
  return e;
}

static bool
is_in_ram (const struct smq_entry *e)
{
  return e->place == PLACE_RAM || e->place == PLACE_LEAVING;
}

/* A cluster comes into hotspot.  There is always more than one then. */
static void
enter_hotspot (struct smq *smq, struct smq_entry *e)
{
  uint64_t max = (uint64_t) HOTSPOT_TIMES * smq->ram.nr;

  e->uses = e->used;
  queue_push (smq, &smq->hotspot, e, LEVEL_LEFT);
  if (smq->hotspot.nr > HOTSPOT_MIN && smq->hotspot.nr > max)
    entry_remove (smq, queue_coldest (smq, &smq->hotspot));
}

/* ---- Periods ------------------------------------------------------- */

void
smq_begin_period (struct smq *smq)
{
  smq->period = !smq->period;
}

/* A cluster that nothing is known of.  On a tier, only those are
 * interesting that are used.
 */
static void
visit_new (struct smq *smq, uint64_t key, enum smq_flags flags)
{
  struct smq_entry *e;

  if (!(flags & SMQ_IN_RAM) && flags & SMQ_USED)
    smq->hotspot.misses++;
  if (!(flags & (SMQ_IN_RAM | SMQ_USED)))
    return;
  e = entry_make (smq, key);
  if (e == NULL)
    return;
  e->used = flags & SMQ_USED;
  if (flags & SMQ_IN_RAM)
    queue_push (smq, &smq->ram, e, LEVEL_BORN);
  else
    enter_hotspot (smq, e);
}

/* It was used, and is in the queue that it should be in. */
static void
visit_used (struct smq *smq, struct smq_entry *e)
{
  struct smq_queue *q = queue_of (smq, e);
  unsigned from = e->level;

  queue_count (q, e->level);
  if (q == &smq->ram && from < LEVEL_BORN)
    from = LEVEL_BORN;
  queue_rise (smq, q, e, from);
  if (e->uses < USES_BACK)
    e->uses++;
}

/* A cluster that is in the wrong queue: some of it has come back or was
 * written, or the part that was in RAM is gone.
 */
static void
visit_elsewhere (struct smq *smq, struct smq_entry *e, bool in_ram)
{
  take_out (smq, e);
  if (in_ram)
    queue_push (smq, &smq->ram, e,
                e->uses < USES_BACK ? LEVEL_BORN : LEVEL_BACK);
  else
    enter_hotspot (smq, e);
}

static void
visit_known (struct smq *smq, struct smq_entry *e, enum smq_flags flags)
{
  bool used = flags & SMQ_USED, in_ram = flags & SMQ_IN_RAM;

  if (e->period != smq->period)
    e->used = false;
  e->period = smq->period;
  if (e->used)
    used = false;               /* that has been counted */
  e->used = e->used || used;
  if (is_in_ram (e) != in_ram) {
    visit_elsewhere (smq, e, in_ram);
    return;
  }
  if (queue_of (smq, e) == NULL)
    queue_push (smq, in_ram ? &smq->ram : &smq->hotspot, e, e->level);
  if (used)
    visit_used (smq, e);
}

/* In RAM, those that do not drift; in hotspot, those that may come back. */
static bool
is_hot (const struct smq *smq, const struct smq_entry *e)
{
  if (is_in_ram (e))
    return e->level >= LEVEL_BORN;
  return e->uses >= USES_BACK && e->level >= SMQ_LEVELS - smq->threshold;
}

bool
smq_visit (struct smq *smq, uint64_t key, enum smq_flags flags)
{
  struct smq_entry *e = smq_table_find (&smq->table, key);

  if (!(flags & (SMQ_IN_RAM | SMQ_ON_TIER)))
    return false;
  if (e)
    visit_known (smq, e, flags);
  else
    visit_new (smq, key, flags);
  /* It may have moved, or have no room. */
  e = smq_table_find (&smq->table, key);
  return e && is_hot (smq, e);
}

/* The last entry, which has been seen already, moves to where one is
 * removed.
 */
static void
forget_unvisited (struct smq *smq)
{
  uint32_t number;

  for (number = smq->table.nr; number > 0; number--)
    if (entry_at (smq, number)->period != smq->period)
      entry_remove (smq, entry_at (smq, number));
}

static enum smq_confidence
assess (const struct smq_queue *q)
{
  uint64_t all = q->hits + q->misses;

  if (q->hits * 16 < all || all == 0)
    return SMQ_POOR;
  return q->hits * 8 < all ? SMQ_FAIR : SMQ_WELL;
}

/* What was used on tiers was missed in RAM. */
static void
set_threshold (struct smq *smq)
{
  uint64_t hits = smq->ram.hits;
  uint64_t all = hits + smq->ram.misses
    + smq->hotspot.hits + smq->hotspot.misses;

  smq->threshold = thresholds[all ? hits * 16 / all : 0]
    / divisors[smq->hotspot.confidence];
}

static void
queue_end_period (struct smq *smq, struct smq_queue *q)
{
  queue_redistribute (smq, q);
  q->hits = q->misses = 0;
}

/* What was used and may come back is taken out of hotspot until it is
 * visited.  If it is still on a tier then, it becomes the newest of its
 * level; those that are used meanwhile do not push it down.  Without this,
 * more is read from tiers when a working set moves.
 */
static void
await_hot (struct smq *smq)
{
  struct smq_queue *q = &smq->hotspot;
  unsigned level;
  uint32_t number, newer;

  for (level = SMQ_LEVELS - smq->threshold; level < SMQ_LEVELS; level++)
    for (number = q->levels[level].oldest; number; number = newer) {
      struct smq_entry *e = entry_at (smq, number);

      newer = e->newer;
      if (e->used && is_hot (smq, e)) {
        take_out (smq, e);
        e->place = PLACE_AWAITED;
      }
    }
}

void
smq_end_period (struct smq *smq)
{
  forget_unvisited (smq);
  smq->ram.confidence = assess (&smq->ram);
  smq->hotspot.confidence = assess (&smq->hotspot);
  set_threshold (smq);
  queue_end_period (smq, &smq->ram);
  queue_end_period (smq, &smq->hotspot);
  await_hot (smq);
}

/* ---- Questions and answers ----------------------------------------- */

bool
smq_coldest (struct smq *smq, unsigned levels, uint64_t *key)
{
  struct smq_entry *e = queue_coldest (smq, &smq->ram);

  if (e == NULL || e->level >= levels)
    return false;
  take_out (smq, e);
  e->place = PLACE_LEAVING;
  *key = e->key;
  return true;
}

/* Nobody knows yet whether it will be used where it is. */
void
smq_left (struct smq *smq, uint64_t key)
{
  struct smq_entry *e = smq_table_find (&smq->table, key);

  if (e == NULL || !is_in_ram (e))
    return;
  take_out (smq, e);
  e->used = false;
  enter_hotspot (smq, e);
}

void
smq_keep (struct smq *smq, uint64_t key)
{
  struct smq_entry *e = smq_table_find (&smq->table, key);

  if (e && e->place == PLACE_LEAVING)
    queue_push (smq, &smq->ram, e, e->level);
}

int
smq_level (const struct smq *smq, uint64_t key, bool *in_ram)
{
  struct smq_entry *e = smq_table_find (&smq->table, key);

  if (in_ram)
    *in_ram = e && is_in_ram (e);
  return e && (e->place == PLACE_RAM || e->place == PLACE_HOTSPOT)
    ? e->level : -1;
}

/* ---- Life ---------------------------------------------------------- */

int
smq_init (struct smq *smq, struct limit *limit, uint64_t max)
{
  *smq = (struct smq) { 0 };
  return smq_table_init (&smq->table, limit, max);
}

void
smq_destroy (struct smq *smq)
{
  smq_table_destroy (&smq->table);
}

int
smq_reserve (struct smq *smq, uint64_t clusters)
{
  return smq_table_reserve (&smq->table, clusters);
}

uint64_t
smq_charged (const struct smq *smq)
{
  return smq_table_charged (&smq->table);
}

/* ---- Validator ----------------------------------------------------- */

struct check {
  const struct smq *smq;
  struct smq_check to;
  uint32_t listed;              /* entries found in lists */
};

static void
check_list (struct check *check, const struct smq_list *list,
            enum smq_place place, unsigned level)
{
  uint32_t number, last = 0, n = 0;

  for (number = list->oldest; number && n <= list->nr; n++) {
    const struct smq_entry *e = entry_at (check->smq, number);

    if (number > check->smq->table.nr) {
      smq_fault (&check->to, "a list names what is no entry");
      return;
    }
    if (e->older != last)
      smq_fault (&check->to, "entry %" PRIu32 " does not know who is older",
                 number);
    if (e->place != place || e->level != level)
      smq_fault (&check->to, "entry %" PRIu32 " is in the wrong list", number);
    last = number;
    number = e->newer;
  }
  if (n != list->nr || last != list->newest)
    smq_fault (&check->to, "a list is longer or shorter than it says");
  check->listed += n;
}

static void
check_queue (struct check *check, const struct smq_queue *q,
             enum smq_place place)
{
  uint32_t before = check->listed;
  unsigned level;

  for (level = 0; level < SMQ_LEVELS; level++) {
    check_list (check, &q->levels[level], place, level);
    if ((q->levels[level].nr != 0) != (q->occupied >> level & 1))
      smq_fault (&check->to, "level %u is not known to be occupied or not",
                 level);
  }
  if (check->listed - before != q->nr)
    smq_fault (&check->to, "a queue has not as many entries as it says");
}

/* Each entry is in a list if it has to be. */
static void
check_entries (struct check *check)
{
  const struct smq *smq = check->smq;
  uint32_t number, unlisted = 0;

  for (number = 1; number <= smq->table.nr; number++) {
    const struct smq_entry *e = entry_at (smq, number);

    if (e->level >= SMQ_LEVELS || e->place > PLACE_AWAITED)
      smq_fault (&check->to, "entry %" PRIu32 " is nowhere", number);
    unlisted += e->place == PLACE_LEAVING || e->place == PLACE_AWAITED;
  }
  if (check->listed + unlisted != smq->table.nr)
    smq_fault (&check->to, "%" PRIu32 " entries, %" PRIu32 " listed, %" PRIu32
               " not", smq->table.nr, check->listed, unlisted);
}

unsigned
smq_check (const struct smq *smq, FILE *report)
{
  struct check check = { .smq = smq, .to.report = report };

  check_queue (&check, &smq->ram, PLACE_RAM);
  check_queue (&check, &smq->hotspot, PLACE_HOTSPOT);
  check_entries (&check);
  smq_table_check (&smq->table, &check.to);
  return check.to.faults;
}
