/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* What is served: one disk, and what there is to say of it. */

#ifndef DISK_H
#define DISK_H

#include "swap-safe.h"
#include "zram.h"

struct disk {
  char instance[32];            /* the name of this run of the server */
  bool swap;                    /* swap=true */
  struct swap_safe safe;        /* and what came of it */
  struct zram_memory *memory;
  struct zram_store *store;
  struct zram_codec codec;
  enum zram_allocator allocator;
  enum zram_policy policy;
  uint64_t writeback_limit;     /* bytes a day; 0: none */
  unsigned idle_age;            /* seconds, after which pages are idle */
};

#endif /* DISK_H */
