/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Moving pages from one level to another, in the thread of whoever asks. */

#ifndef MOVE_H
#define MOVE_H

#include <stdbool.h>
#include <stdint.h>

struct wanted;
struct zram_memory;
struct zram_store;

/* True, and errno is EINTR, if whoever asked is to give up. */
bool move_is_interrupted (const struct zram_memory *);

/* What is WANTED of a store and on a level (of zram.h) other than RAM moves
 * to RAM, or is given up.  -1 and errno: ENOSPC if memory is short, and then
 * it can be called again to go on; EIO if some cannot be read; EINTR.  Adds to
 * *MOVED.
 */
int move_up (struct zram_store *, struct wanted *, int from,
             uint64_t *moved);

/* What is WANTED (NULL: all) and on the tier FROM moves to another one, or to
 * any (ZRAM_LEVEL_TIERS).  The same errors, and EINVAL if there is no such
 * tier any more.
 */
int move_across (struct zram_memory *, struct wanted *, int from, int to,
                 uint64_t *moved);

#endif /* MOVE_H */
