/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Address space without memory.  Pages of a mapping read as zeroes and
 * cost nothing until they are written.
 */

#ifndef MAPPING_H
#define MAPPING_H

#include <stdbool.h>
#include <stddef.h>

/* Reserve SIZE bytes of address space, readable and writable.  NULL and
 * errno if the system refuses.  The contents stay out of core dumps
 * (they are a copy of somebody's memory), and the kernel is asked not
 * to use huge pages (it would make 2 MiB resident where we count 4 KiB).
 */
void *mapping_reserve (size_t size);

/* Undo that.  NULL is fine. */
void mapping_release (void *addr, size_t size);

/* Make a page-aligned range that nobody else uses resident, ready to be
 * written.  False if the system has no memory for it; it may try hard
 * before it says so.
 */
bool mapping_populate (void *addr, size_t size);

/* The same for any range, of which the contents stand. */
void mapping_touch (void *addr, size_t size);

/* Give the memory of a page-aligned range back to the system, even where
 * it is locked in memory.  The range reads as zeroes afterwards.  False if
 * the system refused, and then the contents stand.
 */
bool mapping_discard (void *addr, size_t size);

#endif /* MAPPING_H */
