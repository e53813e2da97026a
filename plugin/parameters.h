/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* What the user asked for on the command line. */

#ifndef PARAMETERS_H
#define PARAMETERS_H

#include <stdbool.h>
#include <stdint.h>

#include "tiers.h"
#include "zram.h"

#define PARAMETERS_HELP                                                 \
  "[size=]<SIZE>  (required) Size of the disk, for example 1G.\n"       \
  "mem-limit=<SIZE>          The most memory to take (default: no limit).\n" \
  "algorithm=lz4|lz4hc|zstd|none[,level=<N>]\n"                         \
  "                          How to compress (default: zstd,level=1).\n" \
  "dictionary=auto|none|<PATH>\n"                                       \
  "                          For zstd, train dictionaries of what is\n" \
  "                          stored (default: auto), or use this one.\n" \
  "recompress=lz4|lz4hc|zstd|none[,level=<N>][,age=<SECONDS>][,group=<N>]\n" \
  "                          Compress idle pages again, in groups of N\n" \
  "                          (default: zstd,level=6,age=60,group=16).\n" \
  "background-cpu=<PERCENT>  The most of one processor that work in the\n" \
  "                          background takes (default: 25).\n"        \
  "allocator=zsmalloc|zbud   How to store what was compressed\n"        \
  "                          (default: zsmalloc).\n"                    \
  "swap=true|false           Let this machine swap to the disk without\n" \
  "                          deadlock (default: false).\n"              \
  "reserve=<SIZE>            With swap=true, memory that is kept ready\n" \
  "                          (default: 16M).\n"                         \
  "tier=<PATH>|<URI>         Slower storage for what RAM has no room for:\n" \
  "                          a file, a block device, or an NBD server.\n" \
  "                          Repeatable, from fast to slow.\n"         \
  "tier-size=<SIZE>          Size of the tier before it.\n"            \
  "tier-force=true|false     Overwrite what is on the tier before it.\n" \
  "policy=lru|mfu|smq        Who leaves RAM for a tier (default: lru).\n" \
  "writeback-limit=<SIZE>/day\n"                                       \
  "                          The most to write to all tiers\n"        \
  "                          (default: no limit).\n"                  \
  "control=<PATH>            Serve statistics, and be told what to do, over\n" \
  "                          HTTP on this Unix domain socket."

/* Strings that are const belong to nbdkit. */
struct parameters {
  uint64_t size;                /* 0: not given, which is an error */
  uint64_t mem_limit;           /* 0: no limit */
  const char *mem_limit_text;   /* as the user wrote it, for messages */
  struct zram_codec codec;
  const char *dictionary_text;  /* NULL: not given */
  char *dictionary;             /* what the file has, or NULL */
  struct zram_recompress recompress;
  const char *recompress_text;  /* NULL: not given */
  unsigned background_cpu;      /* 0: not given */
  enum zram_allocator allocator;
  bool swap;                    /* swap=true */
  uint64_t reserve;             /* 0: not given */
  const char *reserve_text;     /* as the user wrote it, for messages */
  struct tier_parameters tiers[ZRAM_TIERS_MAX];
  unsigned nr_tiers;
  enum zram_policy policy;
  const char *policy_text;      /* NULL: not given */
  uint64_t writeback_limit;     /* bytes a day; 0: no limit */
  const char *writeback_limit_text;     /* NULL: not given */
  char *control;                /* absolute path, or NULL */
};

/* For swap=true. */
#define RESERVE_DEFAULT (UINT64_C (16) << 20)
#define RESERVE_MIN (UINT64_C (1) << 20)

#define PARAMETERS_DEFAULT                      \
  {                                             \
    .codec = {                                  \
      .algorithm = ZRAM_ALGORITHM_ZSTD,         \
      .level = 1,                               \
    },                                          \
    .allocator = ZRAM_ALLOCATOR_ZSMALLOC,       \
    .policy = ZRAM_POLICY_LRU,                  \
    .recompress = {                             \
      .codec = {                                \
        .algorithm = ZRAM_ALGORITHM_ZSTD,       \
        .level = 6,                             \
      },                                        \
      .age = 60,                                \
      .group = 16,                              \
    },                                          \
  }

/* Take one parameter.  Of a parameter that is given twice the last one
 * counts.  Returns -1 after an error message, which names the parameter
 * and the value.
 */
int parameters_set (struct parameters *, const char *key, const char *value);

/* Check what can only be checked when all are known, and put in what
 * depends on others.
 */
int parameters_complete (struct parameters *);

/* What the parameters say of the memory that stores share. */
struct zram_memory_config parameters_memory_config (const struct parameters *);

void parameters_free (struct parameters *);

#endif /* PARAMETERS_H */
