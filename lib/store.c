/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* A store: turns ranges of bytes into pages.  The only code that sees
 * both.
 *
 * A request enters the epoch of the slot table once, for all its pages,
 * and pokes the background thread at its end.
 */

#include <config.h>

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "store.h"

/* ---- Requests ------------------------------------------------------ */

static bool
is_inside (struct zram_store *store, uint64_t count, uint64_t offset)
{
  if (count <= store->size && offset <= store->size - count)
    return true;
  stats_add (&store->stats, STATS_INVALID_IO, 1);
  errno = EINVAL;
  return false;
}

static epoch_token *
begin (struct zram_store *store)
{
  return epoch_enter (&store->memory->table.epoch);
}

/* FAILED counts the request if R says that it failed.  Returns R. */
static int
end (struct zram_store *store, epoch_token *token, int r,
     enum stats_counter failed)
{
  epoch_leave (token);
  worker_poke (&store->memory->worker);
  writeback_poke (&store->memory->writeback);
  if (r == -1)
    stats_add (&store->stats, failed, 1);
  return r;
}

/* How many of COUNT bytes at OFFSET lie in the first page. */
static size_t
first_part (uint64_t count, uint64_t offset)
{
  size_t rest = ZRAM_PAGE_SIZE - offset % ZRAM_PAGE_SIZE;

  return count < rest ? count : rest;
}

int
zram_read (struct zram_store *store, void *buf, size_t count, uint64_t offset)
{
  epoch_token *token;
  unsigned char *p = buf;
  int r = 0;

  if (!is_inside (store, count, offset))
    return -1;
  token = begin (store);
  while (count && r == 0) {
    size_t n = first_part (count, offset);

    r = page_read (store, offset / ZRAM_PAGE_SIZE, p,
                   offset % ZRAM_PAGE_SIZE, n);
    p += n;
    offset += n;
    count -= n;
  }
  return end (store, token, r, STATS_FAILED_READS);
}

/* How often a write that finds no memory waits in hope of others. */
#define TRIES 10

/* Something may be freed while a request waits that is outside of the
 * epoch: leaves that were retired, pages that go to a tier, or by others.
 */
static bool
wait_for_memory (struct zram_memory *memory, unsigned *tries)
{
  bool hope = *tries > 0;

  if (!(hope && memory_wait_for_leaves (memory))) {
    if (writeback_wait (&memory->writeback))
      return true;
    hope = hope && writeback_was_freed (&memory->writeback);
  }
  *tries -= hope;
  return hope;
}

/* The last page of a store that is no multiple of the page size is whole
 * if the range reaches the end.
 */
static uint64_t
count_to_page_end (const struct zram_store *store, uint64_t count,
                   uint64_t offset)
{
  if (offset + count == store->size)
    count += -store->size % ZRAM_PAGE_SIZE;
  return count;
}

/* Write part of a page.  While memory is short whole pages are written in
 * turns; for others a tier may have to be waited for.
 */
static int
write_once (struct zram_store *store, uint64_t page, const void *buf,
            size_t offset, size_t count)
{
  struct writeback *w = &store->memory->writeback;
  int turn = count == ZRAM_PAGE_SIZE ? writeback_take_turn (w) : NO_TURN;
  int r = page_write (store, page, buf, offset, count);

  writeback_return_turn (w, turn);
  return r;
}

/* Write part of a page, or zeroes if BUF is NULL.  If there is no memory
 * for it, it steps out of the epoch and waits.
 */
static int
write_in_page (struct zram_store *store, epoch_token **token,
               const void *buf, size_t count, uint64_t offset)
{
  uint64_t page = offset / ZRAM_PAGE_SIZE;
  unsigned tries = TRIES;
  bool again;
  int r;

  do {
    r = write_once (store, page, buf, offset % ZRAM_PAGE_SIZE, count);
    again = false;
    if (r == -1 && errno == ENOSPC) {
      epoch_leave (*token);
      again = wait_for_memory (store->memory, &tries);
      *token = begin (store);
      errno = ENOSPC;
    }
  } while (again);
  return r;
}

/* The same of data.  To write all that there is of the last page needs nothing
 * of what was there.
 */
static int
write_data (struct zram_store *store, epoch_token **token,
            const unsigned char *buf, size_t count, uint64_t offset)
{
  unsigned char page[ZRAM_PAGE_SIZE];

  if (offset % ZRAM_PAGE_SIZE || count == ZRAM_PAGE_SIZE
      || offset + count != store->size)
    return write_in_page (store, token, buf, count, offset);
  memcpy (page, buf, count);
  memset (page + count, 0, sizeof page - count);
  return write_in_page (store, token, page, sizeof page, offset);
}

int
zram_write (struct zram_store *store, const void *buf, size_t count,
            uint64_t offset)
{
  epoch_token *token;
  const unsigned char *p = buf;
  int r = 0;

  if (!is_inside (store, count, offset))
    return -1;
  token = begin (store);
  while (count && r == 0) {
    size_t n = first_part (count, offset);

    r = write_data (store, &token, p, n, offset);
    p += n;
    offset += n;
    count -= n;
  }
  return end (store, token, r, STATS_FAILED_WRITES);
}

/* ---- Zero and trim ------------------------------------------------- */

/* Free NR pages from PAGE on, all in one leaf.  Returns how many were
 * done before the leaf turned out to be dead.
 */
static uint64_t
free_in_leaf (struct zram_store *store, slot *s, uint64_t nr,
              uint64_t *nr_freed)
{
  uint64_t i;
  bool freed;

  for (i = 0; i < nr && page_free (store, &s[i], &freed); i++)
    *nr_freed += freed;
  return i;
}

/* Free NR whole pages; returns how many were not holes. */
static uint64_t
free_pages (struct zram_store *store, uint64_t page, uint64_t nr)
{
  uint64_t span, nr_freed = 0;
  slot *s;

  while (nr) {
    s = slots_step (&store->slots, page, &span);
    if (span > nr)
      span = nr;
    if (s) {
      span = free_in_leaf (store, s, span, &nr_freed);
      slots_retire (&store->slots, page);
      if (span == 0)            /* somebody else is retiring it */
        sched_yield ();
    }
    page += span;
    nr -= span;
  }
  return nr_freed;
}

/* Zero a range: its edges, and the whole pages between them. */
static int
zero_range (struct zram_store *store, epoch_token **token, uint64_t count,
            uint64_t offset, uint64_t *nr_freed)
{
  size_t n = first_part (count, offset);
  uint64_t whole;

  if (n < ZRAM_PAGE_SIZE) {
    if (write_in_page (store, token, NULL, n, offset) == -1)
      return -1;
    count -= n;
    offset += n;
  }
  whole = count / ZRAM_PAGE_SIZE;
  *nr_freed = free_pages (store, offset / ZRAM_PAGE_SIZE, whole);
  count -= whole * ZRAM_PAGE_SIZE;
  offset += whole * ZRAM_PAGE_SIZE;
  return count ? write_in_page (store, token, NULL, count, offset) : 0;
}

static int
zero (struct zram_store *store, uint64_t count, uint64_t offset, bool trim)
{
  epoch_token *token;
  uint64_t nr_freed = 0;
  int r = 0;

  if (!is_inside (store, count, offset))
    return -1;
  token = begin (store);
  if (count)
    r = zero_range (store, &token, count_to_page_end (store, count, offset),
                    offset, &nr_freed);
  if (trim)
    stats_add (&store->stats, STATS_NOTIFY_FREE, nr_freed);
  return end (store, token, r, STATS_FAILED_WRITES);
}

int
zram_zero (struct zram_store *store, uint64_t count, uint64_t offset)
{
  return zero (store, count, offset, false);
}

int
zram_trim (struct zram_store *store, uint64_t count, uint64_t offset)
{
  return zero (store, count, offset, true);
}

/* ---- Extents ------------------------------------------------------- */

/* Pages of one type, not yet reported. */
struct run {
  enum zram_extent type;
  uint64_t start, end;          /* bytes; nothing yet if they are equal */
  zram_extent_fn *fn;
  void *opaque;
};

static int
run_flush (struct run *run)
{
  uint64_t start = run->start;

  run->start = run->end;
  return run->end > start
    ? run->fn (run->opaque, start, run->end - start, run->type) : 0;
}

static int
run_add (struct run *run, enum zram_extent type, uint64_t bytes)
{
  int r = 0;

  if (type != run->type) {
    r = run_flush (run);
    run->type = type;
  }
  run->end += bytes;
  return r;
}

static enum zram_extent
extent_of (uint64_t word)
{
  switch (slot_state (word)) {
  case SLOT_EMPTY:
  case SLOT_DEAD:
    return ZRAM_EXTENT_HOLE;
  case SLOT_SAME:
    return slot_pattern (word) ? ZRAM_EXTENT_DATA : ZRAM_EXTENT_ZERO;
  case SLOT_RAM:
  case SLOT_GROUP:
  case SLOT_TIER:
  case SLOT_TIER_GROUP:
  case SLOT_CLEAN:
    break;
  }
  return ZRAM_EXTENT_DATA;
}

/* The bytes of NR pages from the run's end on that are before END. */
static uint64_t
bytes_of (const struct run *run, uint64_t nr, uint64_t end)
{
  uint64_t left = end - run->end;
  uint64_t head = ZRAM_PAGE_SIZE - run->end % ZRAM_PAGE_SIZE;

  if (nr - 1 >= left / ZRAM_PAGE_SIZE + 1)
    return left;
  head += (nr - 1) * ZRAM_PAGE_SIZE;
  return head < left ? head : left;
}

static int
walk_extents (struct zram_store *store, struct run *run, uint64_t end)
{
  uint64_t span, i;
  slot *s;
  int r = 0;

  while (run->end < end && r == 0) {
    s = slots_step (&store->slots, run->end / ZRAM_PAGE_SIZE, &span);
    if (s == NULL)
      r = run_add (run, ZRAM_EXTENT_HOLE, bytes_of (run, span, end));
    else
      for (i = 0; i < span && run->end < end && r == 0; i++)
        r = run_add (run, extent_of (slot_peek (&s[i])),
                     bytes_of (run, 1, end));
  }
  return r ? r : run_flush (run);
}

int
zram_extents (struct zram_store *store, uint64_t count, uint64_t offset,
              zram_extent_fn *fn, void *opaque)
{
  struct run run = {
    .type = ZRAM_EXTENT_HOLE, .start = offset, .end = offset,
    .fn = fn, .opaque = opaque,
  };
  epoch_token *token;
  int r;

  if (!is_inside (store, count, offset))
    return -1;
  token = begin (store);
  r = walk_extents (store, &run, offset + count);
  epoch_leave (token);
  return r;
}

/* ---- Life ---------------------------------------------------------- */

static void
store_link (struct zram_store *store)
{
  struct zram_memory *memory = store->memory;

  pthread_mutex_lock (&memory->lock);
  regroup_prepare (memory);
  store->number = ++memory->last_store;
  store->next = memory->stores;
  if (store->next)
    store->next->prev = store;
  memory->stores = store;
  pthread_mutex_unlock (&memory->lock);
}

/* From here on nothing is done for the store in the background. */
static void
store_unlink (struct zram_store *store)
{
  struct zram_memory *memory = store->memory;

  pthread_mutex_lock (&memory->training);
  pthread_mutex_lock (&memory->lock);
  dictionary_close (store);
  turnover_add (memory, stats_read (&store->stats, STATS_BD_READS));
  if (store->prev)
    store->prev->next = store->next;
  else
    memory->stores = store->next;
  if (store->next)
    store->next->prev = store->prev;
  pthread_mutex_unlock (&memory->lock);
  pthread_mutex_unlock (&memory->training);
}

/* Add the codec.  Contexts that have grown stay so: see first whether
 * there is room for them.
 */
static int
add_codec (struct zram_memory *memory, const struct zram_codec *codec)
{
  uint64_t growth = codecs_growth (memory->codecs, codec);
  int index;

  if (!limit_charge (&memory->limit, growth)) {
    errno = ENOSPC;
    return -1;
  }
  index = codecs_add (memory->codecs, codec);
  limit_uncharge (&memory->limit, growth);
  if (!memory_charge_codecs (memory)) {
    errno = ENOSPC;
    return -1;
  }
  return index;
}

/* The dictionary that the user gives, if any, as a codec; BASE otherwise. */
static int
add_dictionary (struct zram_memory *memory, unsigned base,
                const struct zram_codec *codec)
{
  int index;

  if (codec->algorithm != ZRAM_ALGORITHM_ZSTD || codec->dictionary == NULL)
    return base;
  if (codec->dictionary_size == 0
      || codec->dictionary_size > ZRAM_DICTIONARY_MAX) {
    errno = EINVAL;
    return -1;
  }
  index = codecs_add_dictionary (memory->codecs, base, codec->dictionary,
                                 codec->dictionary_size);
  if (index != -1 && !memory_charge_codecs (memory)) {
    codecs_remove (memory->codecs, index);
    errno = ENOSPC;
    return -1;
  }
  return index;
}

/* That of a store which is not opened after all.  errno stands. */
static void
drop_dictionary (struct zram_memory *memory, unsigned index)
{
  int err = errno;

  pthread_mutex_lock (&memory->lock);
  codecs_remove (memory->codecs, index);
  memory_charge_codecs (memory);
  pthread_mutex_unlock (&memory->lock);
  errno = err;
}

static int
init_tables (struct zram_store *store, uint64_t size)
{
  if (slots_init (&store->slots, &store->memory->table,
                  (size - 1) / ZRAM_PAGE_SIZE + 1) == -1)
    return -1;
  if (policy_init (store) == 0)
    return 0;
  slots_destroy (&store->slots);
  return -1;
}

/* Make what an open store needs, in a memory that has been charged for
 * the store itself.
 */
static int
store_init (struct zram_store *store, struct zram_memory *memory,
            uint64_t size, const struct zram_codec *codec)
{
  int base, index;

  pthread_mutex_lock (&memory->lock);
  base = add_codec (memory, codec);
  index = base == -1 ? -1 : add_dictionary (memory, base, codec);
  pthread_mutex_unlock (&memory->lock);
  if (index == -1)
    return -1;
  memset (store, 0, sizeof *store);
  store->memory = memory;
  store->size = size;
  store->level = codec->level;
  store->codec = index;
  if (index != base)
    store->dictionary.generation = 1;
  else if (codec->algorithm == ZRAM_ALGORITHM_ZSTD && !codec->no_dictionary)
    dictionary_init (&store->dictionary, base);
  if (init_tables (store, size) == 0)
    return 0;
  if (index != base)
    drop_dictionary (memory, index);
  return -1;
}

static int
store_add (struct zram_store *store, struct zram_memory *memory,
           uint64_t size, const struct zram_codec *codec)
{
  int r;

  pthread_mutex_lock (&memory->training);
  r = store_init (store, memory, size, codec);
  if (r == 0)
    store_link (store);
  pthread_mutex_unlock (&memory->training);
  return r;
}

struct zram_store *
zram_open (struct zram_memory *memory, uint64_t size,
           const struct zram_codec *codec)
{
  struct zram_store *store;

  if (size == 0 || size > ZRAM_SIZE_MAX) {
    errno = EINVAL;
    return NULL;
  }
  if (!limit_charge (&memory->limit, sizeof *store)) {
    errno = ENOSPC;
    return NULL;
  }
  store = aligned_alloc (_Alignof (struct zram_store), sizeof *store);
  if (store && store_add (store, memory, size, codec) == 0)
    return store;
  free (store);
  limit_uncharge (&memory->limit, sizeof *store);
  return NULL;
}

void
zram_close (struct zram_store *store)
{
  struct zram_memory *memory;

  if (store == NULL)
    return;
  memory = store->memory;
  store_unlink (store);
  zram_zero (store, store->size, 0);
  policy_destroy (store);
  slots_destroy (&store->slots);
  free (store);
  limit_uncharge (&memory->limit, sizeof *store);
}

uint64_t
zram_size (const struct zram_store *store)
{
  return store->size;
}

static void
put_dictionary_objects (struct codecs *codecs, struct zram_store_stats *stats)
{
  unsigned indexes[ZRAM_DICTIONARIES_MAX];
  unsigned n = codecs_dictionaries (codecs, indexes, ZRAM_DICTIONARIES_MAX);

  stats->dictionaries = n;
  while (n--)
    stats->dictionary_objects[n] = codecs_objects (codecs, indexes[n]);
}

void
zram_store_stats (struct zram_store *store, struct zram_store_stats *stats)
{
  const struct stats *s = &store->stats;
  const struct dictionary *d = &store->dictionary;

  *stats = (struct zram_store_stats) {
    .disksize = store->size,
    .orig_data_size = stats_read (s, STATS_PAGES) * ZRAM_PAGE_SIZE,
    .compr_data_size = stats_read (s, STATS_OBJECT_BYTES),
    .same_pages = stats_read (s, STATS_SAME) - stats_read (s, STATS_LOST),
    .huge_pages = stats_read (s, STATS_HUGE),
    .huge_pages_since = stats_read (s, STATS_HUGE_SINCE),
    .failed_reads = stats_read (s, STATS_FAILED_READS),
    .failed_writes = stats_read (s, STATS_FAILED_WRITES),
    .invalid_io = stats_read (s, STATS_INVALID_IO),
    .notify_free = stats_read (s, STATS_NOTIFY_FREE),
    .grouped_pages = stats_read (s, STATS_GROUPED),
    .bd_count = stats_read (s, STATS_BD_COUNT),
    .bd_reads = stats_read (s, STATS_BD_READS),
    .bd_writes = stats_read (s, STATS_BD_WRITES),
    .lost_pages = stats_read (s, STATS_LOST),
    .dictionary_generation = atomic_load (&d->generation),
    .dictionary_trained_from = atomic_load (&d->trained_from),
    .dictionary_size_gain = atomic_load (&d->size_gain),
    .dictionary_time_gain = atomic_load (&d->time_gain),
  };
  put_dictionary_objects (store->memory->codecs, stats);
}
