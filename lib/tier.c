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

#include "mapping.h"
#include "tier.h"

/* Reads that can be under way at once. */
#define NR_BUFFERS 16

/* Odd, so that no two lives are the same; large, so that they are not the
 * same as another place either.
 */
#define LIFE_FACTOR UINT64_C (0x9e3779b97f4a7c15)

/* A record and what is around it, in whole blocks. */
#define BUFFER_SIZE ((TIER_RECORD_MAX + 2 * TIER_BLOCK) / TIER_BLOCK \
                     * TIER_BLOCK)

/* ---- Life ---------------------------------------------------------- */

void
tiers_init (struct tiers *tiers, struct limit *limit, struct epoch *epoch)
{
  *tiers = (struct tiers) { .limit = limit, .epoch = epoch };
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
    sum += tier_charge (tiers->tiers[i]);
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
    tier_destroy (tiers->tiers[--tiers->nr]);
  if (tiers->buffers) {
    lend_destroy (&tiers->lent);
    mapping_release (tiers->buffers, NR_BUFFERS * BUFFER_SIZE);
    tiers->buffers = NULL;
  }
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

int
tiers_add (struct tiers *tiers, const struct zram_tier *storage)
{
  struct tier *tier;

  if (storage->size < 2 * TIER_SEGMENT_SIZE) {
    errno = EINVAL;
    return -1;
  }
  if (tiers->nr == TIER_NR_MAX) {
    errno = ENOSPC;
    return -1;
  }
  if (!make_buffers (tiers))
    return -1;
  tier = tier_create (storage);
  if (tier == NULL)
    return -1;
  if (!limit_charge (tiers->limit, tier_charge (tier))) {
    tier->storage.ops = &(const struct zram_tier_ops) { .close = NULL };
    tier_destroy (tier);
    errno = ENOSPC;
    return -1;
  }
  tiers->tiers[tiers->nr++] = tier;
  return 0;
}

/* ---- Segments ------------------------------------------------------ */

static uint64_t
segment_offset (uint32_t segment)
{
  return (uint64_t) segment * TIER_SEGMENT_SIZE;
}

uint32_t
tier_open_segment (struct tier *tier, bool cleaning)
{
  uint32_t n;

  pthread_mutex_lock (&tier->lock);
  n = tier->nr_free > 1 || cleaning ? tier->free : 0;
  if (n) {
    tier->free = tier->segments[n].next;
    tier->nr_free--;
    tier->segments[n].written = 0;
    tier->segments[n].life++;
    tier->segments[n].hopeless = false;
    atomic_store (&tier->segments[n].state, SEGMENT_OPEN);
  }
  pthread_mutex_unlock (&tier->lock);
  return n;
}

/* A look at each of them: some milliseconds for a terabyte. */
uint32_t
tier_sparsest (struct tier *tier)
{
  uint64_t best_live = 7, best_written = 8;
  uint32_t i, best = 0;

  for (i = 1; i < tier->nr_segments; i++) {
    const struct segment *segment = &tier->segments[i];
    uint64_t live = atomic_load_explicit (&segment->live,
                                          memory_order_relaxed);

    if (atomic_load_explicit (&segment->state, memory_order_relaxed)
        == SEGMENT_FULL && !segment->hopeless
        && live * best_written < best_live * segment->written) {
      best_live = live;
      best_written = segment->written;
      best = i;
    }
  }
  if (best == 0)                /* perhaps it can be read next time */
    for (i = 1; i < tier->nr_segments; i++)
      tier->segments[i].hopeless = false;
  return best;
}

bool
tier_can_clean (struct tier *tier, uint32_t n, unsigned found)
{
  struct segment *segment = &tier->segments[n];

  segment->hopeless = atomic_load (&segment->live) > found;
  return !segment->hopeless;
}

bool
tier_read_segment (struct tier *tier, uint32_t segment, void *buf)
{
  atomic_fetch_add (&tier->reads, 1);
  if (tier->storage.ops->read (tier->storage.opaque, buf, TIER_SEGMENT_SIZE,
                               segment_offset (segment)) == 0)
    return true;
  atomic_fetch_add (&tier->read_errors, 1);
  return false;
}

bool
tier_write_segment (struct tier *tier, uint32_t segment, const void *buf,
                    size_t size)
{
  atomic_fetch_add (&tier->writes, 1);
  if (tier->storage.ops->write (tier->storage.opaque, buf, size,
                                segment_offset (segment)) == 0) {
    atomic_fetch_add (&tier->bytes_written, size);
    return true;
  }
  atomic_fetch_add (&tier->write_errors, 1);
  return false;
}

void
tier_enter (struct tier *tier, uint32_t segment)
{
  atomic_fetch_add (&tier->segments[segment].live, 1);
  atomic_fetch_add (&tier->pages, 1);
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

void
tier_leave (struct tiers *tiers, uint64_t word)
{
  struct tier *tier = tiers->tiers[slot_tier (word)];
  uint32_t n = slot_segment (word);

  atomic_fetch_sub (&tier->pages, 1);
  if (atomic_fetch_sub (&tier->segments[n].live, 1) == 1)
    let_die (tier, n);
}

void
tier_close_segment (struct tier *tier, uint32_t n)
{
  struct segment *segment = &tier->segments[n];

  segment->written = atomic_load (&segment->live);
  atomic_store (&segment->state, SEGMENT_FULL);
  let_die (tier, n);
}

/* The list of segments whose grace period is over becomes free. */
static void
free_list (struct tier *tier, uint32_t n)
{
  while (n) {
    struct segment *segment = &tier->segments[n];
    uint32_t next = segment->next;

    atomic_store (&segment->state, SEGMENT_FREE);
    segment->next = tier->free;
    tier->free = n;
    tier->nr_free++;
    tier->nr_dying--;
    n = next;
  }
}

/* Nobody can name or read them, so the lock need not be held. */
static void
discard_list (struct tier *tier, uint32_t n)
{
  const struct zram_tier *storage = &tier->storage;

  for (; n && storage->ops->discard; n = tier->segments[n].next)
    storage->ops->discard (storage->opaque, TIER_SEGMENT_SIZE,
                           segment_offset (n));
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
tiers_have_room (struct tiers *tiers)
{
  bool room = false;
  unsigned i;

  for (i = 0; i < tiers->nr; i++) {
    pthread_mutex_lock (&tiers->tiers[i]->lock);
    room |= tiers->tiers[i]->nr_free > 1;
    pthread_mutex_unlock (&tiers->tiers[i]->lock);
  }
  return room;
}

bool
tiers_poll (struct tiers *tiers)
{
  bool waiting = false;
  unsigned i;

  for (i = 0; i < tiers->nr; i++)
    waiting |= tier_poll (tiers->tiers[i], tiers->epoch);
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

/* Read the blocks that the record is in. */
static const struct tier_record *
read_record (struct tier *tier, uint64_t word, unsigned char *buffer)
{
  unsigned offset = slot_tier_offset (word);
  unsigned first = offset / TIER_BLOCK * TIER_BLOCK;
  size_t length = tier_length_bytes (slot_state (word),
                                     slot_tier_length (word));
  unsigned last = offset + length;
  const struct tier_record *record
    = (const void *) (buffer + (offset - first));

  last = (last + TIER_BLOCK - 1) / TIER_BLOCK * TIER_BLOCK;
  atomic_fetch_add (&tier->reads, 1);
  if (tier->storage.ops->read (tier->storage.opaque, buffer, last - first,
                               segment_offset (slot_segment (word)) + first)
      == 0
      && tier_is_sound (tier, slot_segment (word), offset, record, length))
    return record;
  atomic_fetch_add (&tier->read_errors, 1);
  return NULL;
}

const struct tier_record *
tiers_fetch (struct tiers *tiers, uint64_t word)
{
  unsigned n = lend_take (&tiers->lent);
  const struct tier_record *record
    = read_record (tiers->tiers[slot_tier (word)], word,
                   tiers->buffers + n * BUFFER_SIZE);

  if (record)
    return record;
  lend_return (&tiers->lent, n);
  errno = EIO;
  return NULL;
}

void
tiers_put (struct tiers *tiers, const struct tier_record *record)
{
  lend_return (&tiers->lent, ((const unsigned char *) record - tiers->buffers)
                             / BUFFER_SIZE);
}

void
tier_stats (struct tier *tier, struct zram_tier_stats *stats)
{
  pthread_mutex_lock (&tier->lock);
  *stats = (struct zram_tier_stats) {
    .size = tier->storage.size,
    .segments = tier->nr_segments - 1,
    .free_segments = tier->nr_free,
    .pages = tier->pages,
    .bytes_written = tier->bytes_written,
    .reads = tier->reads,
    .writes = tier->writes,
    .read_errors = tier->read_errors,
    .write_errors = tier->write_errors,
  };
  pthread_mutex_unlock (&tier->lock);
}

/* ---- Validator ----------------------------------------------------- */

static unsigned
check_tier (struct tier *tier, unsigned number, const uint32_t *live,
            FILE *report)
{
  unsigned faults = 0;
  uint32_t i, nr_free = 0;

  for (i = 1; i < tier->nr_segments; i++) {
    const struct segment *segment = &tier->segments[i];

    if (segment->live != live[i])
      faults++, fprintf (report, "tier %u, segment %" PRIu32 ": %" PRIu32
                         " pages, counter says %" PRIu32 "\n", number, i,
                         live[i], segment->live);
    if (segment->live && segment->state != SEGMENT_FULL
        && segment->state != SEGMENT_OPEN)
      faults++, fprintf (report, "tier %u, segment %" PRIu32 ": has pages in "
                         "state %u\n", number, i, segment->state);
  }
  for (i = tier->free; i; i = tier->segments[i].next, nr_free++)
    if (tier->segments[i].state != SEGMENT_FREE)
      faults++, fprintf (report, "tier %u, segment %" PRIu32 ": is in the "
                         "free list\n", number, i);
  if (nr_free != tier->nr_free)
    faults++, fprintf (report, "tier %u: %" PRIu32 " segments are free, "
                       "counter says %" PRIu32 "\n", number, nr_free,
                       tier->nr_free);
  return faults;
}

unsigned
tiers_check (struct tiers *tiers, const uint32_t *const *live, FILE *report)
{
  unsigned i, faults = 0;

  for (i = 0; i < tiers->nr; i++)
    faults += check_tier (tiers->tiers[i], i, live[i], report);
  return faults;
}
