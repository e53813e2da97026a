/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* What algorithms there are, and their levels. */

#include <config.h>

#include <string.h>

#include <lz4hc.h>
#include <zstd.h>

#include "zram.h"

/* Any acceleration is possible; this is where liblz4's ends. */
#define LZ4_LEVEL_MAX 65537

static const char *const algorithm_names[ZRAM_NR_ALGORITHMS] = {
  [ZRAM_ALGORITHM_NONE] = "none",
  [ZRAM_ALGORITHM_LZ4] = "lz4",
  [ZRAM_ALGORITHM_LZ4HC] = "lz4hc",
  [ZRAM_ALGORITHM_ZSTD] = "zstd",
};

const char *
zram_algorithm_name (enum zram_algorithm algorithm)
{
  return algorithm_names[algorithm];
}

bool
zram_algorithm_find (const char *name, enum zram_algorithm *algorithm)
{
  unsigned i;

  for (i = 0; i < ZRAM_NR_ALGORITHMS; i++) {
    if (strcmp (name, algorithm_names[i]) == 0) {
      *algorithm = i;
      return true;
    }
  }
  return false;
}

void
zram_algorithm_levels (enum zram_algorithm algorithm,
                       int *min, int *max, int *preset)
{
  *min = *max = *preset = 0;
  switch (algorithm) {
  case ZRAM_ALGORITHM_NONE:
    break;
  case ZRAM_ALGORITHM_LZ4:
    *min = *preset = 1;
    *max = LZ4_LEVEL_MAX;
    break;
  case ZRAM_ALGORITHM_LZ4HC:
    *min = LZ4HC_CLEVEL_MIN;
    *max = LZ4HC_CLEVEL_MAX;
    *preset = LZ4HC_CLEVEL_DEFAULT;
    break;
  case ZRAM_ALGORITHM_ZSTD:
    *min = ZSTD_minCLevel ();
    *max = ZSTD_maxCLevel ();
    *preset = 1;
    break;
  }
}
