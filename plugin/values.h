/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Values of parameters.  KEY is the parameter, VALUE what the user wrote;
 * both are for messages.  All return -1 after a complaint (complain.h), which
 * names them.
 */

#ifndef VALUES_H
#define VALUES_H

#include <stdbool.h>
#include <stdint.h>

#include "zram.h"

/* The largest age of a page, in seconds. */
#define AGE_MAX (366 * 24 * 3600)

/* A number of bytes, with or without a suffix. */
int value_size (const char *key, const char *value, uint64_t *size);

/* A number of bytes in a day, 1M or more: SIZE/day. */
int value_rate (const char *key, const char *value, uint64_t *rate);

/* How many: 1 or more. */
int value_count (const char *key, const char *value, uint64_t *count);

int value_bool (const char *key, const char *value, bool *result);

/* A whole number in TEXT (VALUE or a part of it) from MIN to MAX.  WHAT is
 * what to call it.
 */
int value_number (const char *key, const char *value, const char *what,
                  const char *text, int min, int max, int *result);

/* NAME[,OPTION=NUMBER]... where the name is that of an algorithm.  The
 * option `level' is among what it has, and is the algorithm's own if it is
 * not given.
 */
struct value_option {
  const char *name;
  int min, max;
  int *result;
};
int value_algorithm (const char *key, const char *value,
                     struct zram_codec *codec,
                     const struct value_option *options, unsigned nr);

/* The contents of a file of 1 to MAX bytes, which the caller frees. */
int value_file (const char *key, const char *value, size_t max,
                char **data, size_t *size);

#endif /* VALUES_H */
