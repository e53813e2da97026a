/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The buffers lie beside each other at the distance that they have when all
 * are wide.  Until then only the beginning of each is used.
 */

#include <config.h>

#include <errno.h>

#include "mapping.h"
#include "tier.h"
#include "tier-buffers.h"

/* Any record, in whole blocks, wherever it begins. */
#define NARROW ((TIER_RECORD_MAX / TIER_BLOCK + 2) * TIER_BLOCK)

_Static_assert (NARROW + TIER_NEIGHBOURS == TIER_BUFFER_SIZE,
                "the neighbours are what makes one wide");

static uint64_t
size_of (bool wide)
{
  return TIER_BUFFERS * (wide ? TIER_BUFFER_SIZE : NARROW);
}

uint64_t
tier_buffers_size_max (void)
{
  return size_of (true);
}

uint64_t
tier_buffers_charged (const struct tier_buffers *b)
{
  return b->memory ? size_of (b->wide) : 0;
}

void
tier_buffers_init (struct tier_buffers *b, struct limit *limit)
{
  *b = (struct tier_buffers) { .limit = limit };
  pthread_mutex_init (&b->lock, NULL);
}

void
tier_buffers_destroy (struct tier_buffers *b)
{
  limit_uncharge (b->limit, tier_buffers_charged (b));
  if (b->memory) {
    lend_destroy (&b->lent);
    mapping_release (b->memory, size_of (true));
  }
  pthread_mutex_destroy (&b->lock);
}

static void
touch (struct tier_buffers *b, size_t from, size_t count)
{
  unsigned i;

  for (i = 0; i < TIER_BUFFERS; i++)
    mapping_touch (b->memory + i * TIER_BUFFER_SIZE + from, count);
}

void
tier_buffers_touch (struct tier_buffers *b)
{
  if (b->memory)
    touch (b, 0, b->wide ? TIER_BUFFER_SIZE : NARROW);
}

bool
tier_buffers_make (struct tier_buffers *b)
{
  if (b->memory)
    return true;
  if (!limit_charge (b->limit, size_of (false))) {
    errno = ENOSPC;
    return false;
  }
  b->memory = mapping_reserve (size_of (true));
  if (b->memory && lend_init (&b->lent, TIER_BUFFERS) == 0) {
    tier_buffers_touch (b);
    return true;
  }
  mapping_release (b->memory, size_of (true));
  b->memory = NULL;
  limit_uncharge (b->limit, size_of (false));
  return false;
}

static bool
make_wide (struct tier_buffers *b)
{
  if (!limit_charge (b->limit, size_of (true) - size_of (false))) {
    errno = ENOSPC;
    return false;
  }
  touch (b, NARROW, TIER_NEIGHBOURS);
  atomic_store (&b->wide, true);
  return true;
}

bool
tier_buffers_widen (struct tier_buffers *b)
{
  bool wide = atomic_load_explicit (&b->wide, memory_order_acquire);

  if (wide)
    return true;
  pthread_mutex_lock (&b->lock);
  wide = b->wide || make_wide (b);
  pthread_mutex_unlock (&b->lock);
  return wide;
}

unsigned char *
tier_buffers_take (struct tier_buffers *b)
{
  return b->memory + lend_take (&b->lent) * TIER_BUFFER_SIZE;
}

void
tier_buffers_return (struct tier_buffers *b, const unsigned char *buffer)
{
  lend_return (&b->lent, (buffer - b->memory) / TIER_BUFFER_SIZE);
}
