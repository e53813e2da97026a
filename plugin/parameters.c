/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The command line: take each parameter apart and say what is wrong
 * with it.
 *
 * Whoever mistypes a parameter gets one line that names the parameter
 * and the value as they wrote it.  This is why sizes are not given to
 * nbdkit_parse_size: it prints a line of its own, which says "could not
 * parse size string (1.5G)" and leaves it to the user to find out which
 * of the two sizes that was.  The syntax is the same as nbdkit's.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "parameters.h"

/* Parse digits and at most one suffix.  A disk and a limit can both not
 * be larger than ZRAM_SIZE_MAX.
 */
static int
parse_size (const char *key, const char *value, uint64_t *size)
{
  static const char suffixes[] = "bkmgtpe";
  const char *suffix, *found;
  uint64_t n = 0;
  unsigned shift = 0;

  for (suffix = value; *suffix >= '0' && *suffix <= '9'; suffix++) {
    unsigned digit = *suffix - '0';

    if (n > ((uint64_t) ZRAM_SIZE_MAX - digit) / 10)
      goto too_large;
    n = n * 10 + digit;
  }
  if (suffix == value) {
    nbdkit_error ("%s=%s: this is not a size, which is a number of bytes, "
                  "or a number with a suffix as in 512M or 1G", key, value);
    return -1;
  }

  if (*suffix) {
    char c = *suffix >= 'A' && *suffix <= 'Z' ? *suffix - 'A' + 'a' : *suffix;

    found = strchr (suffixes, c);
    if (c == 's')               /* sectors */
      shift = 9;
    else if (found)
      shift = 10 * (found - suffixes);
    if ((c != 's' && !found) || suffix[1]) {
      nbdkit_error ("%s=%s: unknown suffix '%s' (use one of K, M, G, T, P, E)",
                    key, value, suffix);
      return -1;
    }
  }

  if (n > (uint64_t) ZRAM_SIZE_MAX >> shift)
    goto too_large;
  *size = n << shift;
  return 0;

 too_large:
  nbdkit_error ("%s=%s: too large (the most is %" PRIi64 " bytes)",
                key, value, (int64_t) ZRAM_SIZE_MAX);
  return -1;
}

static int
parse_level (const char *value, const char *text,
             enum zram_algorithm algorithm, int *level)
{
  const char *name = zram_algorithm_name (algorithm);
  int min, max, preset;
  char *end;
  long n;

  zram_algorithm_levels (algorithm, &min, &max, &preset);
  if (min == max) {
    nbdkit_error ("algorithm=%s: %s has no levels", value, name);
    return -1;
  }

  /* strtol would skip white space. */
  errno = 0;
  n = strtol (text, &end, 10);
  if (end == text || *end || !strchr ("-+0123456789", *text)) {
    nbdkit_error ("algorithm=%s: the level is not a number", value);
    return -1;
  }
  if (errno == ERANGE || n < min || n > max) {
    nbdkit_error ("algorithm=%s: %s has levels from %d to %d",
                  value, name, min, max);
    return -1;
  }
  *level = n;
  return 0;
}

/* NAME[,level=N] */
static int
parse_algorithm (const char *value, struct zram_codec *codec)
{
  static const char level_is[] = "level=";
  size_t len = strcspn (value, ",");
  const char *option = value[len] ? &value[len + 1] : NULL;
  char name[16];
  int min, max;

  /* The longest name is much shorter than the array. */
  if (len < sizeof name) {
    memcpy (name, value, len);
    name[len] = '\0';
  }
  if (len >= sizeof name || !zram_algorithm_find (name, &codec->algorithm)) {
    nbdkit_error ("algorithm=%s: unknown algorithm "
                  "(use lz4, lz4hc, zstd or none)", value);
    return -1;
  }
  zram_algorithm_levels (codec->algorithm, &min, &max, &codec->level);

  if (!option)
    return 0;
  if (strncmp (option, level_is, sizeof level_is - 1) != 0) {
    nbdkit_error ("algorithm=%s: after the comma comes level=N", value);
    return -1;
  }
  return parse_level (value, option + sizeof level_is - 1,
                      codec->algorithm, &codec->level);
}

/* auto is what happens without the parameter too, where it can. */
static int
parse_dictionary (const char *value, struct parameters *p)
{
  bool wanted = strcmp (value, "auto") == 0;

  if (!wanted && strcmp (value, "none") != 0) {
    nbdkit_error ("dictionary=%s: this is neither auto nor none", value);
    return -1;
  }
  p->dictionary_wanted = wanted;
  p->codec.no_dictionary = !wanted;
  return 0;
}

/* nbdkit_parse_bool would not say which parameter it was. */
static int
parse_bool (const char *key, const char *value, bool *result)
{
  static const char *const names[2][5] = {
    { "false", "0", "no", "off", "f" },
    { "true", "1", "yes", "on", "t" },
  };
  unsigned i;

  for (i = 0; i < 10; i++) {
    if (strcasecmp (value, names[i / 5][i % 5]) == 0) {
      *result = i / 5;
      return 0;
    }
  }
  nbdkit_error ("%s=%s: this is neither true nor false", key, value);
  return -1;
}

static int
parse_reserve (const char *key, const char *value, struct parameters *p)
{
  if (parse_size (key, value, &p->reserve) == -1)
    return -1;
  if (p->reserve < RESERVE_MIN || p->reserve > ZRAM_RESERVE_MAX) {
    nbdkit_error ("%s=%s: use from 1M to %" PRIu64 "G", key, value,
                  (uint64_t) ZRAM_RESERVE_MAX >> 30);
    return -1;
  }
  p->reserve_text = value;
  return 0;
}

int
parameters_set (struct parameters *p, const char *key, const char *value)
{
  if (strcmp (key, "size") == 0) {
    if (parse_size (key, value, &p->size) == -1)
      return -1;
    if (p->size == 0) {
      nbdkit_error ("%s=%s: the disk cannot be empty", key, value);
      return -1;
    }
  }
  else if (strcmp (key, "mem-limit") == 0) {
    p->mem_limit_text = value;
    return parse_size (key, value, &p->mem_limit);
  }
  else if (strcmp (key, "algorithm") == 0)
    return parse_algorithm (value, &p->codec);
  else if (strcmp (key, "dictionary") == 0)
    return parse_dictionary (value, p);
  else if (strcmp (key, "allocator") == 0) {
    if (!zram_allocator_find (value, &p->allocator)) {
      nbdkit_error ("%s=%s: unknown allocator (use zsmalloc or zbud)",
                    key, value);
      return -1;
    }
  }
  else if (strcmp (key, "swap") == 0)
    return parse_bool (key, value, &p->swap);
  else if (strcmp (key, "reserve") == 0)
    return parse_reserve (key, value, p);
  else if (strcmp (key, "control") == 0) {
    if (*value == '\0') {
      nbdkit_error ("%s=: the path of the control socket is empty", key);
      return -1;
    }
    free (p->control);
    p->control = nbdkit_absolute_path (value);
    if (!p->control)
      return -1;
  }
  else {
    nbdkit_error ("%s=%s: unknown parameter '%s'", key, value, key);
    return -1;
  }

  return 0;
}

struct zram_memory_config
parameters_memory_config (const struct parameters *p)
{
  return (struct zram_memory_config) {
    .mem_limit = p->mem_limit,
    .allocator = p->allocator,
    .reserve = p->reserve,
  };
}

int
parameters_complete (struct parameters *p)
{
  struct zram_memory_config config;
  uint64_t minimum;

  if (p->size == 0) {
    nbdkit_error ("you must specify size=<SIZE> on the command line, "
                  "for example size=1G");
    return -1;
  }

  if (p->dictionary_wanted && p->codec.algorithm != ZRAM_ALGORITHM_ZSTD) {
    nbdkit_error ("dictionary=auto: only zstd has dictionaries, "
                  "and this is algorithm=%s",
                  zram_algorithm_name (p->codec.algorithm));
    return -1;
  }

  if (p->reserve && !p->swap) {
    nbdkit_error ("reserve=%s: there is a reserve only with swap=true",
                  p->reserve_text);
    return -1;
  }
  if (p->swap && p->reserve == 0)
    p->reserve = RESERVE_DEFAULT;

  if (p->mem_limit != 0) {
    config = parameters_memory_config (p);
    minimum = zram_memory_minimum (&config, &p->codec);
    if (p->mem_limit < minimum) {
      /* Round up, so that the size we suggest is one that we take. */
      nbdkit_error ("mem-limit=%s: too small, an empty disk takes more than "
                    "this (use %" PRIu64 "K or more)",
                    p->mem_limit_text, (minimum + 1023) / 1024);
      return -1;
    }
  }

  return 0;
}

void
parameters_free (struct parameters *p)
{
  free (p->control);
  p->control = NULL;
}
