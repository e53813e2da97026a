/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Allocation of the pages of slot tables.
 *
 * A leaf that a trim has emptied is unlinked from its directory while
 * requests run, and some may have looked it up before.  So every slot of
 * an unlinked leaf says DEAD, which sends such a request back to the
 * directory, and the page is freed only after a grace period (epoch.h).
 * The list of waiting leaves is threaded through their first slots.
 */

#include <config.h>

#include <string.h>

#include "table.h"

int
table_init (struct table *table, struct limit *limit)
{
  memset (table, 0, sizeof *table);
  if (arena_init (&table->arena, limit, TABLE_OWNER_MAX * sizeof (slot),
                  0) == -1)
    return -1;
  epoch_init (&table->epoch);
  pthread_mutex_init (&table->lock, NULL);
  return 0;
}

void
table_destroy (struct table *table)
{
  if (table->arena.base == NULL)
    return;
  pthread_mutex_destroy (&table->lock);
  epoch_destroy (&table->epoch);
  arena_destroy (&table->arena);
}

uint32_t
table_alloc (struct table *table)
{
  uint32_t page = arena_alloc (&table->arena, 1);

  if (page)
    memset (table_page (table, page), 0, TABLE_PAGE_SIZE);
  return page;
}

void
table_free (struct table *table, uint32_t page)
{
  arena_free (&table->arena, page, 1);
}

/* The slot through which a waiting leaf names the next one. */
static slot *
leaf_link (const struct table *table, uint32_t leaf)
{
  return table_page (table, leaf);
}

void
table_retire (struct table *table, uint32_t leaf)
{
  pthread_mutex_lock (&table->lock);
  atomic_store (leaf_link (table, leaf), slot_word_dead (table->retired));
  table->retired = leaf;
  pthread_mutex_unlock (&table->lock);
}

static void
free_leaves (struct table *table, uint32_t leaf)
{
  while (leaf) {
    uint32_t next = slot_number (slot_peek (leaf_link (table, leaf)));

    table_free (table, leaf);
    leaf = next;
  }
}

bool
table_poll (struct table *table)
{
  bool waiting;

  pthread_mutex_lock (&table->lock);
  if (!table->expiring && table->retired) {
    table->expiring = table->retired;
    table->retired = 0;
    table->ticket = epoch_ticket (&table->epoch);
  }
  if (table->expiring && epoch_passed (&table->epoch, table->ticket)) {
    free_leaves (table, table->expiring);
    table->expiring = 0;
  }
  waiting = table->expiring || table->retired;
  pthread_mutex_unlock (&table->lock);
  return waiting;
}

static unsigned
count_leaves (const struct table *table, uint32_t leaf)
{
  unsigned n = 0;

  for (; leaf; leaf = slot_number (slot_peek (leaf_link (table, leaf))))
    n++;
  return n;
}

unsigned
table_nr_waiting (struct table *table)
{
  unsigned n;

  pthread_mutex_lock (&table->lock);
  n = count_leaves (table, table->retired)
    + count_leaves (table, table->expiring);
  pthread_mutex_unlock (&table->lock);
  return n;
}
