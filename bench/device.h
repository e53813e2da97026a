/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* A store on a memory of its own, set as the plugin sets it if it is told
 * nothing.  None of these functions returns if it fails.
 */

#ifndef BENCH_DEVICE_H
#define BENCH_DEVICE_H

#include <stdint.h>

#include "zram.h"

#include "bench.h"

struct device {
  struct zram_memory *memory;
  struct zram_store *store;
};

/* What the plugin does with idle pages. */
extern const struct zram_recompress default_recompress;

/* Without threads in the background.  RECOMPRESS may be NULL: nothing is
 * done with idle pages then.
 */
struct device device_open (const struct zram_codec *,
                           const struct zram_recompress *, size_t nr_pages);
void device_close (struct device *);

/* Write a page with the given contents, or read it. */
void device_write (const struct device *, size_t page, const void *contents);
void device_read (const struct device *, size_t page, void *contents);

/* All memory that it takes, in bytes. */
uint64_t device_resident (const struct device *);

#endif /* BENCH_DEVICE_H */
