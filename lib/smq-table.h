/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The entries of smq: what is known of each cluster, found by its key.
 * Their memory is what the clusters that there are now need.
 *
 * Locks: none.  The caller makes one call at a time.
 */

#ifndef SMQ_TABLE_H
#define SMQ_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "limit.h"

/* Memory is taken in pieces of this size. */
#define SMQ_PIECE 4096

/* Memory for so many clusters takes at most so many bytes. */
#define SMQ_CLUSTER_MAX 32
#define SMQ_BYTES_MAX(clusters)                                         \
  ((uint64_t) (clusters) * SMQ_CLUSTER_MAX + 6 * SMQ_PIECE)

struct smq_entry {
  uint64_t key;
  uint32_t chain;               /* next in its bucket */
  uint32_t older, newer;        /* in its list */
  uint8_t place;
  uint8_t level;
  uint8_t uses;                 /* periods, on a tier; see USES_BACK */
  bool period : 1;              /* the one that it was visited in last */
  bool used : 1;                /* in that */
};

_Static_assert (sizeof (struct smq_entry) == 24, "see SMQ_CLUSTER_MAX");

/* An array that grows. */
struct smq_room {
  unsigned char *base;
  size_t size;                  /* address space */
  size_t charged;               /* the beginning of it that may be used */
  size_t kept;                  /* of that is never given back */
};

struct smq_table {
  struct limit *limit;
  struct smq_room entry_room, bucket_room;
  uint32_t nr, max;             /* entries 1 .. nr are used */
  uint32_t nr_buckets;
};

/* As the functions of smq.h with such names. */
int smq_table_init (struct smq_table *, struct limit *, uint64_t max);
void smq_table_destroy (struct smq_table *);
int smq_table_reserve (struct smq_table *, uint64_t clusters);
uint64_t smq_table_charged (const struct smq_table *);

static inline struct smq_entry *
smq_table_entry (const struct smq_table *t, uint32_t number)
{
  return (struct smq_entry *) t->entry_room.base + number;
}

/* NULL if there is none. */
struct smq_entry *smq_table_find (const struct smq_table *, uint64_t key);

/* A new entry, of which all but the key is 0; NULL if there is no room. */
struct smq_entry *smq_table_add (struct smq_table *, uint64_t key);

/* True if another entry, the last one, is now where this one was. */
bool smq_table_remove (struct smq_table *, struct smq_entry *);

/* Faults that a validator finds. */
struct smq_check {
  FILE *report;
  unsigned faults;
};

__attribute__ ((format (printf, 2, 3)))
void smq_fault (struct smq_check *, const char *format, ...);
void smq_table_check (const struct smq_table *, struct smq_check *);

#endif /* SMQ_TABLE_H */
