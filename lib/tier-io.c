/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Reading and writing a tier: whole segments, and a record with what is
 * around it.  Nothing that is read is believed (tier-record.c): a record that
 * is not as it was written is EIO for its page, or for the pages of its group,
 * and for no other.
 */

#include <config.h>

#include <errno.h>

#include "clock.h"
#include "tier.h"

/* What is read around a record may make the read so much longer (a part of
 * it), and is not worth it below so many bytes, nor if the record alone comes
 * faster than that.  A disk that is far away, or that has to seek, passes; an
 * SSD does not.
 */
#define NEIGHBOURS_PART 8
#define NEIGHBOURS_MIN 16384
#define NEIGHBOURS_NS 300000

/* Any record, in whole blocks. */
#define LOOK_SIZE ((TIER_RECORD_MAX + TIER_BLOCK - 1) / TIER_BLOCK * TIER_BLOCK)

/* Steps of a running quantile are these parts of it, as powers of two: up
 * for a sample that is larger, down for one that is smaller.  One in nine is
 * smaller than where they balance.
 */
#define STEP_UP_SHIFT 6
#define STEP_DOWN_SHIFT 3

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

/* What each byte takes, if a write of so many took so long, ps.  Its first byte
 * is taken to need as long as that of a read: less is left of a write to a
 * cache, but no more than COUNT bytes should take so long as to matter.
 */
static uint64_t
each_byte_ps (const struct tier *tier, uint64_t ns, size_t count)
{
  uint64_t first = atomic_load_explicit (&tier->read_ns,
                                         memory_order_relaxed);

  return ns > first ? 1000 * (ns - first) / count : 1;
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
  else if (count <= TIER_BUFFER_SIZE)
    note_sample (&tier->read_ns, first_byte_ns (tier, ns, count));
  return ok;
}

bool
tier_read_segment (struct tier *tier, uint32_t segment, void *buf)
{
  return read_storage (tier, buf, tier->segment_size,
                       tier_segment_offset (tier, segment));
}

bool
tier_write_segment (struct tiers *tiers, struct tier *tier, uint32_t segment,
                    const void *buf, size_t size)
{
  uint64_t start = clock_ns (), ns;
  bool ok = tier->storage.ops->write (tier->storage.opaque, buf, size,
                                      tier_segment_offset (tier, segment))
    == 0;
  int err = errno;

  ns = clock_ns () - start;
  atomic_fetch_add (&tier->writes, 1);
  latency_add (&tier->write_latency, ns);
  budget_spend (&tiers->budget, size);
  if (!ok) {
    tier_write_failed (tier, segment, err == EINPROGRESS);
    return false;
  }
  tier_write_succeeded (tier, segment);
  atomic_fetch_add (&tier->bytes_written, size);
  note_sample (&tier->byte_ps, each_byte_ps (tier, ns, size));
  return true;
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

/* The window of SIZE, at a multiple of that, and the whole record. */
static void
plan (struct tier_fetched *f, unsigned size, unsigned offset, size_t length)
{
  unsigned end = offset + length;

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
  struct tier_record *record;

  if (slot_tier (word) != f->tier->number || slot_segment (word) != f->segment
      || offset < f->from || offset + length > f->from + f->count)
    return NULL;
  record = (void *) (f->buffer + (offset - f->from));
  return tier_verify (f->tier, f->segment, offset, record, slot_state (word),
                      length) ? record : NULL;
}

/* The neighbours may be what cannot be read. */
static bool
read_window (struct tier_fetched *f, unsigned size, uint64_t word)
{
  unsigned offset = slot_tier_offset (word);
  size_t length = tier_length_bytes (slot_state (word),
                                     slot_tier_length (word));
  uint64_t start = tier_segment_offset (f->tier, f->segment);

  plan (f, size, offset, length);
  return read_storage (f->tier, f->buffer, f->count, start + f->from)
    || (f->wide && read_window (f, TIER_BLOCK, word));
}

/* A buffer, for a read of a tier. */
static struct tier_fetched
take_buffer (struct tiers *tiers, struct tier *tier, uint32_t segment)
{
  unsigned turn = lend_take (&tier->readers);

  return (struct tier_fetched) {
    .tier = tier, .segment = segment, .turn = turn,
    .buffer = tier_buffers_take (&tiers->buffers),
  };
}

int
tiers_fetch (struct tiers *tiers, uint64_t word, bool around,
             struct tier_fetched *f)
{
  struct segment *segment;
  unsigned size;

  *f = take_buffer (tiers, tiers_of (tiers, word), slot_segment (word));
  segment = &f->tier->segments[f->segment];
  atomic_store_explicit (&segment->used, true, memory_order_relaxed);
  size = around ? window (f->tier) : TIER_BLOCK;
  if (size > TIER_BLOCK && !tier_buffers_widen (&tiers->buffers))
    size = TIER_BLOCK;
  if (read_window (f, size, word)) {
    f->record = tier_fetched_find (f, word);
    if (f->record)
      return 0;
    atomic_fetch_add (&f->tier->read_errors, 1);
  }
  tiers_put (tiers, f);
  errno = EIO;
  return -1;
}

void
tiers_put (struct tiers *tiers, const struct tier_fetched *f)
{
  tier_buffers_return (&tiers->buffers, f->buffer);
  lend_return (&f->tier->readers, f->turn);
}

/* ---- Is it still there? -------------------------------------------- */

/* Whether it says something of all that was written before the last look:
 * whoever writes one segment after the other is not to be followed by looks.
 */
static bool
is_worth_a_look (const struct tier *tier, uint32_t segment)
{
  return !tier->segments[segment].doubtful
    && (int32_t) (tier->segments[segment].sequence
                  - tier->opened_before) < 0;
}

/* The next one; 0 if there is none. */
static uint32_t
next_to_look_at (struct tier *tier, uint32_t segment)
{
  do
    segment = tier_next_full (tier, segment);
  while (segment && !is_worth_a_look (tier, segment));
  return segment;
}

/* The first record of one segment after the other.  (Any will do where all is
 * gone, and more would cost more than it saves.)
 */
static bool
is_there (struct tiers *tiers, struct tier *tier)
{
  struct tier_fetched f;
  bool sound;

  tier->looked = next_to_look_at (tier, tier->looked)
    ? : next_to_look_at (tier, 0);
  if (tier->looked == 0)
    return true;
  f = take_buffer (tiers, tier, tier->looked);
  sound = read_storage (tier, f.buffer, LOOK_SIZE,
                        tier_segment_offset (tier, tier->looked))
    && tier_verify_next (tier, tier->looked, 0, (void *) f.buffer, LOOK_SIZE);
  tiers_put (tiers, &f);
  return sound;
}

/* Until it is written anew. */
static void
doubt_all (struct tier *tier)
{
  uint32_t n;

  for (n = 1; n < tier->nr_segments; n++)
    tier->segments[n].doubtful = true;
}

void
tiers_look (struct tiers *tiers)
{
  unsigned i;

  for (i = 0; i < tiers->nr; i++) {
    struct tier *tier = tiers->order[i];

    if (tier->copies && !is_there (tiers, tier))
      doubt_all (tier);
    tier->opened_before = tier->opened;
  }
}
