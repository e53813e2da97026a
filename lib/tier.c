/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The life of tiers and segments: see tier.h.  What moves there is
 * writeback.c's choice.
 *
 * A request that reads has found the word inside its epoch, and stays in
 * it.  A segment is not written again before all who could have seen a
 * word that names it are gone.
 *
 * Locks: one for each tier, for lists of segments.  A page enters and
 * leaves by an atomic counter; only the last one takes the lock.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <sys/random.h>

#include "clock.h"
#include "mapping.h"
#include "tier.h"

/* Reads of one tier that can be under way at once: one that hangs leaves some
 * buffers to others.
 */
#define NR_READERS (TIER_BUFFERS * 2 / 3)

/* After a write that failed a tier is left alone for so long; the next time
 * for twice as long, up to the maximum.
 */
#define RETRY_MIN (CLOCK_SECOND / 100)
#define RETRY_MAX CLOCK_SECOND

/* One of so many segments that are written is followed by a bad one. */
#define FORGIVE 64

/* One in so many segments, and one more, is left for cleaning.  So a large
 * tier can be cleaned although one of these can not be written any more.
 */
#define SPARE_PART 1024

/* ---- Life ---------------------------------------------------------- */

void
tiers_init (struct tiers *tiers, struct limit *limit, struct epoch *epoch,
            uint64_t write_limit)
{
  *tiers = (struct tiers) { .limit = limit, .epoch = epoch };
  budget_init (&tiers->budget, write_limit);
  tier_buffers_init (&tiers->buffers, limit);
  pthread_mutex_init (&tiers->lock, NULL);
}

static size_t
table_size (const struct tier *tier)
{
  return tier->nr_segments * sizeof *tier->segments;
}

static uint64_t
tier_charge (const struct tier *tier)
{
  return sizeof *tier + table_size (tier);
}

uint64_t
tiers_charged (const struct tiers *tiers)
{
  uint64_t sum = tier_buffers_charged (&tiers->buffers);
  unsigned i;

  for (i = 0; i < tiers->nr; i++)
    sum += tier_charge (tiers->order[i]);
  return sum;
}

static void
tier_destroy (struct tier *tier)
{
  if (tier->storage.ops->close)
    tier->storage.ops->close (tier->storage.opaque);
  pthread_mutex_destroy (&tier->lock);
  lend_destroy (&tier->readers);
  mapping_release (tier->segments, table_size (tier));
  free (tier);
}

void
tiers_destroy (struct tiers *tiers)
{
  while (tiers->nr)
    tiers_close (tiers, tiers->order[--tiers->nr]);
  tier_buffers_destroy (&tiers->buffers);
  pthread_mutex_destroy (&tiers->lock);
}

void
tiers_touch (struct tiers *tiers)
{
  unsigned i;

  tier_buffers_touch (&tiers->buffers);
  for (i = 0; i < tiers->nr; i++)
    mapping_touch (tiers->order[i]->segments, table_size (tiers->order[i]));
}

/* Segment 0 is not used, so that 0 can mean none. */
static void
link_free (struct tier *tier)
{
  uint32_t i;

  for (i = tier->nr_segments - 1; i > 0; i--) {
    tier->segments[i].next = tier->free;
    tier->free = i;
  }
  tier->nr_free = tier->nr_segments - 1;
}

size_t
tier_segment_size (uint64_t size)
{
  size_t n = TIER_SEGMENT_MAX;

  while (n > TIER_SEGMENT_MIN && size / n < TIER_SEGMENTS)
    n /= 2;
  return n;
}

static struct tier *
tier_create (const struct zram_tier *storage)
{
  struct tier *tier = calloc (1, sizeof *tier);
  uint64_t nr;

  if (tier == NULL)
    return NULL;
  tier->storage = *storage;
  tier->segment_size = tier_segment_size (storage->size);
  nr = storage->size / tier->segment_size;
  tier->nr_segments = nr < TIER_SEGMENTS_MAX ? nr : TIER_SEGMENTS_MAX;
  tier->segments = mapping_reserve (table_size (tier));
  if (tier->segments == NULL
      || getrandom (&tier->mark, sizeof tier->mark, 0) != sizeof tier->mark
      || lend_init (&tier->readers, NR_READERS) == -1) {
    mapping_release (tier->segments, table_size (tier));
    free (tier);
    return NULL;
  }
  pthread_mutex_init (&tier->lock, NULL);
  link_free (tier);
  return tier;
}

/* There is a number that is not in use. */
void
tiers_add (struct tiers *tiers, struct tier *tier)
{
  pthread_mutex_lock (&tiers->lock);
  while (tiers_get (tiers, tier->number))
    tier->number++;
  tiers->order[tiers->nr++] = tier;
  atomic_store (&tiers->tiers[tier->number], tier);
  pthread_mutex_unlock (&tiers->lock);
}

struct tier *
tiers_make (struct tiers *tiers, const struct zram_tier *storage)
{
  struct tier *tier;

  if (storage->size < ZRAM_TIER_SIZE_MIN) {
    errno = EINVAL;
    return NULL;
  }
  if (tiers->nr == TIER_NR_MAX) {
    errno = ENOSPC;
    return NULL;
  }
  if (!tier_buffers_make (&tiers->buffers))
    return NULL;
  tier = tier_create (storage);
  if (tier == NULL)
    return NULL;
  if (!limit_charge (tiers->limit, tier_charge (tier))) {
    tier->storage.ops = &(const struct zram_tier_ops) { .close = NULL };
    tier_destroy (tier);
    errno = ENOSPC;
    return NULL;
  }
  return tier;
}

void
tiers_remove (struct tiers *tiers, struct tier *tier)
{
  unsigned i = 0;

  pthread_mutex_lock (&tiers->lock);
  while (tiers->order[i] != tier)
    i++;
  for (tiers->nr--; i < tiers->nr; i++)
    tiers->order[i] = tiers->order[i + 1];
  atomic_store (&tiers->tiers[tier->number], NULL);
  pthread_mutex_unlock (&tiers->lock);
}

void
tiers_close (struct tiers *tiers, struct tier *tier)
{
  limit_uncharge (tiers->limit, tier_charge (tier));
  tier_destroy (tier);
}

/* ---- Segments ------------------------------------------------------ */

/* Whether a tier may be written now, and may be tried again if it failed.
 */
static bool
is_writable (const struct tiers *tiers, const struct tier *tier)
{
  return !tier->leaving && (tier->delay == 0 || clock_ns () >= tier->retry)
    && budget_left (&tiers->budget) >= tier->segment_size;
}

uint64_t
tiers_retry_time (struct tiers *tiers)
{
  uint64_t now = clock_ns (), time = 0;
  unsigned i;

  for (i = 0; i < tiers->nr; i++) {
    const struct tier *tier = tiers->order[i];

    if (tier->delay && tier->retry > now
        && (time == 0 || tier->retry - now < time))
      time = tier->retry - now;
  }
  return time;
}

static void
init_segment (struct tier *tier, uint32_t n, unsigned cleaned)
{
  struct segment *segment = &tier->segments[n];

  segment->written = 0;
  segment->life++;
  segment->sequence = tier->opened++;
  segment->cleaned = cleaned < UINT8_MAX ? cleaned : UINT8_MAX;
  segment->aside = segment->doubtful = false;
  atomic_store_explicit (&segment->used, false, memory_order_relaxed);
  atomic_store (&segment->state, SEGMENT_OPEN);
}

static uint32_t
take_free (struct tier *tier)
{
  uint32_t n = tier->free;

  if (n) {
    tier->free = tier->segments[n].next;
    tier->nr_free--;
  }
  return n;
}

static void
put_free (struct tier *tier, uint32_t n)
{
  tier->segments[n].next = tier->free;
  tier->free = n;
  tier->nr_free++;
}

/* The one that has waited for longest. */
static uint32_t
take_bad (struct tier *tier)
{
  uint32_t n = tier->bad;

  if (n) {
    tier->bad = tier->segments[n].next;
    tier->nr_bad--;
  }
  return n;
}

static void
put_bad (struct tier *tier, uint32_t n)
{
  tier->segments[n].next = 0;
  if (tier->bad)
    tier->segments[tier->last_bad].next = n;
  else
    tier->bad = n;
  tier->last_bad = n;
  tier->nr_bad++;
}

/* So many are to be left. */
static uint32_t
nr_spare (const struct tier *tier)
{
  return 1 + tier->nr_segments / SPARE_PART;
}

uint32_t
tier_open_segment (struct tiers *tiers, struct tier *tier, unsigned cleaned)
{
  uint32_t n;

  if (!is_writable (tiers, tier))
    return 0;
  pthread_mutex_lock (&tier->lock);
  n = tier->nr_free > nr_spare (tier) || cleaned ? take_free (tier) : 0;
  if (n == 0 && (cleaned || tier->nr_free + tier->nr_bad > nr_spare (tier)))
    n = take_bad (tier);
  if (n)
    init_segment (tier, n, cleaned);
  pthread_mutex_unlock (&tier->lock);
  return n;
}

struct tier_counts
tier_count_segments (struct tier *tier)
{
  struct tier_counts counts;

  pthread_mutex_lock (&tier->lock);
  counts.free = tier->nr_free + tier->nr_bad;
  counts.abandoned = tier->nr_abandoned;
  pthread_mutex_unlock (&tier->lock);
  counts.used = tier->nr_segments - 1 - counts.free - counts.abandoned;
  return counts;
}

/* Whether there are so many, or would be if the BAD ones counted. */
static bool
has_free (struct tiers *tiers, struct tier *tier, uint32_t nr, bool bad)
{
  bool free;

  pthread_mutex_lock (&tier->lock);
  free = tier->nr_free + (bad ? tier->nr_bad : 0) >= nr;
  pthread_mutex_unlock (&tier->lock);
  return free && is_writable (tiers, tier);
}

bool
tier_has_room (struct tiers *tiers, struct tier *tier)
{
  return has_free (tiers, tier, nr_spare (tier) + 1, true);
}

bool
tier_has_spare (struct tiers *tiers, struct tier *tier)
{
  return has_free (tiers, tier, 1, true);
}

bool
tiers_have_room (struct tiers *tiers)
{
  unsigned i;

  for (i = 0; i < tiers->nr; i++)
    if (tier_has_room (tiers, tiers->order[i]))
      return true;
  return false;
}

bool
tiers_have_good_room (struct tiers *tiers)
{
  unsigned i;

  for (i = 0; i < tiers->nr; i++)
    if (has_free (tiers, tiers->order[i], nr_spare (tiers->order[i]) + 1,
                  false))
      return true;
  return false;
}

bool
tiers_have_copies (const struct tiers *tiers)
{
  unsigned i;

  for (i = 0; i < tiers->nr; i++)
    if (atomic_load (&tiers->order[i]->copies))
      return true;
  return false;
}

/* ---- What became of a write ----------------------------------------- */

/* It is no news if the segment was bad before. */
void
tier_write_failed (struct tier *tier, uint32_t n, bool unanswered)
{
  struct segment *segment = &tier->segments[n];

  segment->unanswered = unanswered;
  atomic_fetch_add (&tier->write_errors, 1);
  if (segment->bad)
    return;
  segment->bad = true;
  tier->delay = tier->delay ? 2 * tier->delay : RETRY_MIN;
  if (tier->delay > RETRY_MAX)
    tier->delay = RETRY_MAX;
  tier->retry = clock_ns () + tier->delay;
}

/* The storage may have become better: now and then a bad segment is given
 * another chance.
 */
void
tier_write_succeeded (struct tier *tier, uint32_t n)
{
  struct segment *segment = &tier->segments[n];

  tier->delay = 0;
  segment->bad = false;
  pthread_mutex_lock (&tier->lock);
  if (tier->bad && tier->opened % FORGIVE == 0)
    put_free (tier, take_bad (tier));
  pthread_mutex_unlock (&tier->lock);
}

/* ---- Who names what ------------------------------------------------ */

/* A slot names a record from now on. */
static void
weigh (struct tier *tier, uint64_t word)
{
  unsigned weight = tier_weight (word);

  atomic_fetch_add (&tier->segments[slot_segment (word)].weight, weight);
  atomic_fetch_add (&tier->weight, weight);
  atomic_fetch_add (&tier->pages, 1);
}

static void
unweigh (struct tier *tier, uint64_t word)
{
  unsigned weight = tier_weight (word);

  atomic_fetch_sub (&tier->segments[slot_segment (word)].weight, weight);
  atomic_fetch_sub (&tier->weight, weight);
  atomic_fetch_sub (&tier->pages, 1);
}

void
tier_enter (struct tiers *tiers, uint64_t word)
{
  struct tier *tier = tiers_of (tiers, word);

  atomic_fetch_add (&tier->segments[slot_segment (word)].live, 1);
  weigh (tier, word);
}

/* Nobody names a full segment any more, and nobody will. */
static void
let_die (struct tier *tier, uint32_t n)
{
  struct segment *segment = &tier->segments[n];

  pthread_mutex_lock (&tier->lock);
  if (atomic_load (&segment->state) == SEGMENT_FULL
      && atomic_load (&segment->live) == 0) {
    atomic_store (&segment->state, SEGMENT_DYING);
    segment->next = tier->dying;
    tier->dying = n;
    tier->nr_dying++;
  }
  pthread_mutex_unlock (&tier->lock);
}

static void
leave_segment (struct tier *tier, uint32_t n)
{
  if (atomic_fetch_sub (&tier->segments[n].live, 1) == 1)
    let_die (tier, n);
}

void
tier_leave (struct tiers *tiers, uint64_t word)
{
  struct tier *tier = tiers_of (tiers, word);

  unweigh (tier, word);
  leave_segment (tier, slot_segment (word));
}

void
tier_make_copy (struct tiers *tiers, uint64_t word)
{
  struct tier *tier = tiers_of (tiers, word);

  atomic_fetch_add (&tier->copies, 1);
  unweigh (tier, word);
}

void
tier_use_copy (struct tiers *tiers, uint64_t word)
{
  struct tier *tier = tiers_of (tiers, word);

  weigh (tier, word);
  atomic_fetch_sub (&tier->copies, 1);
}

void
tier_drop_copy (struct tiers *tiers, uint64_t word)
{
  struct tier *tier = tiers_of (tiers, word);

  atomic_fetch_sub (&tier->copies, 1);
  leave_segment (tier, slot_segment (word));
}

void
tier_close_segment (struct tier *tier, uint32_t n, unsigned written)
{
  struct segment *segment = &tier->segments[n];

  segment->written = written < UINT16_MAX ? written : UINT16_MAX;
  atomic_store (&segment->state, SEGMENT_FULL);
  let_die (tier, n);
}

/* ---- Segments that die --------------------------------------------- */

/* What becomes of a segment whose grace period is over. */
static void
free_segment (struct tier *tier, uint32_t n)
{
  struct segment *segment = &tier->segments[n];

  tier->nr_dying--;
  if (segment->unanswered) {
    atomic_store (&segment->state, SEGMENT_ABANDONED);
    tier->nr_abandoned++;
    return;
  }
  atomic_store (&segment->state, SEGMENT_FREE);
  if (segment->bad)
    put_bad (tier, n);
  else
    put_free (tier, n);
}

static void
free_list (struct tier *tier, uint32_t n)
{
  uint32_t next;

  for (; n; n = next) {
    next = tier->segments[n].next;
    free_segment (tier, n);
  }
}

/* Nobody can name or read them, so the lock need not be held. */
static void
discard_list (struct tier *tier, uint32_t n)
{
  const struct zram_tier *storage = &tier->storage;

  for (; n && storage->ops->discard; n = tier->segments[n].next)
    if (!tier->segments[n].unanswered
        && storage->ops->discard (storage->opaque, tier->segment_size,
                                  tier_segment_offset (tier, n)) == -1)
      tier->segments[n].unanswered = errno == EINPROGRESS;
}

static bool
tier_poll (struct tier *tier, struct epoch *epoch)
{
  uint32_t expired = 0;
  bool waiting;

  pthread_mutex_lock (&tier->lock);
  if (tier->expiring == 0 && tier->dying) {
    tier->expiring = tier->dying;
    tier->dying = 0;
    tier->ticket = epoch_ticket (epoch);
  }
  if (tier->expiring && epoch_passed (epoch, tier->ticket)) {
    expired = tier->expiring;
    tier->expiring = 0;
  }
  pthread_mutex_unlock (&tier->lock);

  discard_list (tier, expired);
  pthread_mutex_lock (&tier->lock);
  free_list (tier, expired);
  waiting = tier->nr_dying > 0;
  pthread_mutex_unlock (&tier->lock);
  return waiting;
}

bool
tiers_poll (struct tiers *tiers)
{
  bool waiting = false;
  unsigned i;

  for (i = 0; i < tiers->nr; i++)
    waiting |= tier_poll (tiers->order[i], tiers->epoch);
  return waiting;
}

/* ---- Statistics ---------------------------------------------------- */

void
tier_stats (struct tier *tier, struct zram_tier_stats *stats)
{
  struct tier_counts counts = tier_count_segments (tier);

  *stats = (struct zram_tier_stats) {
    .number = tier->number,
    .size = tier->storage.size,
    .segment_size = tier->segment_size,
    .segments = tier->nr_segments - 1,
    .free_segments = counts.free,
    .abandoned_segments = counts.abandoned,
    .pages = tier->pages,
    .clean_pages = tier->copies,
    .bytes_stored = (uint64_t) counts.used * tier->segment_size,
    .bytes_live = tier->weight * TIER_RECORD_ALIGN,
    .bytes_in = tier->bytes_in,
    .bytes_written = tier->bytes_written,
    .reads = tier->reads,
    .writes = tier->writes,
    .read_errors = tier->read_errors,
    .corrected_errors = tier->corrected_errors,
    .write_errors = tier->write_errors,
    .read_latency = latency_read (&tier->read_latency),
    .write_latency = latency_read (&tier->write_latency),
  };
}
