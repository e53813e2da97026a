/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Moving pages by hand, and tiers that come and go.
 *
 * All goes in steps of a segment, in the thread that asks for it, and
 * between two steps whoever writes back by itself has its turn.  A tier that
 * is to go takes nothing in any more; what is alive in its segments moves to
 * others, or to RAM.  When no slot names it, and all requests are over that
 * could have seen one that did, it is closed.
 */

#include <config.h>

#include <errno.h>
#include <unistd.h>

#include "memory.h"
#include "store.h"
#include "writeback-work.h"

/* Pages that are read in one go. */
#define READS 16

/* How often memory is made free for a new tier. */
#define ADD_TRIES 4

/* ---- Steps --------------------------------------------------------- */

static void
begin_step (struct zram_memory *memory)
{
  pthread_mutex_lock (&memory->writeback.working);
  writeback_wait_for_segments (memory);
  writeback_clear (memory->writeback.work);
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

static bool
is_interrupted (const struct zram_memory *memory)
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

/* The same to a LEVEL, which is not that of the tier NOT. */
static int
write_to_level (struct zram_memory *memory, int level, const struct tier *not)
{
  struct tiers *tiers = &memory->tiers;
  unsigned i;
  int r = -1;

  if (memory->writeback.work->nr == 0)
    return 0;
  errno = ENOSPC;
  for (i = 0; r == -1 && i < tiers->nr; i++)
    if (tiers->order[i] != not
        && (level == ZRAM_LEVEL_TIERS
            || tiers->order[i]->number == (unsigned) level))
      r = write_to (memory, tiers->order[i]);
  return r;
}

/* ---- Down ---------------------------------------------------------- */

static int
step_down (struct zram_memory *memory, struct wanted *wanted, int to,
           bool *more, uint64_t *moved)
{
  int r;

  begin_step (memory);
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
    if (is_interrupted (memory)
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

/* The keeper fills the reserve while we wait. */
static void
spare_reserve (struct zram_memory *memory)
{
  while (arena_is_low (&memory->pool.arena)
         && !atomic_load (&memory->interrupted))
    usleep (1000);
}

static int
move_up (struct zram_store *store, struct wanted *wanted, int from,
         uint64_t *moved)
{
  bool failed = false;

  while (wanted->page < wanted->end && wanted->left) {
    spare_reserve (store->memory);
    if (is_interrupted (store->memory)
        || promote_some (store, wanted, from, &failed, moved) == -1)
      return -1;
    writeback_poke (&store->memory->writeback);
  }
  errno = EIO;
  return failed ? -1 : 0;
}

/* ---- Across -------------------------------------------------------- */

/* Gather from the segments of a tier, from *SEGMENT on, which becomes the one
 * to go on with: 0 if there is none.  -1 if some could not be read.
 */
static int
gather_segments (struct zram_memory *memory, struct tier *tier,
                 uint32_t *segment, struct wanted *wanted)
{
  struct writeback_work *work = memory->writeback.work;
  bool complete;
  int r = 0;

  while (*segment && !work->full) {
    if (!clean_gather (memory, tier, *segment, wanted, &complete))
      r = -1;
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

  begin_step (memory);
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

static int
move_across (struct zram_memory *memory, struct wanted *wanted, int from,
             int to, uint64_t *moved)
{
  uint32_t segment = 0;
  bool failed = false;

  do {
    if (is_interrupted (memory)
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

/* ---- Tiers --------------------------------------------------------- */

/* RAM is full when a tier is wanted most. */
static struct tier *
make_tier (struct zram_memory *memory, const struct zram_tier *storage)
{
  unsigned tries = ADD_TRIES;
  struct tier *tier;

  do {
    tier = NULL;
    if (writeback_prepare (&memory->writeback) == 0)
      tier = tiers_make (&memory->tiers, storage);
    if (tier || errno != ENOSPC || memory->tiers.nr == TIER_NR_MAX)
      return tier;
    memory_tidy (memory, WRITEBACK_COMPACT);
    writeback_wait (&memory->writeback);
    errno = ENOSPC;
  } while (--tries);
  return NULL;
}

int
zram_add_tier (struct zram_memory *memory, const struct zram_tier *storage)
{
  struct tier *tier = make_tier (memory, storage);
  int err;

  if (tier) {
    pthread_mutex_lock (&memory->writeback.working);
    tiers_add (&memory->tiers, tier);
    pthread_mutex_unlock (&memory->writeback.working);
    return 0;
  }
  err = errno;
  if (storage->ops->close)
    storage->ops->close (storage->opaque);
  errno = err;
  return -1;
}

/* Set whether it is to go; -1 and errno if it is not there, or as it is to
 * be already.
 */
static int
set_leaving (struct zram_memory *memory, unsigned number, bool leaving)
{
  struct tier *tier;
  int r = -1;

  pthread_mutex_lock (&memory->writeback.working);
  tier = tiers_get (&memory->tiers, number);
  if (tier == NULL)
    errno = EINVAL;
  else if (tier->leaving == leaving)
    errno = EBUSY;
  else {
    tier->leaving = leaving;
    r = 0;
  }
  pthread_mutex_unlock (&memory->writeback.working);
  return r;
}

/* All that is on it moves to RAM. */
static int
empty_to_ram (struct zram_memory *memory, unsigned number, uint64_t *moved)
{
  struct zram_store *store;
  int r = 0;

  for (store = memory->stores; store && r == 0; store = store->next) {
    struct wanted wanted = {
      .end = store->slots.nr_pages, .left = UINT64_MAX,
    };

    r = move_up (store, &wanted, number, moved);
  }
  return r;
}

/* One pass over it.  Other tiers are preferred to RAM. */
static int
empty (struct zram_memory *memory, unsigned number, uint64_t *moved)
{
  if (move_across (memory, NULL, number, ZRAM_LEVEL_TIERS, moved) == 0)
    return 0;
  return errno == ENOSPC ? empty_to_ram (memory, number, moved) : -1;
}

/* Take it away if nothing is on it. */
static bool
remove_empty (struct zram_memory *memory, unsigned number)
{
  struct tier *tier;
  bool empty;

  pthread_mutex_lock (&memory->writeback.working);
  tiers_poll (&memory->tiers);
  tier = tiers_get (&memory->tiers, number);
  empty = tier->nr_free + tier->nr_bad == tier->nr_segments - 1;
  if (empty)
    tiers_remove (&memory->tiers, tier);
  pthread_mutex_unlock (&memory->writeback.working);
  if (empty)
    tiers_close (&memory->tiers, tier);
  return empty;
}

/* Nothing names it any more but what is being let go. */
static bool
is_deserted (struct zram_memory *memory, unsigned number)
{
  bool deserted;

  pthread_mutex_lock (&memory->writeback.working);
  deserted = tier_next_full (tiers_get (&memory->tiers, number), 0) == 0;
  pthread_mutex_unlock (&memory->writeback.working);
  return deserted;
}

/* What is in RAM as well need not be read to be let go. */
static void
drop_copies (struct zram_store *store, unsigned number)
{
  uint64_t page, span, i;

  for (page = 0; page < store->slots.nr_pages; page += span) {
    epoch_token *token = epoch_enter (&store->memory->table.epoch);
    slot *s = slots_step (&store->slots, page, &span);

    for (i = 0; s && i < span; i++) {
      uint64_t word = slot_peek (&s[i]);

      if (slot_state (word) == SLOT_CLEAN)
        page_drop_copy (store, &s[i], word, number, 0);
    }
    epoch_leave (token);
  }
}

/* Pass over it until nothing is left.  What comes back from it meanwhile
 * leaves its copy, so it may take several passes; one that moves nothing
 * twice is the last.
 */
static int
drain (struct zram_memory *memory, unsigned number)
{
  struct zram_store *store;
  unsigned vain = 0;
  uint64_t moved;
  int r = 0;

  for (store = memory->stores; store; store = store->next)
    drop_copies (store, number);
  while (!is_deserted (memory, number)) {
    moved = 0;
    r = empty (memory, number, &moved);
    vain = moved ? 0 : vain + 1;
    if (r == -1 && (vain || errno == EINTR))
      return -1;
    if (vain > 10) {
      errno = EIO;
      return -1;
    }
    if (vain)
      usleep (1000);            /* somebody holds a slot */
  }
  while (!remove_empty (memory, number)) {
    if (is_interrupted (memory))
      return -1;
    usleep (1000);
  }
  return 0;
}

int
zram_remove_tier (struct zram_memory *memory, unsigned tier)
{
  int err;

  if (set_leaving (memory, tier, true) == -1)
    return -1;
  if (drain (memory, tier) == 0)
    return 0;
  err = errno;
  set_leaving (memory, tier, false);
  errno = err;
  return -1;
}
