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

/* Give the memory of a page-aligned range back to the system.  The
 * range reads as zeroes afterwards.  False if the system refused (the
 * range is locked in memory, for one), and then the contents stand.
 */
bool mapping_discard (void *addr, size_t size);

#endif /* MAPPING_H */
