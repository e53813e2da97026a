/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Take values apart and say what is wrong with them.
 *
 * Whoever mistypes a parameter gets one line that names the parameter
 * and the value as they wrote it.  This is why sizes are not given to
 * nbdkit_parse_size: it prints a line of its own, which says "could not
 * parse size string (1.5G)" and leaves it to the user to find out which
 * of the sizes that was.  The syntax is the same as nbdkit's.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "complain.h"
#include "values.h"

#define RATE_MIN (UINT64_C (1) << 20)

/* ---- Sizes --------------------------------------------------------- */

/* Parse digits and at most one suffix.  A disk and a limit can both not
 * be larger than ZRAM_SIZE_MAX.
 */
int
value_size (const char *key, const char *value, uint64_t *size)
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
    complain ("%s=%s: this is not a size, which is a number of bytes, "
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
      complain ("%s=%s: unknown suffix '%s' (use one of K, M, G, T, P, E)",
                key, value, suffix);
      return -1;
    }
  }

  if (n > (uint64_t) ZRAM_SIZE_MAX >> shift)
    goto too_large;
  *size = n << shift;
  return 0;

 too_large:
  complain ("%s=%s: too large (the most is %" PRIi64 " bytes)",
            key, value, (int64_t) ZRAM_SIZE_MAX);
  return -1;
}

int
value_rate (const char *key, const char *value, uint64_t *rate)
{
  const char *slash = strchr (value, '/');
  char *size;
  int r;

  if (slash == NULL || strcmp (slash, "/day") != 0) {
    complain ("%s=%s: this is not a rate, which is a size and /day, as in "
              "20G/day", key, value);
    return -1;
  }
  size = strndup (value, slash - value);
  if (size == NULL) {
    complain ("%s=%s: %m", key, value);
    return -1;
  }
  r = value_size (key, size, rate);
  free (size);
  if (r == 0 && *rate < RATE_MIN) {
    complain ("%s=%s: too small (use 1M/day or more)", key, value);
    return -1;
  }
  return r;
}

/* ---- Truth, and numbers -------------------------------------------- */

int
value_count (const char *key, const char *value, uint64_t *count)
{
  errno = 0;
  *count = strtoull (value, NULL, 10);
  if (value[strspn (value, "0123456789")] == '\0' && *count && errno == 0)
    return 0;
  complain ("%s=%s: this is not a number, from 1 to %" PRIu64, key, value,
            UINT64_MAX);
  return -1;
}

/* nbdkit_parse_bool would not say which parameter it was. */
int
value_bool (const char *key, const char *value, bool *result)
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
  complain ("%s=%s: this is neither true nor false", key, value);
  return -1;
}

int
value_number (const char *key, const char *value, const char *what,
              const char *text, int min, int max, int *result)
{
  char *end;
  long n;

  /* strtol would skip white space. */
  errno = 0;
  n = strtol (text, &end, 10);
  if (end == text || *end || !strchr ("-+0123456789", *text)) {
    complain ("%s=%s: the %s is not a number", key, value, what);
    return -1;
  }
  if (errno == ERANGE || n < min || n > max) {
    complain ("%s=%s: the %s can be from %d to %d",
              key, value, what, min, max);
    return -1;
  }
  *result = n;
  return 0;
}

/* ---- Algorithms ---------------------------------------------------- */

static int
find_algorithm (const char *key, const char *value, const char *name,
                enum zram_algorithm *algorithm)
{
  if (zram_algorithm_find (name, algorithm))
    return 0;
  complain ("%s=%s: unknown algorithm (use lz4, lz4hc, zstd or none)",
            key, value);
  return -1;
}

static int
set_level (const char *key, const char *value, const char *text,
           struct zram_codec *codec)
{
  int min, max, preset;

  zram_algorithm_levels (codec->algorithm, &min, &max, &preset);
  if (min == max) {
    complain ("%s=%s: %s has no levels", key, value,
              zram_algorithm_name (codec->algorithm));
    return -1;
  }
  return value_number (key, value, "level", text, min, max, &codec->level);
}

/* One NAME=NUMBER. */
static int
set_option (const char *key, const char *value, char *option,
            struct zram_codec *codec, const struct value_option *options,
            unsigned nr)
{
  char *number = strchr (option, '=');
  unsigned i;

  if (number)
    *number++ = '\0';
  if (number && strcmp (option, "level") == 0)
    return set_level (key, value, number, codec);
  for (i = 0; number && i < nr; i++)
    if (strcmp (option, options[i].name) == 0)
      return value_number (key, value, option, number, options[i].min,
                           options[i].max, options[i].result);
  complain ("%s=%s: '%s' is no option of it, or has no value "
            "(as in level=1)", key, value, option);
  return -1;
}

int
value_algorithm (const char *key, const char *value,
                 struct zram_codec *codec,
                 const struct value_option *options, unsigned nr)
{
  char text[256], *rest = text;
  int min, max, r;

  if (snprintf (text, sizeof text, "%s", value) >= (int) sizeof text) {
    complain ("%s=%s: too long", key, value);
    return -1;
  }
  if (find_algorithm (key, value, strsep (&rest, ","), &codec->algorithm)
      == -1)
    return -1;
  zram_algorithm_levels (codec->algorithm, &min, &max, &codec->level);
  for (r = 0; r == 0 && rest; )
    r = set_option (key, value, strsep (&rest, ","), codec, options, nr);
  return r;
}

/* ---- Files --------------------------------------------------------- */

int
value_file (const char *key, const char *value, size_t max,
            char **data, size_t *size)
{
  FILE *fp = fopen (value, "re");
  char *p = fp ? malloc (max + 1) : NULL;
  bool failed;

  if (p == NULL) {
    complain ("%s=%s: %m", key, value);
    if (fp)
      fclose (fp);
    return -1;
  }
  *size = fread (p, 1, max + 1, fp);
  failed = ferror (fp);
  if (failed)
    complain ("%s=%s: cannot be read: %m", key, value);
  else if (*size == 0 || *size > max)
    complain ("%s=%s: the file must have from 1 to %zu bytes",
              key, value, max);
  fclose (fp);
  if (failed || *size == 0 || *size > max) {
    free (p);
    return -1;
  }
  *data = p;
  return 0;
}
