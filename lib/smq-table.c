/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Entries of smq, found by key: arrays that grow and a hash table.
 *
 * Memory.  An entry takes 24 bytes and there are half as many hash buckets
 * as entries, of 4 bytes.  Entries have no holes: the last one moves to
 * where one was removed.  Buckets are made and removed one by one as the
 * number of entries changes (W. Litwin, "Linear hashing", 1980), so no call
 * takes long, and nothing has to be there twice.  So the memory is always
 * what the clusters that there are now need, and never comes from malloc.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>

#include "mapping.h"
#include "smq-table.h"

/* Entries for each bucket.  So many buckets more than needed are not worth
 * removing.
 */
#define BUCKET_ENTRIES 2
#define BUCKETS_SPARE 256

static struct smq_entry *
entry_at (const struct smq_table *t, uint32_t number)
{
  return smq_table_entry (t, number);
}

/* ---- Memory -------------------------------------------------------- */

static int
room_init (struct smq_room *room, uint64_t bytes)
{
  size_t size = (bytes + SMQ_PIECE - 1) / SMQ_PIECE * SMQ_PIECE;

  *room = (struct smq_room) { .base = mapping_reserve (size), .size = size };
  return room->base ? 0 : -1;
}

static void
room_destroy (struct smq_room *room, struct limit *limit)
{
  if (room->charged)
    limit_uncharge (limit, room->charged);
  mapping_release (room->base, room->size);
}

/* Have BYTES of it at least. */
static bool
room_grow (struct smq_room *room, struct limit *limit, size_t bytes)
{
  size_t wanted = (bytes + SMQ_PIECE - 1) / SMQ_PIECE * SMQ_PIECE;

  if (wanted <= room->charged)
    return true;
  if (wanted > room->size || !limit_charge (limit, wanted - room->charged))
    return false;
  room->charged = wanted;
  return true;
}

/* BYTES of it are used now.  One piece is kept for the next. */
static void
room_shrink (struct smq_room *room, struct limit *limit, size_t bytes)
{
  size_t least = (bytes + SMQ_PIECE - 1) / SMQ_PIECE * SMQ_PIECE + SMQ_PIECE;

  if (least < room->kept)
    least = room->kept;
  if (least >= room->charged
      || !mapping_discard (room->base + least, room->charged - least))
    return;
  limit_uncharge (limit, room->charged - least);
  room->charged = least;
}

static bool
room_keep (struct smq_room *room, struct limit *limit, size_t bytes)
{
  if (!room_grow (room, limit, bytes))
    return false;
  if (room->kept < room->charged)
    room->kept = room->charged;
  mapping_touch (room->base, room->charged);
  return true;
}

/* ---- Hash table ---------------------------------------------------- */

static uint32_t *
buckets (const struct smq_table *t)
{
  return (uint32_t *) t->bucket_room.base;
}

/* Neighbours, which are visited one after the other, have buckets close to
 * each other.  That is ten times as fast as if they were anywhere.
 */
static uint64_t
hash (uint64_t key)
{
  uint64_t h = (key >> 6) * UINT64_C (0x9e3779b97f4a7c15);

  return (h ^ h >> 32) ^ (key & 63);
}

/* The bucket of a key, if there are N: as many of the hash's low bits as
 * make it one of them.
 */
static uint32_t
bucket_of (uint64_t key, uint32_t n)
{
  uint32_t mask = n > 1 ? UINT32_MAX >> __builtin_clz (n - 1) : 0;
  uint32_t bucket = hash (key) & mask;

  return bucket < n ? bucket : bucket & mask >> 1;
}

/* The link that names an entry, or the 0 at the end of its chain. */
static uint32_t *
find_link (const struct smq_table *t, uint64_t key)
{
  uint32_t *link;

  if (t->nr_buckets == 0)
    return NULL;
  link = &buckets (t)[bucket_of (key, t->nr_buckets)];
  while (*link && entry_at (t, *link)->key != key)
    link = &entry_at (t, *link)->chain;
  return link;
}

struct smq_entry *
smq_table_find (const struct smq_table *t, uint64_t key)
{
  uint32_t *link = find_link (t, key);

  return link && *link ? entry_at (t, *link) : NULL;
}

/* The bucket that is divided when there are N and one more is made. */
static uint32_t
bucket_before (uint32_t n)
{
  return n & ~(UINT32_C (1) << (31 - __builtin_clz (n)));
}

/* Take out of a bucket what is to be in the new one. */
static void
divide_bucket (struct smq_table *t, uint32_t from, uint32_t to)
{
  uint32_t *link = &buckets (t)[from], *other = &buckets (t)[to];

  while (*link) {
    struct smq_entry *e = entry_at (t, *link);

    if (bucket_of (e->key, to + 1) == to) {
      *other = *link;
      *link = e->chain;
      other = &e->chain;
    }
    else
      link = &e->chain;
  }
  *other = 0;
}

/* True if there is a bucket at least. */
static bool
make_bucket (struct smq_table *t)
{
  uint32_t n = t->nr_buckets;

  if (!room_grow (&t->bucket_room, t->limit, (n + 1) * sizeof (uint32_t)))
    return n > 0;
  if (n)
    divide_bucket (t, bucket_before (n), n);
  else
    buckets (t)[0] = 0;
  t->nr_buckets++;
  return true;
}

static void
remove_bucket (struct smq_table *t)
{
  uint32_t n = --t->nr_buckets;
  uint32_t *link = &buckets (t)[bucket_before (n)];

  while (*link)
    link = &entry_at (t, *link)->chain;
  *link = buckets (t)[n];
  room_shrink (&t->bucket_room, t->limit, n * sizeof (uint32_t));
}

/* ---- Entries ------------------------------------------------------- */

bool
smq_table_remove (struct smq_table *t, struct smq_entry *e)
{
  uint32_t number = e - entry_at (t, 0);
  bool moved = number != t->nr;

  *find_link (t, e->key) = e->chain;
  if (moved) {
    *find_link (t, entry_at (t, t->nr)->key) = number;
    *e = *entry_at (t, t->nr);
  }
  t->nr--;
  room_shrink (&t->entry_room, t->limit,
               ((size_t) t->nr + 1) * sizeof (struct smq_entry));
  if (t->nr_buckets > t->nr / BUCKET_ENTRIES + BUCKETS_SPARE)
    remove_bucket (t);
  return moved;
}

static bool
has_room (struct smq_table *t)
{
  return t->nr < t->max
    && room_grow (&t->entry_room, t->limit,
                  ((size_t) t->nr + 2) * sizeof (struct smq_entry))
    && (t->nr / BUCKET_ENTRIES < t->nr_buckets || make_bucket (t));
}

struct smq_entry *
smq_table_add (struct smq_table *t, uint64_t key)
{
  struct smq_entry *e;

  if (!has_room (t))
    return NULL;
  e = entry_at (t, t->nr + 1);
  *e = (struct smq_entry) { .key = key };
  *find_link (t, key) = ++t->nr;
  return e;
}

/* ---- Life ---------------------------------------------------------- */

static int
init_rooms (struct smq_table *t, uint64_t max)
{
  if (room_init (&t->entry_room, (max + 1) * sizeof (struct smq_entry)) == -1)
    return -1;
  if (room_init (&t->bucket_room,
                 (max / BUCKET_ENTRIES + 1) * sizeof (uint32_t)) == 0) {
    t->max = max;
    return 0;
  }
  room_destroy (&t->entry_room, t->limit);
  return -1;
}

int
smq_table_init (struct smq_table *t, struct limit *limit, uint64_t max)
{
  *t = (struct smq_table) { .limit = limit };
  if (max > INT32_MAX)
    max = INT32_MAX;
  if (max == 0)
    max = 1;
  for (; max; max /= 2)
    if (init_rooms (t, max) == 0)
      return 0;
  errno = ENOMEM;
  return -1;
}

void
smq_table_destroy (struct smq_table *t)
{
  room_destroy (&t->entry_room, t->limit);
  room_destroy (&t->bucket_room, t->limit);
}

int
smq_table_reserve (struct smq_table *t, uint64_t clusters)
{
  if (clusters <= t->max
      && room_keep (&t->entry_room, t->limit,
                    (clusters + 1) * sizeof (struct smq_entry))
      && room_keep (&t->bucket_room, t->limit,
                    (clusters / BUCKET_ENTRIES + 1) * sizeof (uint32_t)))
    return 0;
  errno = ENOSPC;
  return -1;
}

uint64_t
smq_table_charged (const struct smq_table *t)
{
  return t->entry_room.charged + t->bucket_room.charged;
}

/* ---- Validator ----------------------------------------------------- */

void
smq_fault (struct smq_check *check, const char *format, ...)
{
  va_list args;

  fputs ("smq: ", check->report);
  va_start (args, format);
  vfprintf (check->report, format, args);
  va_end (args);
  fputc ('\n', check->report);
  check->faults++;
}

static void
check_keys (const struct smq_table *t, struct smq_check *check)
{
  uint32_t number;

  for (number = 1; number <= t->nr; number++)
    if (smq_table_find (t, entry_at (t, number)->key)
        != entry_at (t, number))
      smq_fault (check, "entry %" PRIu32 " is not found by its key", number);
}

static void
check_buckets (const struct smq_table *t, struct smq_check *check)
{
  uint32_t bucket, number, n = 0;

  for (bucket = 0; bucket < t->nr_buckets; bucket++)
    for (number = buckets (t)[bucket]; number && n <= t->nr; n++)
      number = entry_at (t, number)->chain;
  if (n != t->nr)
    smq_fault (check, "%" PRIu32 " entries, %" PRIu32 " in buckets", t->nr, n);
}

static void
check_room (struct smq_check *check, const struct smq_room *room, size_t used)
{
  if (used > room->charged || room->charged > room->size
      || room->kept > room->charged)
    smq_fault (check, "memory is used that is not charged");
}

void
smq_table_check (const struct smq_table *t, struct smq_check *check)
{
  check_keys (t, check);
  check_buckets (t, check);
  if (t->nr)
    check_room (check, &t->entry_room,
                ((size_t) t->nr + 1) * sizeof (struct smq_entry));
  check_room (check, &t->bucket_room,
              (size_t) t->nr_buckets * sizeof (uint32_t));
  if (smq_table_charged (t) > t->entry_room.kept + t->bucket_room.kept
      + SMQ_BYTES_MAX (t->nr))
    smq_fault (check, "more memory is charged than the entries need");
}
