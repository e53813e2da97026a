/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Segments, and reading records.  See tier.h; what moves there is
 * writeback.c's choice.
 *
 * Nothing that is read is believed.  The checksum covers the record and,
 * as its seed, where it stands, in which opening of the tier and in which
 * life of the segment it was written.  So a sector that rotted, one of an
 * earlier life of the segment and one of another server's data are all the
 * same: EIO for that page, and for no other.
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

#include <xxhash.h>

#include "clock.h"
#include "mapping.h"
#include "tier.h"

/* Reads that can be under way at once. */
#define NR_BUFFERS 16

/* After a write that failed a tier is left alone for so long; the next time
 * for twice as long, up to the maximum.
 */
#define RETRY_MIN (CLOCK_SECOND / 100)
#define RETRY_MAX CLOCK_SECOND

/* One of so many segments that are written is followed by a bad one. */
#define FORGIVE 64

/* What is read around a record may make the read so much longer (a part of
 * it), and is not worth it below so many bytes, nor if the record alone comes
 * faster than that.  A disk that is far away, or that has to seek, passes; an
 * SSD does not.
 */
#define NEIGHBOURS_PART 8
#define NEIGHBOURS_MIN 16384
#define NEIGHBOURS_NS 300000

/* One in so many segments, and one more, is left for cleaning.  So a large
 * tier can be cleaned although one of these can not be written any more.
 */
#define SPARE_PART 1024

/* Segments that get a second chance, at most, in a look for a cold one. */
#define COLDEST_TRIES 16

/* What is cleaned together has been cleaned as often before, unless another
 * segment yields so much more that this is less than such a part of it.
 */
#define LIKE_PART 0.7

/* Steps of a running quantile are these parts of it, as powers of two: up
 * for a sample that is larger, down for one that is smaller.  One in nine is
 * smaller than where they balance.
 */
#define STEP_UP_SHIFT 6
#define STEP_DOWN_SHIFT 3

/* Odd, so that no two lives are the same; large, so that they are not the
 * same as another place either.
 */
#define LIFE_FACTOR UINT64_C (0x9e3779b97f4a7c15)

/* A record and what is around it, in whole blocks. */
#define BUFFER_SIZE (TIER_NEIGHBOURS + TIER_RECORD_MAX / TIER_BLOCK \
                     * TIER_BLOCK + 2 * TIER_BLOCK)

/* ---- Life ---------------------------------------------------------- */

void
tiers_init (struct tiers *tiers, struct limit *limit, struct epoch *epoch,
            uint64_t write_limit)
{
  *tiers = (struct tiers) { .limit = limit, .epoch = epoch };
  budget_init (&tiers->budget, write_limit);
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
  uint64_t sum = tiers->buffers ? NR_BUFFERS * BUFFER_SIZE : 0;
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
  mapping_release (tier->segments, table_size (tier));
  free (tier);
}

void
tiers_destroy (struct tiers *tiers)
{
  limit_uncharge (tiers->limit, tiers_charged (tiers));
  while (tiers->nr)
    tier_destroy (tiers->order[--tiers->nr]);
  if (tiers->buffers) {
    lend_destroy (&tiers->lent);
    mapping_release (tiers->buffers, NR_BUFFERS * BUFFER_SIZE);
    tiers->buffers = NULL;
  }
  pthread_mutex_destroy (&tiers->lock);
}

static bool
make_buffers (struct tiers *tiers)
{
  size_t size = NR_BUFFERS * BUFFER_SIZE;

  if (tiers->buffers)
    return true;
  if (!limit_charge (tiers->limit, size)) {
    errno = ENOSPC;
    return false;
  }
  tiers->buffers = mapping_reserve (size);
  if (tiers->buffers && lend_init (&tiers->lent, NR_BUFFERS) == 0) {
    mapping_touch (tiers->buffers, size);
    return true;
  }
  mapping_release (tiers->buffers, size);
  tiers->buffers = NULL;
  limit_uncharge (tiers->limit, size);
  return false;
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

static struct tier *
tier_create (const struct zram_tier *storage)
{
  uint64_t nr = storage->size / TIER_SEGMENT_SIZE;
  struct tier *tier = calloc (1, sizeof *tier);

  if (tier == NULL)
    return NULL;
  tier->storage = *storage;
  tier->nr_segments = nr < TIER_SEGMENTS_MAX ? nr : TIER_SEGMENTS_MAX;
  tier->segments = mapping_reserve (table_size (tier));
  if (tier->segments == NULL
      || getrandom (&tier->mark, sizeof tier->mark, 0)
         != sizeof tier->mark) {
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

  if (storage->size < 2 * TIER_SEGMENT_SIZE) {
    errno = EINVAL;
    return NULL;
  }
  if (tiers->nr == TIER_NR_MAX) {
    errno = ENOSPC;
    return NULL;
  }
  if (!make_buffers (tiers))
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

static uint64_t
segment_offset (uint32_t segment)
{
  return (uint64_t) segment * TIER_SEGMENT_SIZE;
}

/* Whether a tier may be written now, and may be tried again if it failed.
 */
static bool
is_writable (const struct tiers *tiers, const struct tier *tier)
{
  return !tier->leaving && (tier->delay == 0 || clock_ns () >= tier->retry)
    && budget_left (&tiers->budget) >= TIER_SEGMENT_SIZE;
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
  segment->aside = false;
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

uint32_t
tier_used_segments (struct tier *tier)
{
  uint32_t used;

  pthread_mutex_lock (&tier->lock);
  used = tier->nr_segments - 1 - tier->nr_free - tier->nr_bad
    - tier->nr_abandoned;
  pthread_mutex_unlock (&tier->lock);
  return used;
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

static bool
is_full (const struct tier *tier, uint32_t n)
{
  return atomic_load_explicit (&tier->segments[n].state,
                               memory_order_relaxed) == SEGMENT_FULL;
}

/* What it yields to clean a segment: the space that becomes free, times how
 * long it is likely to stay so, by what must be read and written for it.  Data
 * that is old is likely to become older.
 *
 * Source: Rosenblum and Ousterhout, 1991: cost-benefit.
 */
static double
yield_of (const struct tier *tier, const struct segment *segment,
          unsigned part)
{
  double weight = atomic_load_explicit (&segment->weight,
                                        memory_order_relaxed);
  uint32_t age = tier->opened - segment->sequence;

  if (weight * part >= segment->written * (part - 1.0) || segment->aside)
    return 0;
  return (segment->written - weight) * age / (segment->written + weight);
}

/* The full segment that yields most, and how much that is.  With LIKE, of those
 * that were cleaned as often.
 */
static uint32_t
best_to_clean (const struct tier *tier, unsigned part,
               const struct segment *like, double *best)
{
  uint32_t i, n = 0;

  *best = 0;
  for (i = 1; i < tier->nr_segments; i++) {
    const struct segment *segment = &tier->segments[i];
    double yield = yield_of (tier, segment, part);

    if (yield > *best && is_full (tier, i)
        && (like == NULL || segment->cleaned == like->cleaned)) {
      *best = yield;
      n = i;
    }
  }
  return n;
}

/* A look at each of them: some milliseconds for a terabyte. */
uint32_t
tier_to_clean (struct tier *tier, unsigned part, uint32_t like)
{
  double best, best_like;
  uint32_t i, n = best_to_clean (tier, part, NULL, &best);

  if (n == 0)                   /* perhaps it can be read next time */
    for (i = 1; i < tier->nr_segments; i++)
      tier->segments[i].aside = false;
  if (n == 0 || like == 0)
    return n;
  i = best_to_clean (tier, part, &tier->segments[like], &best_like);
  return best_like > best * LIKE_PART ? i : n;
}

void
tier_set_aside (struct tier *tier, uint32_t n)
{
  tier->segments[n].aside = true;
}

void
tier_no_gain (struct tier *tier, uint32_t n)
{
  struct segment *segment = &tier->segments[n];

  segment->written = atomic_load_explicit (&segment->weight,
                                           memory_order_relaxed);
}

/* The full segment that was opened first. */
static uint32_t
oldest (const struct tier *tier)
{
  uint32_t i, best = 0;

  for (i = 1; i < tier->nr_segments; i++)
    if (is_full (tier, i) && !tier->segments[i].aside
        && (best == 0
            || (int32_t) (tier->segments[i].sequence
                          - tier->segments[best].sequence) < 0))
      best = i;
  return best;
}

void
tier_defer (struct tier *tier, uint32_t n)
{
  tier->segments[n].sequence = tier->opened++;
}

/* Those that were read since get a second chance. */
uint32_t
tier_coldest (struct tier *tier)
{
  uint32_t tries, n;

  for (tries = 0; tries < COLDEST_TRIES; tries++) {
    n = oldest (tier);
    if (n == 0 || !atomic_exchange (&tier->segments[n].used, false))
      return n;
    tier_defer (tier, n);
  }
  return oldest (tier);
}

uint32_t
tier_next_full (struct tier *tier, uint32_t n)
{
  for (n++; n < tier->nr_segments; n++)
    if (is_full (tier, n))
      return n;
  return 0;
}

bool
tier_can_clean (struct tier *tier, uint32_t n, unsigned found)
{
  struct segment *segment = &tier->segments[n];

  segment->aside = atomic_load (&segment->live) > found;
  return !segment->aside;
}

/* ---- Storage ------------------------------------------------------- */

/* A sample moves the quantile by a step, however far from it it is.  Those
 * that had to wait for a processor, or for each other, say nothing of the
 * storage, and where processors have much to do they are many.
 */
static void
note_sample (_Atomic uint64_t *quantile, uint64_t sample)
{
  uint64_t old = atomic_load_explicit (quantile, memory_order_relaxed);
  uint64_t up = (old >> STEP_UP_SHIFT) + 1, down = (old >> STEP_DOWN_SHIFT) + 1;

  /* Of two at once one is lost. */
  atomic_store_explicit (quantile, old == 0 ? sample
                         : sample > old ? old + up
                         : old > down ? old - down : old,
                         memory_order_relaxed);
}

/* What the first byte takes, if so many took so long. */
static uint64_t
first_byte_ns (const struct tier *tier, uint64_t ns, size_t count)
{
  uint64_t bytes = count * atomic_load_explicit (&tier->byte_ps,
                                                 memory_order_relaxed) / 1000;

  return ns > bytes ? ns - bytes : 1;
}

static bool
read_storage (struct tier *tier, void *buf, size_t count, uint64_t offset)
{
  uint64_t start = clock_ns (), ns;
  bool ok = tier->storage.ops->read (tier->storage.opaque, buf, count, offset)
    == 0;

  ns = clock_ns () - start;
  atomic_fetch_add (&tier->reads, 1);
  latency_add (&tier->read_latency, ns);
  if (!ok)
    atomic_fetch_add (&tier->read_errors, 1);
  else if (count <= BUFFER_SIZE)
    note_sample (&tier->read_ns, first_byte_ns (tier, ns, count));
  return ok;
}

bool
tier_read_segment (struct tier *tier, uint32_t segment, void *buf)
{
  return read_storage (tier, buf, TIER_SEGMENT_SIZE,
                       segment_offset (segment));
}

/* It is no news if the segment was bad before. */
static void
note_failure (struct tier *tier, struct segment *segment)
{
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
static void
note_success (struct tier *tier, struct segment *segment)
{
  tier->delay = 0;
  segment->bad = false;
  pthread_mutex_lock (&tier->lock);
  if (tier->bad && tier->opened % FORGIVE == 0)
    put_free (tier, take_bad (tier));
  pthread_mutex_unlock (&tier->lock);
}

bool
tier_write_segment (struct tiers *tiers, struct tier *tier, uint32_t segment,
                    const void *buf, size_t size)
{
  uint64_t start = clock_ns (), ns;
  bool ok = tier->storage.ops->write (tier->storage.opaque, buf, size,
                                      segment_offset (segment)) == 0;
  int err = errno;

  ns = clock_ns () - start;
  atomic_fetch_add (&tier->writes, 1);
  latency_add (&tier->write_latency, ns);
  budget_spend (&tiers->budget, size);
  if (!ok) {
    tier->segments[segment].unanswered = err == EINPROGRESS;
    note_failure (tier, &tier->segments[segment]);
    return false;
  }
  note_success (tier, &tier->segments[segment]);
  atomic_fetch_add (&tier->bytes_written, size);
  note_sample (&tier->byte_ps, 1000 * ns / size);
  return true;
}

/* ---- Who names what ------------------------------------------------ */

static struct tier *
tier_of (struct tiers *tiers, uint64_t word)
{
  return tiers_get (tiers, slot_tier (word));
}

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
  struct tier *tier = tier_of (tiers, word);

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
  struct tier *tier = tier_of (tiers, word);

  unweigh (tier, word);
  leave_segment (tier, slot_segment (word));
}

void
tier_make_copy (struct tiers *tiers, uint64_t word)
{
  struct tier *tier = tier_of (tiers, word);

  atomic_fetch_add (&tier->copies, 1);
  unweigh (tier, word);
}

void
tier_use_copy (struct tiers *tiers, uint64_t word)
{
  struct tier *tier = tier_of (tiers, word);

  weigh (tier, word);
  atomic_fetch_sub (&tier->copies, 1);
}

void
tier_drop_copy (struct tiers *tiers, uint64_t word)
{
  struct tier *tier = tier_of (tiers, word);

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
        && storage->ops->discard (storage->opaque, TIER_SEGMENT_SIZE,
                                  segment_offset (n)) == -1)
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

/* ---- Records ------------------------------------------------------- */

static unsigned
unit_of (enum slot_state state)
{
  return state == SLOT_TIER ? TIER_PAGE_UNIT : TIER_GROUP_UNIT;
}

unsigned
tier_length (enum slot_state state, size_t size)
{
  unsigned unit = unit_of (state);
  size_t length = (sizeof (struct tier_record) + size + unit - 1) / unit;

  return length <= TIER_LENGTH_MAX ? length : 0;
}

size_t
tier_length_bytes (enum slot_state state, unsigned length)
{
  return (size_t) length * unit_of (state);
}

static uint64_t
checksum (const struct tier *tier, uint32_t segment, unsigned offset,
          const struct tier_record *record)
{
  const unsigned char *start = (const unsigned char *) record
    + sizeof record->checksum;

  return XXH64 (start, sizeof *record - sizeof record->checksum
                       + record->size,
                (tier->mark ^ (segment_offset (segment) + offset))
                + tier->segments[segment].life * LIFE_FACTOR);
}

void
tier_seal (const struct tier *tier, uint32_t segment, unsigned offset,
           struct tier_record *record)
{
  record->checksum = checksum (tier, segment, offset, record);
}

bool
tier_is_sound (const struct tier *tier, uint32_t segment, unsigned offset,
               const struct tier_record *record, size_t room)
{
  return room > sizeof *record && record->size <= room - sizeof *record
    && record->checksum == checksum (tier, segment, offset, record);
}

/* ---- Reading ------------------------------------------------------- */

/* How much to read where a record is: the blocks that it is in, or more if
 * that is cheap enough.
 */
static unsigned
window (const struct tier *tier)
{
  uint64_t read_ns = atomic_load_explicit (&tier->read_ns,
                                           memory_order_relaxed);
  uint64_t byte_ps = atomic_load_explicit (&tier->byte_ps,
                                           memory_order_relaxed);
  uint64_t size = TIER_NEIGHBOURS;

  if (read_ns < NEIGHBOURS_NS)
    return TIER_BLOCK;
  while (size >= NEIGHBOURS_MIN
         && size * byte_ps / 1000 > read_ns / NEIGHBOURS_PART)
    size /= 2;
  return size >= NEIGHBOURS_MIN ? size : TIER_BLOCK;
}

/* The window, which lies at a multiple of its size, and the whole record. */
static void
plan (struct tier_fetched *f, unsigned offset, size_t length)
{
  unsigned size = window (f->tier), end = offset + length;

  f->wide = size > TIER_BLOCK;
  f->from = offset / size * size;
  end = end < f->from + size ? f->from + size
    : (end + TIER_BLOCK - 1) / TIER_BLOCK * TIER_BLOCK;
  f->count = end - f->from;
}

const struct tier_record *
tier_fetched_find (const struct tier_fetched *f, uint64_t word)
{
  unsigned offset = slot_tier_offset (word);
  size_t length = tier_length_bytes (slot_state (word),
                                     slot_tier_length (word));
  const struct tier_record *record;

  if (slot_tier (word) != f->tier->number || slot_segment (word) != f->segment
      || offset < f->from || offset + length > f->from + f->count)
    return NULL;
  record = (const void *) (f->buffer + (offset - f->from));
  return tier_is_sound (f->tier, f->segment, offset, record, length)
    ? record : NULL;
}

/* The neighbours may be what cannot be read. */
static bool
read_window (struct tier_fetched *f, uint64_t word)
{
  unsigned offset = slot_tier_offset (word);
  size_t length = tier_length_bytes (slot_state (word),
                                     slot_tier_length (word));
  uint64_t start = segment_offset (f->segment);

  plan (f, offset, length);
  if (read_storage (f->tier, f->buffer, f->count, start + f->from))
    return true;
  if (!f->wide)
    return false;
  f->wide = false;
  f->from = offset / TIER_BLOCK * TIER_BLOCK;
  f->count = (offset + length + TIER_BLOCK - 1) / TIER_BLOCK * TIER_BLOCK
    - f->from;
  return read_storage (f->tier, f->buffer, f->count, start + f->from);
}

int
tiers_fetch (struct tiers *tiers, uint64_t word, struct tier_fetched *f)
{
  unsigned n = lend_take (&tiers->lent);
  struct segment *segment;

  *f = (struct tier_fetched) {
    .tier = tier_of (tiers, word), .segment = slot_segment (word),
    .buffer = tiers->buffers + n * BUFFER_SIZE,
  };
  segment = &f->tier->segments[f->segment];
  atomic_store_explicit (&segment->used, true, memory_order_relaxed);
  if (read_window (f, word)) {
    f->record = tier_fetched_find (f, word);
    if (f->record)
      return 0;
    atomic_fetch_add (&f->tier->read_errors, 1);
  }
  lend_return (&tiers->lent, n);
  errno = EIO;
  return -1;
}

void
tiers_put (struct tiers *tiers, const struct tier_fetched *f)
{
  lend_return (&tiers->lent, (f->buffer - tiers->buffers) / BUFFER_SIZE);
}

/* ---- Statistics ---------------------------------------------------- */

void
tier_stats (struct tier *tier, struct zram_tier_stats *stats)
{
  uint32_t used = tier_used_segments (tier);

  *stats = (struct zram_tier_stats) {
    .number = tier->number,
    .size = tier->storage.size,
    .segments = tier->nr_segments - 1,
    .free_segments = tier->nr_segments - 1 - used - tier->nr_abandoned,
    .abandoned_segments = tier->nr_abandoned,
    .pages = tier->pages,
    .clean_pages = tier->copies,
    .bytes_stored = (uint64_t) used * TIER_SEGMENT_SIZE,
    .bytes_live = tier->weight * TIER_RECORD_ALIGN,
    .bytes_in = tier->bytes_in,
    .bytes_written = tier->bytes_written,
    .reads = tier->reads,
    .writes = tier->writes,
    .read_errors = tier->read_errors,
    .write_errors = tier->write_errors,
    .read_latency = latency_read (&tier->read_latency),
    .write_latency = latency_read (&tier->write_latency),
  };
}

/* ---- Validator ----------------------------------------------------- */

static unsigned
check_segment (const struct tier *tier, uint32_t n,
               const struct tier_named *named, FILE *report)
{
  const struct segment *segment = &tier->segments[n];
  unsigned faults = 0;

  if (segment->live != named->live || segment->weight != named->weight)
    faults++, fprintf (report, "tier %u, segment %" PRIu32 ": %" PRIu32
                       " pages of weight %" PRIu32 ", counters say %" PRIu32
                       " and %u\n", tier->number, n, named->live,
                       named->weight, segment->live, segment->weight);
  if (segment->live && segment->state != SEGMENT_FULL)
    faults++, fprintf (report, "tier %u, segment %" PRIu32 ": has pages in "
                       "state %u\n", tier->number, n, segment->state);
  return faults;
}

/* A list of segments that are free. */
static unsigned
check_list (const struct tier *tier, const char *name, uint32_t first,
            uint32_t nr, FILE *report)
{
  unsigned faults = 0;
  uint32_t i, found = 0;

  for (i = first; i && found <= nr; i = tier->segments[i].next, found++)
    if (tier->segments[i].state != SEGMENT_FREE)
      faults++, fprintf (report, "tier %u, segment %" PRIu32 ": is in the "
                         "%s list\n", tier->number, i, name);
  if (found != nr)
    faults++, fprintf (report, "tier %u: %" PRIu32 " segments are %s, "
                       "counter says %" PRIu32 "\n", tier->number, found,
                       name, nr);
  return faults;
}

static unsigned
check_tier (struct tier *tier, const struct tier_named *named,
            uint64_t copies, FILE *report)
{
  unsigned faults = 0;
  uint64_t live = 0, weight = 0;
  uint32_t i, abandoned = 0;

  for (i = 1; i < tier->nr_segments; i++) {
    faults += check_segment (tier, i, &named[i], report);
    abandoned += tier->segments[i].state == SEGMENT_ABANDONED;
    live += named[i].live;
    weight += named[i].weight;
  }
  if (tier->pages + copies != live || tier->copies != copies
      || tier->weight != weight)
    faults++, fprintf (report, "tier %u: %" PRIu64 " pages, %" PRIu64
                       " of them clean, of weight %" PRIu64 ", counters say %"
                       PRIu64 ", %" PRIu64 " and %" PRIu64 "\n",
                       tier->number, live, copies, weight,
                       tier->pages + tier->copies, tier->copies,
                       tier->weight);
  if (abandoned != tier->nr_abandoned)
    faults++, fprintf (report, "tier %u: %" PRIu32 " segments are abandoned, "
                       "counter says %" PRIu32 "\n", tier->number, abandoned,
                       tier->nr_abandoned);
  faults += check_list (tier, "free", tier->free, tier->nr_free, report);
  faults += check_list (tier, "bad", tier->bad, tier->nr_bad, report);
  return faults;
}

unsigned
tiers_check (struct tiers *tiers, struct tier_named *const *named,
             const uint64_t *copies, FILE *report)
{
  unsigned i, n, faults = 0;

  for (i = 0; i < tiers->nr; i++) {
    n = tiers->order[i]->number;
    faults += check_tier (tiers->order[i], named[n], copies[n], report);
  }
  return faults;
}
