/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Records of a tier: how long they are, and whether one that was read is what
 * was written.
 *
 * The checksum covers the record and, as its seed, where it stands, in which
 * opening of the tier and in which life of the segment it was written.  So a
 * sector that rotted, one of an earlier life of the segment and one of
 * another server's data are all the same.
 *
 * One byte that has changed costs a page, if the record is that of a page.  A
 * group would lose up to 16 pages by it, so its record ends with a row of
 * *parity*: the exclusive or of all rows of 64 bytes before it.  What damage
 * within one row has done to the parity is what it has done to that row, and
 * only which row it was is not known.  But there are 254 at most, and the
 * checksum tells when the right one was put back.  So a row has nothing of its
 * own, the parity is 0.6 % of a group of 10 KiB, and searching takes a fraction
 * of a millisecond, when something is damaged.  It is the scheme of RAID 4,
 * with a checksum in place of the drive that says that it has failed.
 *
 * That it takes the wrong row, and the checksum fits all the same, is as
 * likely as 254 in 2^64.
 */

#include <config.h>

#include <string.h>

#include <xxhash.h>

#include "tier.h"

#define ROW_SIZE TIER_PARITY_SIZE

/* Odd, so that no two lives are the same; large, so that they are not the
 * same as another place either.
 */
#define LIFE_FACTOR UINT64_C (0x9e3779b97f4a7c15)

/* ---- Length -------------------------------------------------------- */

static unsigned
unit_of (enum slot_state state)
{
  return state == SLOT_TIER ? TIER_PAGE_UNIT : TIER_GROUP_UNIT;
}

static size_t
parity_size (enum slot_state state)
{
  return state == SLOT_TIER_GROUP ? ROW_SIZE : 0;
}

unsigned
tier_length (enum slot_state state, size_t size)
{
  unsigned unit = unit_of (state);
  size_t length = (sizeof (struct tier_record) + size + unit - 1
                   + parity_size (state)) / unit;

  return length <= TIER_LENGTH_MAX ? length : 0;
}

size_t
tier_length_bytes (enum slot_state state, unsigned length)
{
  return (size_t) length * unit_of (state);
}

/* ---- The checksum -------------------------------------------------- */

static uint64_t
checksum (const struct tier *tier, uint32_t segment, unsigned offset,
          const struct tier_record *record)
{
  const unsigned char *start = (const unsigned char *) record
    + sizeof record->checksum;

  return XXH64 (start, sizeof *record - sizeof record->checksum
                       + record->size,
                (tier->mark ^ (tier_segment_offset (tier, segment) + offset))
                + tier->segments[segment].life * LIFE_FACTOR);
}

static bool
is_sound (const struct tier *tier, uint32_t segment, unsigned offset,
          const struct tier_record *record, size_t room)
{
  return room > sizeof *record && record->size <= room - sizeof *record
    && record->checksum == checksum (tier, segment, offset, record);
}

/* ---- The parity ---------------------------------------------------- */

static void
add_row (unsigned char *to, const unsigned char *row)
{
  unsigned i;

  for (i = 0; i < ROW_SIZE; i++)
    to[i] ^= row[i];
}

static void
sum_rows (unsigned char *sum, const struct tier_record *record, size_t size)
{
  const unsigned char *row = (const void *) record;

  memset (sum, 0, ROW_SIZE);
  for (; size >= ROW_SIZE; size -= ROW_SIZE, row += ROW_SIZE)
    add_row (sum, row);
}

/* Correct what has changed within one row of a record of SIZE bytes, parity
 * included.  False, and nothing has changed, if it was more than that.
 */
static bool
correct (const struct tier *tier, uint32_t segment, unsigned offset,
         struct tier_record *record, size_t size)
{
  const size_t room = size - ROW_SIZE;
  unsigned char *row = (void *) record, sum[ROW_SIZE];
  size_t i;

  sum_rows (sum, record, size);
  for (i = 0; i < room; i += ROW_SIZE, row += ROW_SIZE) {
    add_row (row, sum);
    if (is_sound (tier, segment, offset, record, room))
      return true;
    add_row (row, sum);
  }
  return false;
}

/* ---- Both ---------------------------------------------------------- */

void
tier_seal (const struct tier *tier, uint32_t segment, unsigned offset,
           struct tier_record *record)
{
  size_t size = tier_length_bytes (record->state,
                                   tier_length (record->state, record->size));

  record->checksum = checksum (tier, segment, offset, record);
  if (record->state == SLOT_TIER_GROUP)
    sum_rows ((unsigned char *) record + size - ROW_SIZE, record,
              size - ROW_SIZE);
}

bool
tier_verify (struct tier *tier, uint32_t segment, unsigned offset,
             struct tier_record *record, enum slot_state state, size_t size)
{
  if (size <= parity_size (state))
    return false;
  if (is_sound (tier, segment, offset, record, size - parity_size (state)))
    return true;
  if (state != SLOT_TIER_GROUP
      || !correct (tier, segment, offset, record, size))
    return false;
  atomic_fetch_add (&tier->corrected_errors, 1);
  return true;
}

unsigned
tier_verify_next (struct tier *tier, uint32_t segment, unsigned offset,
                  struct tier_record *record, size_t room)
{
  enum slot_state state;
  unsigned length;
  size_t size;

  if (room < sizeof *record)
    return 0;
  state = record->state;
  if (state != SLOT_TIER && state != SLOT_TIER_GROUP)
    return 0;
  length = tier_length (state, record->size);
  size = tier_length_bytes (state, length);
  return length && size <= room
    && tier_verify (tier, segment, offset, record, state, size) ? length : 0;
}
