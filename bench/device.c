/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* A store on a memory of its own.  See device.h. */

#include <config.h>

#include <stdlib.h>
#include <err.h>

#include "device.h"

const struct zram_recompress default_recompress = {
  .codec = { .algorithm = ZRAM_ALGORITHM_ZSTD, .level = 6 },
  .age = 60, .group = 16,
};

struct device
device_open (const struct zram_codec *codec,
             const struct zram_recompress *recompress, size_t nr_pages)
{
  struct zram_memory_config config = { 0 };
  struct device d;

  if (recompress)
    config.recompress = *recompress;
  d.memory = zram_memory_create (&config);
  if (!d.memory)
    err (EXIT_FAILURE, "zram_memory_create");
  d.store = zram_open (d.memory, (uint64_t) nr_pages * BENCH_PAGE, codec);
  if (!d.store)
    err (EXIT_FAILURE, "zram_open");
  return d;
}

void
device_close (struct device *d)
{
  zram_memory_stop (d->memory);
  zram_close (d->store);
  zram_memory_destroy (d->memory);
}

void
device_write (const struct device *d, size_t page, const void *contents)
{
  if (zram_write (d->store, contents, BENCH_PAGE,
                  (uint64_t) page * BENCH_PAGE) == -1)
    err (EXIT_FAILURE, "zram_write");
}

void
device_read (const struct device *d, size_t page, void *contents)
{
  if (zram_read (d->store, contents, BENCH_PAGE,
                 (uint64_t) page * BENCH_PAGE) == -1)
    err (EXIT_FAILURE, "zram_read");
}

uint64_t
device_resident (const struct device *d)
{
  struct zram_memory_stats m;

  zram_memory_stats (d->memory, &m);
  return m.resident;
}
