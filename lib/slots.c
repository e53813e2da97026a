/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The slot table: a radix tree over page numbers.
 *
 *     root node            node                 leaf
 *     [1024 entries] ----> [1024 entries] ----> [512 slots]
 *      2 GiB each           2 MiB each           4 KiB each
 *                                        (as for a store of 2 TiB)
 *
 * Leaves exist only where pages were written.  A flat array would be
 * simpler, but for 2^63 bytes it does not fit any address space, and
 * finding what is absent in it would mean looking at all of it.  With
 * entries of 4 bytes a node covers 1024 leaves, so up to 2 GiB there is
 * one level to walk, up to 2 TiB two, and at most five.
 *
 * An entry changes from 0 to a page by compare-and-swap (whoever loses
 * frees his page), and back to 0 when that page is retired.
 *
 * Retiring a leaf: all 512 slots are turned from EMPTY to DEAD, one after
 * the other; if one is not EMPTY, those before it are turned back.  From
 * the moment that they are all DEAD nobody can put anything into the
 * leaf, and it is unlinked.  Whoever finds a DEAD slot looks the page up
 * again until the directory has a new answer.  Then the same is done to
 * the node that the leaf was in, if it has nothing else, and so on up to
 * the root, which stays.  (To these loops a leaf and a node are the same:
 * 512 words that are 0 or DEAD.)
 *
 * Locks: none.  Entries are sequentially consistent because the table's
 * epoch asks for it.
 */

#include <config.h>

#include <sched.h>
#include <stddef.h>

#include "slots.h"

#define NODE_ENTRIES (1u << SLOTS_NODE_BITS)

int
slots_init (struct slots *slots, struct table *table, uint64_t nr_pages)
{
  uint64_t nr_leaves = (nr_pages - 1) / TABLE_LEAF_SLOTS + 1;

  *slots = (struct slots) { .table = table, .nr_pages = nr_pages };
  for (slots->depth = 1;
       (nr_leaves - 1) >> (slots->depth * SLOTS_NODE_BITS); )
    slots->depth++;
  slots->root = table_alloc (table);
  return slots->root ? 0 : -1;
}

/* Free a node at LEVEL (0: its entries are leaves) and all below it. */
static void
free_node (struct slots *slots, uint32_t node, unsigned level)
{
  slots_entry *entries = table_page (slots->table, node);
  unsigned i;

  for (i = 0; i < NODE_ENTRIES; i++) {
    uint32_t number = atomic_load (&entries[i]);

    if (number && level)
      free_node (slots, number, level - 1);
    else if (number)
      table_free (slots->table, number);
  }
  table_free (slots->table, node);
}

void
slots_destroy (struct slots *slots)
{
  free_node (slots, slots->root, slots->depth - 1);
}

/* What the entry names, after making sure that it names something. */
static uint32_t
make_entry (struct slots *slots, slots_entry *entry)
{
  uint32_t number = atomic_load (entry);
  uint32_t fresh;

  if (number)
    return number;
  fresh = table_alloc (slots->table);
  if (fresh == 0)
    return 0;
  if (atomic_compare_exchange_strong (entry, &number, fresh))
    return fresh;
  table_free (slots->table, fresh);
  return number;
}

slot *
slots_make (struct slots *slots, uint64_t page)
{
  uint64_t leaf = page / TABLE_LEAF_SLOTS;
  uint32_t number = slots->root;
  unsigned level = slots->depth;

  while (level--) {
    number = make_entry (slots, slots_node_entry (slots, number, level, leaf));
    if (number == 0)
      return NULL;
    if (number & SLOTS_DEAD) {
      sched_yield ();
      number = slots->root;
      level = slots->depth;
    }
  }
  return (slot *) table_page (slots->table, number) + page % TABLE_LEAF_SLOTS;
}

slot *
slots_step (const struct slots *slots, uint64_t page, uint64_t *span)
{
  uint64_t leaf = page / TABLE_LEAF_SLOTS;
  uint32_t number = slots->root;
  unsigned level = slots->depth;
  uint64_t covered;

  while (level--) {
    number = atomic_load (slots_node_entry (slots, number, level, leaf));
    if (number == 0) {
      covered = (uint64_t) TABLE_LEAF_SLOTS << (level * SLOTS_NODE_BITS);
      *span = covered - page % covered;
      return NULL;
    }
    if (number & SLOTS_DEAD) {
      number = slots->root;
      level = slots->depth;
    }
  }
  *span = TABLE_LEAF_SLOTS - page % TABLE_LEAF_SLOTS;
  return (slot *) table_page (slots->table, number) + page % TABLE_LEAF_SLOTS;
}

/* ---- Retiring ------------------------------------------------------ */

/* The entry at LEVEL (0: of a leaf) on the way to a leaf, or NULL. */
static slots_entry *
find_entry (const struct slots *slots, uint64_t leaf, unsigned level)
{
  uint32_t number = slots->root;
  unsigned l = slots->depth - 1;

  for (; l > level; l--) {
    number = atomic_load (slots_node_entry (slots, number, l, leaf));
    if (number == 0 || number & SLOTS_DEAD)
      return NULL;
  }
  return slots_node_entry (slots, number, level, leaf);
}

static bool
is_empty (const slot *words)
{
  unsigned i;

  for (i = 0; i < TABLE_LEAF_SLOTS; i++)
    if (atomic_load_explicit (&words[i], memory_order_relaxed))
      return false;
  return true;
}

/* Turn all words of a page from 0 to DEAD, or none. */
static bool
kill_page (slot *words)
{
  unsigned i;

  for (i = 0; i < TABLE_LEAF_SLOTS; i++) {
    uint64_t empty = 0;

    if (!atomic_compare_exchange_strong (&words[i], &empty,
                                         slot_word_dead (0)))
      break;
  }
  if (i == TABLE_LEAF_SLOTS)
    return true;
  while (i--)
    atomic_store (&words[i], 0);
  return false;
}

/* Retire the page that an entry names, if any.  False if it is not empty: then
 * no node above it is either.
 */
static bool
retire_entry (struct slots *slots, slots_entry *entry)
{
  uint32_t number = entry ? atomic_load (entry) : 0;
  slot *words;

  if (number == 0)
    return true;                /* never made, but nodes above may be empty */
  if (number & SLOTS_DEAD)
    return false;
  words = table_page (slots->table, number);
  if (!is_empty (words) || !kill_page (words))
    return false;
  atomic_store (entry, 0);
  table_retire (slots->table, number);
  return true;
}

void
slots_retire (struct slots *slots, uint64_t page)
{
  uint64_t leaf = page / TABLE_LEAF_SLOTS;
  unsigned level;

  for (level = 0; level < slots->depth; level++)
    if (!retire_entry (slots, find_entry (slots, leaf, level)))
      break;
}

/* ---- Counting ------------------------------------------------------ */

static uint64_t
count_pages (const struct slots *slots, uint32_t node, unsigned level)
{
  slots_entry *entries = table_page (slots->table, node);
  uint64_t n = 1;
  unsigned i;

  for (i = 0; i < NODE_ENTRIES; i++) {
    uint32_t number = atomic_load (&entries[i]);

    if (number)
      n += level ? count_pages (slots, number, level - 1) : 1;
  }
  return n;
}

uint64_t
slots_nr_table_pages (const struct slots *slots)
{
  return count_pages (slots, slots->root, slots->depth - 1);
}
