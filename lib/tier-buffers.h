/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Buffers to read tiers with, lent for the time of a read.  All of them can
 * take any record.  What is around it takes a lot more, and only tiers that
 * are slow to answer are read so; so the memory for that comes when it is
 * first wanted.
 */

#ifndef TIER_BUFFERS_H
#define TIER_BUFFERS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lend.h"
#include "limit.h"

/* So many reads can be under way at once. */
#define TIER_BUFFERS 24

struct tier_buffers {
  struct limit *limit;
  struct lend lent;
  unsigned char *memory;        /* NULL before they are made */
  pthread_mutex_t lock;         /* for widening */
  _Atomic bool wide;
};

void tier_buffers_init (struct tier_buffers *, struct limit *);
void tier_buffers_destroy (struct tier_buffers *);

/* Have them, if that is not so already; and have room in all of them for
 * what is around a record (TIER_NEIGHBOURS), resident and charged.  False and
 * errno on failure.
 */
bool tier_buffers_make (struct tier_buffers *);
bool tier_buffers_widen (struct tier_buffers *);

/* Memory that is charged; and what it can come to. */
uint64_t tier_buffers_charged (const struct tier_buffers *);
uint64_t tier_buffers_size_max (void);

/* Have what is charged in memory, after a fork. */
void tier_buffers_touch (struct tier_buffers *);

/* Take one, waiting if all are taken. */
unsigned char *tier_buffers_take (struct tier_buffers *);
void tier_buffers_return (struct tier_buffers *, const unsigned char *);

#endif /* TIER_BUFFERS_H */
