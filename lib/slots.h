/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The slot table of one store: finds the slot of a page. */

#ifndef SLOTS_H
#define SLOTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "slot.h"
#include "table.h"

#define SLOTS_NODE_BITS 10      /* a node has 1024 entries of 4 bytes */

/* A table page, or 0: there is none.  With this bit, the node is being
 * or has been taken out of the directory: start again from the root.
 */
typedef _Atomic uint32_t slots_entry;
#define SLOTS_DEAD (UINT32_C (1) << 31)

struct slots {
  struct table *table;
  uint64_t nr_pages;
  unsigned depth;               /* levels of nodes above the leaves */
  uint32_t root;                /* the top node, a table page */
};

/* Make the table of a store of NR_PAGES pages (1 to 2^51), every slot
 * EMPTY.  -1 and errno on failure.
 */
int slots_init (struct slots *, struct table *, uint64_t nr_pages);

/* Free the nodes and leaves.  The slots must not name objects. */
void slots_destroy (struct slots *);

static inline slots_entry *
slots_node_entry (const struct slots *slots, uint32_t node, unsigned level,
                  uint64_t leaf)
{
  slots_entry *entries = table_page (slots->table, node);

  return &entries[leaf >> (level * SLOTS_NODE_BITS)
                  & ((1 << SLOTS_NODE_BITS) - 1)];
}

/* The slot of a page, or NULL if its leaf is absent (then all 512 pages
 * that share it are holes).  The caller is inside the table's epoch, and
 * may use the pointer until it leaves.
 */
static inline slot *
slots_find (const struct slots *slots, uint64_t page)
{
  uint64_t leaf = page / TABLE_LEAF_SLOTS;
  uint32_t number = slots->root;
  unsigned level = slots->depth;

  while (level--) {
    number = atomic_load (slots_node_entry (slots, number, level, leaf));
    if (number == 0)
      return NULL;
    if (number & SLOTS_DEAD) {
      number = slots->root;
      level = slots->depth;
    }
  }
  return (slot *) table_page (slots->table, number) + page % TABLE_LEAF_SLOTS;
}

/* The same, making the leaf if it is absent.  NULL and errno (as for
 * arena_alloc) if that fails.
 */
slot *slots_make (struct slots *slots, uint64_t page);

/* Like slots_find, and *SPAN is set to the number of pages, from PAGE
 * on, that the answer holds for: to the end of the leaf, or of the
 * largest absent part (which may reach beyond the end of the store).
 */
slot *slots_step (const struct slots *slots, uint64_t page, uint64_t *span);

/* Give the leaf of PAGE back if all its slots are EMPTY, and the nodes
 * above it that have no other entry.
 */
void slots_retire (struct slots *slots, uint64_t page);

/* The number of table pages in use: leaves and nodes.  For the
 * validator.
 */
uint64_t slots_nr_table_pages (const struct slots *slots);

#endif /* SLOTS_H */
