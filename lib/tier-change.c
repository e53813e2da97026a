/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Tiers that come and go while the store is in use.
 *
 * A tier that is to go takes nothing in any more; what is alive in its
 * segments moves to others, or to RAM.  When no slot names it, and all
 * requests are over that could have seen one that did, it is closed.
 */

#include <config.h>

#include <errno.h>
#include <unistd.h>

#include "memory.h"
#include "move.h"
#include "store.h"
#include "writeback-work.h"

/* How often memory is made free for a new tier. */
#define ADD_TRIES 4

/* Passes over a tier in which nothing moves and nothing fails. */
#define VAIN_PASSES 10

/* ---- Coming -------------------------------------------------------- */

/* Where no memory must be asked for later, all of it comes now. */
static struct tier *
make_ready (struct zram_memory *memory, const struct zram_tier *storage)
{
  struct tier_buffers *buffers = &memory->tiers.buffers;

  if (memory->reserve
      && !(tier_buffers_make (buffers) && tier_buffers_widen (buffers)))
    return NULL;
  return tiers_make (&memory->tiers, storage);
}

/* RAM is full when a tier is wanted most. */
static struct tier *
make_tier (struct zram_memory *memory, const struct zram_tier *storage)
{
  unsigned tries = ADD_TRIES;
  struct tier *tier;

  do {
    tier = NULL;
    if (writeback_prepare (&memory->writeback,
                           tier_segment_size (storage->size)) == 0)
      tier = make_ready (memory, storage);
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

/* ---- What is on one moves away -------------------------------------- */

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

/* All that is wanted moves to RAM, from where other tiers may take it. */
static int
move_through_ram (struct zram_store *store, struct wanted *wanted, int from,
                  uint64_t *moved)
{
  int r;

  do
    r = move_up (store, wanted, from, moved);
  while (r == -1 && errno == ENOSPC
         && writeback_wait (&store->memory->writeback));
  return r;
}

/* All that is on it moves to RAM; or, if that is what is asked for, what is
 * UNREADABLE is given up.
 */
static int
empty_page_by_page (struct zram_memory *memory, unsigned number,
                    bool unreadable, uint64_t *moved)
{
  struct zram_store *store;
  bool failed = false;

  for (store = memory->stores; store; store = store->next) {
    struct wanted wanted = {
      .end = store->slots.nr_pages, .left = UINT64_MAX,
      .unreadable = unreadable,
    };

    if (move_through_ram (store, &wanted, number, moved) == 0)
      continue;
    if (errno != EIO)
      return -1;
    failed = true;
  }
  errno = EIO;
  return failed ? -1 : 0;
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
  empty = tier_count_segments (tier).used == 0;
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

static void
drop_all_copies (struct zram_memory *memory, unsigned number)
{
  struct zram_store *store;

  for (store = memory->stores; store; store = store->next)
    drop_copies (store, number);
}

/* One pass over it: whole segments go to other tiers.  If none can, because
 * there is no room or one damaged record hides those after it, pages go to
 * RAM.  If none can, what cannot be read is given up, unless LOST is NULL.
 */
static int
empty (struct zram_memory *memory, unsigned number, uint64_t *moved,
       uint64_t *lost)
{
  int r, err;

  drop_all_copies (memory, number);
  r = move_across (memory, NULL, number, ZRAM_LEVEL_TIERS, moved);
  if (*moved == 0)
    r = empty_page_by_page (memory, number, false, moved);
  if (*moved || r == 0 || lost == NULL)
    return *moved ? 0 : r;
  err = errno;
  empty_page_by_page (memory, number, true, moved);
  *lost += *moved;
  errno = err;
  return *moved ? 0 : -1;
}

/* Pass over it until nothing is left, and as long as something moves. */
static int
empty_all (struct zram_memory *memory, unsigned number, uint64_t *lost)
{
  unsigned vain = 0;

  while (!is_deserted (memory, number)) {
    uint64_t moved = 0;

    if (empty (memory, number, &moved, lost) == -1)
      return -1;
    vain = moved ? 0 : vain + 1;
    if (vain > VAIN_PASSES) {
      errno = EIO;
      return -1;
    }
    if (vain)
      usleep (1000);            /* somebody holds a slot */
  }
  return 0;
}

static int
drain (struct zram_memory *memory, unsigned number, uint64_t *lost)
{
  if (empty_all (memory, number, lost) == -1)
    return -1;
  while (!remove_empty (memory, number)) {
    if (move_is_interrupted (memory))
      return -1;
    usleep (1000);
  }
  return 0;
}

int
zram_remove_tier (struct zram_memory *memory, unsigned tier, uint64_t *lost)
{
  int err;

  if (lost)
    *lost = 0;
  if (set_leaving (memory, tier, true) == -1)
    return -1;
  if (drain (memory, tier, lost) == 0)
    return 0;
  err = errno;
  set_leaving (memory, tier, false);
  errno = err;
  return -1;
}
