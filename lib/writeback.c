/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Writeback keeps some memory free below the limit, so that writers find
 * room: when little is left, the pages that are idle longest leave RAM.
 *
 * It goes in rounds.  In each, a segment is filled (gather.c), written and
 * published (publish.c).  The first tier that has room gets it.  If none has,
 * sparse segments of a tier are cleaned first: what is left in several of
 * them fills a new one.  What has been on a tier for long is not mixed with
 * what leaves RAM, since it is likely to stay for longer.  Then, if a tier has
 * little room, the segment that was cold for longest moves to the one below.
 *
 * Locks: `working', for all of a round; inside it memory.lock, but not while
 * the storage is waited for.  A thread that waits for memory holds nothing.
 */

#include <config.h>

#include <errno.h>
#include <stddef.h>
#include <unistd.h>

#include "clock.h"
#include "mapping.h"
#include "memory.h"
#include "store.h"
#include "thread.h"
#include "writeback-work.h"

/* Begin when less than this part of the limit is free, and go on until
 * more than that is.
 */
#define FREE_LOW 16
#define FREE_HIGH 8

/* After rounds that freed nothing, a request must fail for want of memory
 * before there is another one within this time.
 */
#define PAUSE_NS (CLOCK_SECOND / 10)

/* How long a tier that fails is tried again, before whoever waits is told.
 */
#define TRY_AGAIN_NS (CLOCK_SECOND / 2)

/* Segments that fill one with what is cleaned, or as large a one of the next
 * tier; and that are looked at for the former.
 */
#define TRIES 8
#define CLEAN_LOOKS 64

/* What a segment must have lost to be worth cleaning, one part of so many; and
 * when the choice is to clean it or to fail.  Then 64 times as much is written
 * as is gained, at worst.
 */
static const unsigned worth[] = { 8, 64 };
#define NR_WORTH (sizeof worth / sizeof worth[0])

/* And when the choice is to clean it, or to let go of what is in RAM for having
 * been read: copies are all that can leave when the tiers are full.
 */
#define WORTH_COPIES 3

/* A tier has little room when less than this part of its segments is free.
 */
#define LITTLE_ROOM 32

/* ---- Is there need? ------------------------------------------------ */

static bool
is_short (struct zram_memory *memory, unsigned part)
{
  return memory->limit.max
    && memory_available (memory) < memory->limit.max / part;
}

bool
writeback_is_needed (struct writeback *w)
{
  return is_short (w->memory, FREE_LOW);
}

/* Half of the processors are for others. */
static unsigned
nr_turns (void)
{
  long processors = sysconf (_SC_NPROCESSORS_ONLN);

  return processors < 4 ? 1 : processors / 2;
}

int
writeback_take_turn (struct writeback *w)
{
  if (atomic_load_explicit (&w->work, memory_order_acquire) == NULL
      || w->memory->reserve || !writeback_is_needed (w))
    return NO_TURN;
  return lend_take (&w->turns);
}

void
writeback_return_turn (struct writeback *w, int turn)
{
  if (turn != NO_TURN)
    lend_return (&w->turns, turn);
}

static void
pass_time (struct zram_memory *memory)
{
  pthread_mutex_lock (&memory->lock);
  turnover_add (memory, memory->writeback.work->gone);
  turnover_pass_time (memory);
  pthread_mutex_unlock (&memory->lock);
}

/* ---- A round ------------------------------------------------------- */

/* If enough has left RAM that need not be written, what was met on the way is
 * written when it is more: a segment is taken whole, however little is in it.
 */
static bool
is_worth_writing (const struct writeback_work *work)
{
  return work->nr && (work->gone_bytes < work->room
                      || work->used > work->room / 2);
}

/* Into a tier that has room. */
static bool
write_to (struct zram_memory *memory, struct tier *tier)
{
  uint32_t segment;

  if (!is_worth_writing (memory->writeback.work))
    return false;
  segment = tier_open_segment (&memory->tiers, tier, 0);
  return segment && publish_segment (memory, tier, segment);
}

/* Segments that nobody names are free when all who could be reading them
 * have left the epoch.  While there are no others, wait: the tiers are not
 * full.  Nobody waits for us who is inside the epoch.
 */
void
writeback_wait_for_segments (struct zram_memory *memory)
{
  while (tiers_poll (&memory->tiers) && !tiers_have_good_room (&memory->tiers))
    usleep (100);
}

/* ---- Cleaning ------------------------------------------------------ */

/* Whether what is alive in the segment that was read last is all but a PARTth
 * of it.  Where no record would have fitted any more that was full.  (Of a
 * group all is alive if one page is.)
 */
static bool
is_no_gain (const struct writeback_work *work, unsigned part)
{
  size_t had = work->old_used + TIER_RECORD_MAX > work->room
    ? work->old_used : work->room;

  return work->old_alive > had - had / part;
}

/* Gather from one segment as well.  False if that is of no use: it cannot be
 * gathered whole and must be (WHOLE), or there is nothing to gain.
 */
static bool
gather_one (struct zram_memory *memory, struct tier *tier, uint32_t segment,
            unsigned part, bool whole, bool *complete)
{
  struct writeback_work *work = memory->writeback.work;
  unsigned nr = work->nr, used = work->used;
  bool gathered = clean_gather (memory, tier, segment, NULL, complete);

  *complete &= gathered;
  if (gathered && is_no_gain (work, part))
    tier_no_gain (tier, segment);
  else if (*complete || !whole)
    return true;
  work->nr = nr;
  work->used = used;
  work->full = false;
  return false;
}

/* Fill a segment with what is left in those that are worth cleaning.  A tier
 * may have only one to spare, so nothing is written unless one becomes free by
 * it: the first that is gathered must be gathered whole.  Returns how many
 * were, and the FIRST.
 */
static unsigned
gather_sparse (struct zram_memory *memory, struct tier *tier, unsigned part,
               uint32_t *first)
{
  struct writeback_work *work = memory->writeback.work;
  unsigned looks, nr = 0;
  uint32_t segment;
  bool complete;

  publish_nothing (memory);
  writeback_clear (work, tier->segment_size);
  for (looks = 0; looks < CLEAN_LOOKS && nr < TRIES && !work->full; looks++) {
    segment = tier_to_clean (tier, part, nr ? *first : 0);
    if (segment == 0)
      break;
    if (!gather_one (memory, tier, segment, part, nr == 0, &complete))
      continue;
    if (complete) {
      tier_set_aside (tier, segment);
      *first = nr++ ? *first : segment;
    }
  }
  return nr;
}

/* What is left in sparse segments goes to another; if it does not fill that,
 * together with what leaves RAM.  False if that makes no room: one segment
 * for another is none.
 */
static bool
clean_some (struct zram_memory *memory, struct tier *tier, unsigned part)
{
  struct writeback_work *work = memory->writeback.work;
  struct tiers *tiers = &memory->tiers;
  unsigned segments, pages, cleaned;
  uint32_t segment;

  if (!tier_has_spare (tiers, tier))
    return false;
  segments = gather_sparse (memory, tier, part, &segment);
  if (segments == 0)
    return false;
  cleaned = work->full ? tier->segments[segment].cleaned + 1 : 1;
  pages = work->nr;
  if (!work->full)
    gather_oldest (memory, false);
  if (work->nr == 0)
    return true;                /* they have died meanwhile */
  if (segments == 1 && !work->full && work->nr == pages)
    return false;
  segment = tier_open_segment (tiers, tier, cleaned);
  return segment && publish_segment (memory, tier, segment);
}

static bool
is_quitting (struct writeback *w)
{
  bool quit;

  pthread_mutex_lock (&w->lock);
  quit = w->quit;
  pthread_mutex_unlock (&w->lock);
  return quit;
}

static bool
must_clean (struct zram_memory *memory)
{
  struct writeback *w = &memory->writeback;

  return w->work->gone == 0 && !tiers_have_good_room (&memory->tiers)
    && !is_quitting (w);
}

/* Clean the first tier that can be, until it has room or something has left
 * RAM.
 */
static void
clean (struct zram_memory *memory, unsigned part)
{
  struct tiers *tiers = &memory->tiers;
  unsigned i;

  for (i = 0; i < tiers->nr; i++)
    while (must_clean (memory) && clean_some (memory, tiers->order[i], part))
      writeback_wait_for_segments (memory);
}

void
writeback_make_room (struct zram_memory *memory)
{
  unsigned i;

  writeback_clear (memory->writeback.work, memory->writeback.work->size);
  for (i = 0; i < NR_WORTH; i++)
    clean (memory, worth[i]);
  publish_nothing (memory);
}

/* ---- Down ---------------------------------------------------------- */

static bool
has_little_room (const struct tier *tier)
{
  return tier->nr_free <= 2 + tier->nr_segments / LITTLE_ROOM;
}

/* What was cold for longest moves from a tier to the next one. */
static void
move_down (struct zram_memory *memory, struct tier *from, struct tier *to)
{
  struct writeback_work *work = memory->writeback.work;
  uint64_t tries, enough = TRIES * to->segment_size / from->segment_size;
  uint32_t segment, first = 0;
  bool complete;

  publish_nothing (memory);
  writeback_clear (work, to->segment_size);
  for (tries = 0; tries < enough && !work->full; tries++) {
    segment = tier_coldest (from);
    if (segment == 0 || segment == first
        || !clean_gather (memory, from, segment, NULL, &complete))
      break;
    first = first ? : segment;
    if (!work->full)
      tier_defer (from, segment);
  }
  segment = work->nr ? tier_open_segment (&memory->tiers, to, 0) : 0;
  if (segment)
    publish_segment (memory, to, segment);
  writeback_clear (work, to->segment_size);
}

static void
make_room (struct zram_memory *memory)
{
  struct tiers *tiers = &memory->tiers;
  unsigned i;

  for (i = tiers->nr; i-- > 1;)
    if (has_little_room (tiers->order[i - 1])
        && tier_has_room (tiers, tiers->order[i]))
      move_down (memory, tiers->order[i - 1], tiers->order[i]);
}

static void
gather_room (struct zram_memory *memory, size_t room, bool copies_only)
{
  publish_nothing (memory);
  writeback_clear (memory->writeback.work, room);
  gather_oldest (memory, copies_only);
}

/* What can leave RAM, into the first tier that has room and can be written.
 * False if there is something that none of them could take.
 */
static bool
fill_segment (struct zram_memory *memory)
{
  struct writeback_work *work = memory->writeback.work;
  struct tiers *tiers = &memory->tiers;
  bool room = false;
  unsigned i;

  for (i = 0; i < tiers->nr; i++) {
    struct tier *tier = tiers->order[i];

    if (!tier_has_room (tiers, tier))
      continue;
    room = true;
    gather_room (memory, tier->segment_size, false);
    if (write_to (memory, tier) || work->gone || work->nr == 0)
      return true;
  }
  if (!room)
    gather_room (memory, work->size, true);
  return work->nr == 0;
}

/* One round.  True if memory has become free. */
static bool
one_round (struct zram_memory *memory)
{
  struct writeback_work *work = memory->writeback.work;
  struct tiers *tiers = &memory->tiers;
  unsigned gone, i;
  bool full;

  writeback_wait_for_segments (memory);
  writeback_clear (work, work->size);
  tiers_look (tiers);
  if (!tiers_have_room (tiers) && tiers_have_copies (tiers))
    clean (memory, WORTH_COPIES);
  full = !tiers_have_room (tiers);
  if (work->gone == 0)
    full |= !fill_segment (memory);
  for (i = 0; i < NR_WORTH && full && work->gone == 0; i++)
    clean (memory, worth[i]);
  if (full && work->gone == 0 && tiers_have_good_room (tiers))
    fill_segment (memory);
  gone = work->gone;
  if (gone)
    pass_time (memory);
  make_room (memory);
  publish_nothing (memory);
  if (gone)
    memory_tidy (memory, WRITEBACK_COMPACT);
  return gone > 0;
}

/* All that was gathered may have been read while it was written, and then none
 * of it has left.  Where everything is read all the time that would go on for
 * ever, with a segment written in vain each time, so what leaves next leaves
 * whether it is read or not.
 */
static bool
insist (struct zram_memory *memory)
{
  struct writeback *w = &memory->writeback;
  bool ok;

  if (!tiers_have_room (&memory->tiers))
    return false;
  atomic_store (&w->insisting, true);
  ok = one_round (memory);
  atomic_store (&w->insisting, false);
  return ok;
}

/* A tier that could not be written a moment ago may be tried again in
 * another: long enough to get past a part that is bad.
 */
static bool
write_back (struct zram_memory *memory)
{
  struct writeback *w = &memory->writeback;
  uint64_t end = clock_ns () + TRY_AGAIN_NS, retry;
  bool ok;

  pthread_mutex_lock (&w->working);
  ok = one_round (memory) || insist (memory);
  while (!ok && clock_ns () < end
         && (retry = tiers_retry_time (&memory->tiers)) != 0) {
    usleep (retry / 1000 + 1);
    ok = one_round (memory);
  }
  pthread_mutex_unlock (&w->working);
  return ok;
}

bool
writeback_poll (struct writeback *w)
{
  bool waiting;

  if (pthread_mutex_trylock (&w->working) != 0)
    return true;
  waiting = tiers_poll (&w->memory->tiers);
  pthread_mutex_unlock (&w->working);
  return waiting;
}

/* ---- The thread ---------------------------------------------------- */

/* Rounds until there is enough, or nothing more can be done. */
static void
work_off (struct writeback *w)
{
  bool ok;

  do {
    ok = write_back (w->memory);
    if (!ok)
      atomic_store (&w->pause, clock_ns () + PAUSE_NS);
    pthread_mutex_lock (&w->lock);
    w->rounds++;
    w->successes += ok;
    pthread_cond_broadcast (&w->done);
    ok = ok && !w->quit;
    pthread_mutex_unlock (&w->lock);
  } while (ok && is_short (w->memory, FREE_HIGH));
}

/* What is not urgent, as long as nothing else is to be done. */
static void
work_at_leisure (struct writeback *w)
{
  bool more = true;

  while (more) {
    more = refresh_some (w->memory, &w->refresh);
    pthread_mutex_lock (&w->lock);
    more = more && !w->quit && !atomic_load (&w->called);
    pthread_mutex_unlock (&w->lock);
  }
}

static void *
writeback_main (void *opaque)
{
  struct writeback *w = opaque;

  if (w->memory->reserve)
    thread_touch_stack ();
  pthread_mutex_lock (&w->lock);
  while (!w->quit) {
    if (!atomic_exchange (&w->called, false)) {
      pthread_cond_wait (&w->wake, &w->lock);
      continue;
    }
    pthread_mutex_unlock (&w->lock);
    work_off (w);
    work_at_leisure (w);
    pthread_mutex_lock (&w->lock);
  }
  w->running = false;
  pthread_cond_broadcast (&w->done);
  pthread_mutex_unlock (&w->lock);
  return NULL;
}

void
writeback_poke (struct writeback *w)
{
  if (atomic_load_explicit (&w->work, memory_order_relaxed) == NULL
      || atomic_load_explicit (&w->called, memory_order_relaxed)
      || !writeback_is_needed (w)
      || clock_ns () < atomic_load_explicit (&w->pause, memory_order_relaxed))
    return;
  pthread_mutex_lock (&w->lock);
  atomic_store (&w->called, true);
  pthread_cond_signal (&w->wake);
  pthread_mutex_unlock (&w->lock);
}

/* A round that has begun before may have looked too early, so two have to
 * fail.  The lock is held.
 */
static bool
wait_for_rounds (struct writeback *w)
{
  uint64_t rounds = w->rounds, successes = w->successes;

  while (w->running && w->successes == successes && w->rounds < rounds + 2) {
    atomic_store (&w->called, true);
    pthread_cond_signal (&w->wake);
    pthread_cond_wait (&w->done, &w->lock);
  }
  return w->successes != successes;
}

/* Where there is no thread, whoever waits does it himself: twice, as the
 * first round may be what is left of a walk.
 */
bool
writeback_wait (struct writeback *w)
{
  bool freed, running;

  if (w->work == NULL)
    return false;
  pthread_mutex_lock (&w->lock);
  running = w->running;
  freed = running && wait_for_rounds (w);
  pthread_mutex_unlock (&w->lock);
  return running ? freed
    : write_back (w->memory) || write_back (w->memory);
}

bool
writeback_was_freed (struct writeback *w)
{
  return w->work && !is_short (w->memory, FREE_LOW);
}

/* ---- Life ---------------------------------------------------------- */

void
writeback_init (struct writeback *w, struct zram_memory *memory)
{
  *w = (struct writeback) { .memory = memory };
  pthread_mutex_init (&w->lock, NULL);
  pthread_mutex_init (&w->working, NULL);
  pthread_cond_init (&w->wake, NULL);
  pthread_cond_init (&w->done, NULL);
}

void
writeback_destroy (struct writeback *w)
{
  if (w->work) {
    limit_uncharge (&w->memory->limit, writeback_charged (w));
    mapping_release (w->work, sizeof (struct writeback_work));
    lend_destroy (&w->turns);
  }
  pthread_cond_destroy (&w->done);
  pthread_cond_destroy (&w->wake);
  pthread_mutex_destroy (&w->working);
  pthread_mutex_destroy (&w->lock);
}

static size_t
entries_size (size_t segment_size)
{
  return (segment_size / WRITEBACK_PAGE_BYTES + GROUP_PAGES_MAX)
    * sizeof (struct entry);
}

/* What is charged where segments have so many bytes at most. */
static uint64_t
work_size (size_t segment_size)
{
  return offsetof (struct writeback_work, entries)
    + entries_size (segment_size) + 2 * segment_size;
}

uint64_t
writeback_size_max (void)
{
  return work_size (TIER_SEGMENT_MAX);
}

uint64_t
writeback_charged (const struct writeback *w)
{
  return w->work ? work_size (w->work->size) : 0;
}

static bool
charge_work (struct writeback *w, uint64_t bytes)
{
  errno = ENOSPC;
  return limit_charge (&w->memory->limit, bytes);
}

/* The whole blocks of an array between two sizes of it. */
static void
touch_blocks (unsigned char *array, size_t from, size_t to)
{
  from = (from + TIER_BLOCK - 1) / TIER_BLOCK * TIER_BLOCK;
  if (from < to)
    mapping_touch (array + from, to - from);
}

/* What larger segments need more; who writes back does not use it yet. */
static void
touch_more (struct writeback_work *work, size_t from, size_t to)
{
  touch_blocks ((unsigned char *) work->entries, entries_size (from),
                entries_size (to));
  touch_blocks (work->segment, from, to);
  touch_blocks (work->old, from, to);
}

/* What is there without any segments. */
static void
touch_work (struct writeback_work *work)
{
  mapping_touch (work, offsetof (struct writeback_work, entries)
                       + entries_size (0));
}

/* For segments of no size yet. */
static int
make_work (struct writeback *w)
{
  struct writeback_work *work;

  if (!charge_work (w, work_size (0)))
    return -1;
  work = mapping_reserve (sizeof *work);
  if (work == NULL || lend_init (&w->turns, nr_turns ()) == -1) {
    mapping_release (work, sizeof *work);
    limit_uncharge (&w->memory->limit, work_size (0));
    return -1;
  }
  touch_work (work);
  work->walk.age = AGING_IDLE;
  atomic_store (&w->work, work);
  return 0;
}

void
writeback_touch (struct writeback *w)
{
  struct writeback_work *work = w->work;

  if (work == NULL)
    return;
  touch_work (work);
  touch_more (work, 0, work->size);
}

/* The system may take its time to find memory: who writes back does not wait
 * for that.
 */
static int
grow_work (struct writeback *w, size_t segment_size)
{
  struct writeback_work *work = w->work;

  if (!charge_work (w, work_size (segment_size) - work_size (work->size)))
    return -1;
  touch_more (work, work->size, segment_size);
  pthread_mutex_lock (&w->working);
  work->size = segment_size;
  pthread_mutex_unlock (&w->working);
  return 0;
}

int
writeback_prepare (struct writeback *w, size_t segment_size)
{
  if (w->work == NULL && make_work (w) == -1)
    return -1;
  if (w->work->size < segment_size && grow_work (w, segment_size) == -1)
    return -1;
  return w->wanted ? writeback_start (w) : 0;
}

int
writeback_start (struct writeback *w)
{
  w->wanted = true;
  if (w->started || w->work == NULL)
    return 0;
  w->running = true;
  if (thread_start (&w->thread, "zram-writeback", writeback_main, w) == -1) {
    w->running = false;
    return -1;
  }
  w->started = true;
  return 0;
}

void
writeback_stop (struct writeback *w)
{
  w->wanted = false;
  if (!w->started)
    return;
  pthread_mutex_lock (&w->lock);
  w->quit = true;
  pthread_cond_signal (&w->wake);
  pthread_mutex_unlock (&w->lock);
  pthread_join (w->thread, NULL);
  pthread_mutex_lock (&w->lock);
  w->quit = false;
  pthread_mutex_unlock (&w->lock);
  w->started = false;
}
