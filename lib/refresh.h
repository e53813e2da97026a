/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Pages on tiers that keep old dictionaries alive.  See refresh.c. */

#ifndef REFRESH_H
#define REFRESH_H

#include <stdbool.h>
#include <stdint.h>

struct zram_memory;

/* The walk that is going on. */
struct refresh {
  unsigned codec;               /* whose pages; 0: none */
  uint32_t store;               /* its number */
  uint64_t page;
  uint64_t next;                /* ns: not before */
};

/* Do a portion, if there is need.  True if there is more to do. */
bool refresh_some (struct zram_memory *, struct refresh *);

#endif /* REFRESH_H */
