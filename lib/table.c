/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Allocation of the pages of slot tables.
 *
 * A leaf that a trim has emptied is unlinked from its directory while
 * requests run, and some may have looked it up before; so may a node that
 * has lost its last leaf.  So every word of an unlinked page says DEAD,
 * which sends such a request back to the root, and the page is freed only
 * after a grace period (epoch.h).  The list of waiting pages is threaded
 * through their first words, which stay DEAD.
 */

#include <config.h>

#include <string.h>

#include "table.h"

int
table_init (struct table *table, struct limit *limit, uint64_t size)
{
  memset (table, 0, sizeof *table);
  if (arena_init (&table->arena, limit, size, 0) == -1)
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

/* The word through which a waiting page names the next one. */
static slot *
page_link (const struct table *table, uint32_t page)
{
  return table_page (table, page);
}

void
table_retire (struct table *table, uint32_t page)
{
  pthread_mutex_lock (&table->lock);
  atomic_store (page_link (table, page), slot_word_dead (table->retired));
  table->retired = page;
  pthread_mutex_unlock (&table->lock);
}

static void
free_pages (struct table *table, uint32_t page)
{
  while (page) {
    uint32_t next = slot_number (slot_peek (page_link (table, page)));

    table_free (table, page);
    page = next;
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
    free_pages (table, table->expiring);
    table->expiring = 0;
  }
  waiting = table->expiring || table->retired;
  pthread_mutex_unlock (&table->lock);
  return waiting;
}

static unsigned
count_pages (const struct table *table, uint32_t page)
{
  unsigned n = 0;

  for (; page; page = slot_number (slot_peek (page_link (table, page))))
    n++;
  return n;
}

unsigned
table_nr_waiting (struct table *table)
{
  unsigned n;

  pthread_mutex_lock (&table->lock);
  n = count_pages (table, table->retired)
    + count_pages (table, table->expiring);
  pthread_mutex_unlock (&table->lock);
  return n;
}
