/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Moving pages by hand.
 *
 * All goes in steps of a segment, in the thread that asks for it, and
 * between two steps whoever writes back by itself has its turn.
 */

#include <config.h>

#include <errno.h>
#include <unistd.h>

#include "memory.h"
#include "move.h"
#include "store.h"
#include "writeback-work.h"

/* Pages that are read in one go, and bytes of segments while others wait. */
#define READS 16
#define SEGMENT_BYTES (4 * TIER_SEGMENT_MAX)

/* ---- Steps --------------------------------------------------------- */

/* Whether a tier belongs to a LEVEL, and is not the tier NOT. */
static bool
is_target (const struct tier *tier, int level, const struct tier *not)
{
  return tier != not
    && (level == ZRAM_LEVEL_TIERS || tier->number == (unsigned) level);
}

/* The first that has room; NULL if there is none. */
static const struct tier *
target_on (struct tiers *tiers, int level, const struct tier *not)
{
  unsigned i;

  for (i = 0; i < tiers->nr; i++)
    if (is_target (tiers->order[i], level, not)
        && tier_has_room (tiers, tiers->order[i]))
      return tiers->order[i];
  return NULL;
}

/* What goes to a LEVEL, though not to the tier NOT, is to be gathered. */
static void
begin_step (struct zram_memory *memory, int level, unsigned not)
{
  struct writeback_work *work = memory->writeback.work;
  struct tiers *tiers = &memory->tiers;
  const struct tier *target;

  pthread_mutex_lock (&memory->writeback.working);
  writeback_wait_for_segments (memory);
  target = target_on (tiers, level, tiers_get (tiers, not));
  if (target == NULL && level != ZRAM_LEVEL_RAM) {
    writeback_make_room (memory);
    target = target_on (tiers, level, tiers_get (tiers, not));
  }
  writeback_clear (work, target ? target->segment_size : work->size);
}

/* What was not written stays where it was.  R and errno stand. */
static int
end_step (struct zram_memory *memory, int r)
{
  int err = errno;

  publish_nothing (memory);
  pthread_mutex_unlock (&memory->writeback.working);
  errno = err;
  return r;
}

bool
move_is_interrupted (const struct zram_memory *memory)
{
  if (!atomic_load (&memory->interrupted))
    return false;
  errno = EINTR;
  return true;
}

/* Write what was gathered to a tier; -1 and errno. */
static int
write_to (struct zram_memory *memory, struct tier *tier)
{
  uint32_t segment = tier_open_segment (&memory->tiers, tier, 0);

  if (segment == 0) {
    errno = ENOSPC;
    return -1;
  }
  if (publish_segment (memory, tier, segment))
    return 0;
  errno = EIO;
  return -1;
}

/* The same to a LEVEL, but not to the tier NOT.  Another one than it was
 * gathered for will do if its segments are as large.
 */
static int
write_to_level (struct zram_memory *memory, int level, const struct tier *not)
{
  const struct writeback_work *work = memory->writeback.work;
  struct tiers *tiers = &memory->tiers;
  unsigned i;
  int r = -1;

  if (work->nr == 0)
    return 0;
  errno = ENOSPC;
  for (i = 0; r == -1 && i < tiers->nr; i++)
    if (is_target (tiers->order[i], level, not)
        && work->used <= tiers->order[i]->segment_size)
      r = write_to (memory, tiers->order[i]);
  return r;
}

/* ---- Down ---------------------------------------------------------- */

static int
step_down (struct zram_memory *memory, struct wanted *wanted, int to,
           bool *more, uint64_t *moved)
{
  int r;

  begin_step (memory, to, TIER_NR_MAX);
  tiers_look (&memory->tiers);
  *more = gather_wanted (memory, wanted);
  r = write_to_level (memory, to, NULL);
  *moved += memory->writeback.work->gone;
  r = end_step (memory, r);
  memory_tidy (memory, WRITEBACK_COMPACT);
  return r;
}

static int
move_down (struct zram_memory *memory, struct wanted *wanted, int to,
           uint64_t *moved)
{
  bool more = true;

  while (more && wanted->left) {
    if (move_is_interrupted (memory)
        || step_down (memory, wanted, to, &more, moved) == -1)
      return -1;
  }
  return 0;
}

/* ---- Up ------------------------------------------------------------ */

static bool
is_on_level (uint64_t word, int level)
{
  return slot_on_tier (word)
    && (level == ZRAM_LEVEL_TIERS || slot_tier (word) == (unsigned) level);
}

/* One page.  Only memory that is short stops it; *FAILED if it cannot be
 * read.
 */
static int
promote (struct zram_store *store, slot *s, uint64_t page, uint64_t word,
         struct wanted *wanted, bool *failed)
{
  bool companions = wanted->left == UINT64_MAX;
  unsigned n;

  if (wanted->unreadable)
    return page_give_up (store, s, page, word);
  if (writeback_is_needed (&store->memory->writeback)) {
    errno = ENOSPC;
    return -1;
  }
  if (page_promote (store, s, page, word, companions, &n) == -1)
    *failed = true;
  else if (!companions)
    wanted->left -= n;
  return n;
}

/* What is wanted of one leaf, from wanted->page on; a few pages at a time,
 * since segments and leaves cannot be freed while we are in the epoch.
 */
static int
promote_some (struct zram_store *store, struct wanted *wanted, int from,
              bool *failed, uint64_t *moved)
{
  epoch_token *token = epoch_enter (&store->memory->table.epoch);
  uint64_t span, i;
  slot *s = slots_step (&store->slots, wanted->page, &span);
  unsigned reads = 0;
  int n = 0;

  if (span > wanted->end - wanted->page)
    span = wanted->end - wanted->page;
  for (i = 0; s && i < span && n != -1 && wanted->left && reads < READS;
       i++) {
    uint64_t word = slot_peek (&s[i]);

    if (!is_on_level (word, from))
      continue;
    n = promote (store, &s[i], wanted->page + i, word, wanted, failed);
    *moved += n > 0 ? n : 0;
    reads++;
  }
  epoch_leave (token);
  wanted->page += s ? i : span;
  return n == -1 ? -1 : 0;
}

/* The keeper fills the reserve while we wait.  At the limit it does not. */
static void
spare_reserve (struct zram_memory *memory)
{
  while (arena_is_short (&memory->pool.arena)
         && !atomic_load (&memory->interrupted))
    usleep (1000);
}

int
move_up (struct zram_store *store, struct wanted *wanted, int from,
         uint64_t *moved)
{
  bool failed = false;

  while (wanted->page < wanted->end && wanted->left) {
    spare_reserve (store->memory);
    if (move_is_interrupted (store->memory)
        || promote_some (store, wanted, from, &failed, moved) == -1)
      return -1;
    writeback_poke (&store->memory->writeback);
  }
  errno = EIO;
  return failed ? -1 : 0;
}

/* ---- Across -------------------------------------------------------- */

/* Whether whoever writes back is wanted, or we are not any more. */
static bool
is_waited_for (struct zram_memory *memory)
{
  return writeback_is_needed (&memory->writeback)
    || atomic_load (&memory->interrupted);
}

/* Gather from the segments of a tier, from *SEGMENT on, which becomes the one
 * to go on with: 0 if there is none.  -1 if some could not be read.
 */
static int
gather_segments (struct zram_memory *memory, struct tier *tier,
                 uint32_t *segment, struct wanted *wanted)
{
  struct writeback_work *work = memory->writeback.work;
  uint64_t read = 0;
  bool complete;
  int r = 0;

  while (*segment && !work->full && (wanted == NULL || wanted->left)
         && (read < SEGMENT_BYTES || !is_waited_for (memory))) {
    if (!clean_gather (memory, tier, *segment, wanted, &complete))
      r = -1;
    read += tier->segment_size;
    if (!work->full)
      *segment = tier_next_full (tier, *segment);
  }
  return r;
}

static int
step_across (struct zram_memory *memory, unsigned from, int to,
             uint32_t *segment, struct wanted *wanted, bool *failed,
             uint64_t *moved)
{
  struct tier *tier;
  int r = 0;

  begin_step (memory, to, from);
  tier = tiers_get (&memory->tiers, from);
  if (tier == NULL) {
    errno = EINVAL;             /* it was removed meanwhile */
    return end_step (memory, -1);
  }
  if (*segment == 0)
    *segment = tier_next_full (tier, 0);
  if (gather_segments (memory, tier, segment, wanted) == -1)
    *failed = true;
  r = write_to_level (memory, to, tier);
  *moved += memory->writeback.work->moved;
  return end_step (memory, r);
}

int
move_across (struct zram_memory *memory, struct wanted *wanted, int from,
             int to, uint64_t *moved)
{
  uint32_t segment = 0;
  bool failed = false;

  do {
    if (move_is_interrupted (memory)
        || step_across (memory, from, to, &segment, wanted, &failed, moved)
           == -1)
      return -1;
  } while (segment && (wanted == NULL || wanted->left));
  errno = EIO;
  return failed ? -1 : 0;
}

/* ---- By hand ------------------------------------------------------- */

static bool
is_level (struct zram_memory *memory, int level)
{
  if (memory->tiers.nr == 0)
    return false;
  return level == ZRAM_LEVEL_RAM || level == ZRAM_LEVEL_TIERS
    || (level >= 0 && tiers_get (&memory->tiers, level));
}

static int
least_age (enum zram_pages pages)
{
  return pages == ZRAM_PAGES_IDLE || pages == ZRAM_PAGES_HUGE_IDLE
    ? AGING_IDLE : 0;
}

int
zram_move (struct zram_store *store, const struct zram_move *move,
           uint64_t *moved)
{
  struct zram_memory *memory = store->memory;
  uint64_t count = move->count ? : store->size - move->offset;
  struct wanted wanted = {
    .store = store->number,
    .page = move->offset / ZRAM_PAGE_SIZE,
    .end = (move->offset + count - 1) / ZRAM_PAGE_SIZE + 1,
    .pages = move->pages,
    .age = least_age (move->pages),
    .left = move->limit ? : UINT64_MAX,
  };

  *moved = 0;
  if (!is_level (memory, move->from) || !is_level (memory, move->to)
      || move->from == move->to || (unsigned) move->pages >= ZRAM_NR_PAGES
      || move->offset >= store->size || count > store->size - move->offset) {
    errno = EINVAL;
    return -1;
  }
  if (move->from == ZRAM_LEVEL_RAM)
    return move_down (memory, &wanted, move->to, moved);
  if (move->to == ZRAM_LEVEL_RAM)
    return move_up (store, &wanted, move->from, moved);
  if (move->from == ZRAM_LEVEL_TIERS) {
    errno = EINVAL;
    return -1;
  }
  return move_across (memory, &wanted, move->from, move->to, moved);
}

void
zram_compact (struct zram_memory *memory)
{
  memory_tidy (memory, UINT32_MAX);
}

void
zram_interrupt (struct zram_memory *memory)
{
  atomic_store (&memory->interrupted, true);
}
