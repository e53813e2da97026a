/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The parameters of the command line: what there is, and what goes
 * together.  values.c takes the values apart.
 *
 * Of two values that do not go together the message names the one that
 * was given; what was not given adapts.
 */

#include <config.h>

#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "parameters.h"
#include "values.h"

/* ---- One by one ---------------------------------------------------- */

static int
set_size (struct parameters *p, const char *key, const char *value)
{
  if (value_size (key, value, &p->size) == -1)
    return -1;
  if (p->size == 0) {
    nbdkit_error ("%s=%s: the disk cannot be empty", key, value);
    return -1;
  }
  return 0;
}

static int
set_mem_limit (struct parameters *p, const char *key, const char *value)
{
  p->mem_limit_text = value;
  return value_size (key, value, &p->mem_limit);
}

static int
set_algorithm (struct parameters *p, const char *key, const char *value)
{
  return value_algorithm (key, value, &p->codec, NULL, 0);
}

/* auto is what happens without the parameter too, where it can.  A file is
 * read here, since the server is going to change its directory.
 */
static int
set_dictionary (struct parameters *p, const char *key, const char *value)
{
  free (p->dictionary);
  p->dictionary = NULL;
  p->dictionary_text = value;
  p->codec.no_dictionary = strcmp (value, "none") == 0;
  if (strcmp (value, "auto") == 0 || p->codec.no_dictionary)
    return 0;
  return value_file (key, value, ZRAM_DICTIONARY_MAX, &p->dictionary,
                     &p->codec.dictionary_size);
}

static int
set_allocator (struct parameters *p, const char *key, const char *value)
{
  if (zram_allocator_find (value, &p->allocator))
    return 0;
  nbdkit_error ("%s=%s: unknown allocator (use zsmalloc or zbud)",
                key, value);
  return -1;
}

static int
set_recompress (struct parameters *p, const char *key, const char *value)
{
  static const struct parameters preset = PARAMETERS_DEFAULT;
  struct zram_recompress *r = &p->recompress;
  int age = preset.recompress.age, group = preset.recompress.group;
  const struct value_option options[] = {
    { "age", 1, AGE_MAX, &age },
    { "group", 2, 16, &group },
  };

  p->recompress_text = value;
  if (value_algorithm (key, value, &r->codec, options, 2) == -1)
    return -1;
  if (group & (group - 1)) {
    nbdkit_error ("%s=%s: the group can be 2, 4, 8 or 16", key, value);
    return -1;
  }
  r->age = age;
  r->group = group;
  return 0;
}

static int
set_background_cpu (struct parameters *p, const char *key, const char *value)
{
  int percent;

  if (value_number (key, value, "percentage", value, 1, 100, &percent) == -1)
    return -1;
  p->background_cpu = percent;
  return 0;
}

static int
set_swap (struct parameters *p, const char *key, const char *value)
{
  return value_bool (key, value, &p->swap);
}

static int
set_reserve (struct parameters *p, const char *key, const char *value)
{
  if (value_size (key, value, &p->reserve) == -1)
    return -1;
  if (p->reserve < RESERVE_MIN || p->reserve > ZRAM_RESERVE_MAX) {
    nbdkit_error ("%s=%s: use from 1M to %" PRIu64 "G", key, value,
                  (uint64_t) ZRAM_RESERVE_MAX >> 30);
    return -1;
  }
  p->reserve_text = value;
  return 0;
}

static int
set_tier (struct parameters *p, const char *key, const char *value)
{
  if (p->nr_tiers == ZRAM_TIERS_MAX) {
    nbdkit_error ("%s=%s: there can be at most %d tiers", key, value,
                  ZRAM_TIERS_MAX);
    return -1;
  }
  if (tier_place (&p->tiers[p->nr_tiers], key, value) == -1)
    return -1;
  p->nr_tiers++;
  return 0;
}

/* The tier that a parameter speaks of: the one before it. */
static struct tier_parameters *
last_tier (struct parameters *p, const char *key, const char *value)
{
  if (p->nr_tiers)
    return &p->tiers[p->nr_tiers - 1];
  nbdkit_error ("%s=%s: there is no tier= before it", key, value);
  return NULL;
}

static int
set_tier_size (struct parameters *p, const char *key, const char *value)
{
  struct tier_parameters *tier = last_tier (p, key, value);

  if (tier == NULL)
    return -1;
  return tier_size (tier, key, value);
}

static int
set_tier_force (struct parameters *p, const char *key, const char *value)
{
  struct tier_parameters *tier = last_tier (p, key, value);

  return tier ? value_bool (key, value, &tier->force) : -1;
}

static int
set_policy (struct parameters *p, const char *key, const char *value)
{
  p->policy_text = value;
  if (zram_policy_find (value, &p->policy))
    return 0;
  nbdkit_error ("%s=%s: unknown policy (use lru, mfu or smq)", key, value);
  return -1;
}

/* The unit is written out, so that nobody takes it for a limit on what is
 * stored.
 */
static int
set_writeback_limit (struct parameters *p, const char *key, const char *value)
{
  p->writeback_limit_text = value;
  return value_rate (key, value, &p->writeback_limit);
}

static int
set_control (struct parameters *p, const char *key, const char *value)
{
  if (*value == '\0') {
    nbdkit_error ("%s=: the path of the control socket is empty", key);
    return -1;
  }
  free (p->control);
  p->control = nbdkit_absolute_path (value);
  return p->control ? 0 : -1;
}

static const struct {
  const char *key;
  int (*set) (struct parameters *, const char *key, const char *value);
} table[] = {
  { "size", set_size },
  { "mem-limit", set_mem_limit },
  { "algorithm", set_algorithm },
  { "dictionary", set_dictionary },
  { "recompress", set_recompress },
  { "background-cpu", set_background_cpu },
  { "allocator", set_allocator },
  { "swap", set_swap },
  { "reserve", set_reserve },
  { "tier", set_tier },
  { "tier-size", set_tier_size },
  { "tier-force", set_tier_force },
  { "policy", set_policy },
  { "writeback-limit", set_writeback_limit },
  { "control", set_control },
};

int
parameters_set (struct parameters *p, const char *key, const char *value)
{
  unsigned i;

  for (i = 0; i < sizeof table / sizeof table[0]; i++)
    if (strcmp (key, table[i].key) == 0)
      return table[i].set (p, key, value);
  nbdkit_error ("%s=%s: unknown parameter '%s'", key, value, key);
  return -1;
}

/* ---- Together ------------------------------------------------------ */

struct zram_memory_config
parameters_memory_config (const struct parameters *p)
{
  return (struct zram_memory_config) {
    .mem_limit = p->mem_limit,
    .allocator = p->allocator,
    .reserve = p->reserve,
    .recompress = p->recompress,
    .background_cpu = p->background_cpu,
    .policy = p->policy,
    .writeback_limit = p->writeback_limit,
    .tiers = p->nr_tiers > 0,
  };
}

static int
complete_dictionary (struct parameters *p)
{
  p->codec.dictionary = p->dictionary;
  if (p->dictionary_text && !p->codec.no_dictionary
      && p->codec.algorithm != ZRAM_ALGORITHM_ZSTD) {
    nbdkit_error ("dictionary=%s: only zstd has dictionaries, "
                  "and this is algorithm=%s", p->dictionary_text,
                  zram_algorithm_name (p->codec.algorithm));
    return -1;
  }
  return 0;
}

/* Where nobody asked for it, what does not compress is left alone, and so
 * is swap space: there pages are read once, soon and in a hurry, and memory
 * that a group still takes when some of its pages have left may be the
 * memory that the next page needs.
 */
static int
complete_recompress (struct parameters *p)
{
  bool off = p->recompress.codec.algorithm == ZRAM_ALGORITHM_NONE;

  if (!off && p->recompress_text && p->allocator == ZRAM_ALLOCATOR_ZBUD) {
    nbdkit_error ("recompress=%s: allocator=zbud cannot store groups of "
                  "pages", p->recompress_text);
    return -1;
  }
  if (off || p->allocator == ZRAM_ALLOCATOR_ZBUD
      || (!p->recompress_text
          && (p->swap || p->codec.algorithm == ZRAM_ALGORITHM_NONE)))
    p->recompress.group = 0;
  return 0;
}

static int
complete_reserve (struct parameters *p)
{
  if (p->reserve && !p->swap) {
    nbdkit_error ("reserve=%s: there is a reserve only with swap=true",
                  p->reserve_text);
    return -1;
  }
  if (p->swap && p->reserve == 0)
    p->reserve = RESERVE_DEFAULT;
  return 0;
}

/* What speaks of tiers, where there can be none. */
static int
refuse_without_tier (const char *key, const char *value)
{
  if (value == NULL)
    return 0;
  nbdkit_error ("%s=%s: this is about tiers, and there is no tier= "
                "(and no control= to add one)", key, value);
  return -1;
}

static int
check_tiers (const struct parameters *p)
{
  unsigned i;

  if (p->nr_tiers == 0 && p->control == NULL
      && (refuse_without_tier ("policy", p->policy_text) == -1
          || refuse_without_tier ("writeback-limit",
                                  p->writeback_limit_text) == -1))
    return -1;
  for (i = 0; i < p->nr_tiers; i++)
    if (tier_check (&p->tiers[i], p->mem_limit, p->swap) == -1)
      return -1;
  return 0;
}

static int
check_mem_limit (const struct parameters *p)
{
  struct zram_memory_config config = parameters_memory_config (p);
  uint64_t minimum;

  if (p->mem_limit == 0)
    return 0;
  minimum = zram_memory_minimum (&config, &p->codec);
  if (p->mem_limit >= minimum)
    return 0;
  /* Round up, so that the size we suggest is one that we take. */
  nbdkit_error ("mem-limit=%s: too small, an empty disk %stakes more than "
                "this (use %" PRIu64 "K or more)", p->mem_limit_text,
                p->nr_tiers ? "with a tier " : "", (minimum + 1023) / 1024);
  return -1;
}

int
parameters_complete (struct parameters *p)
{
  if (p->size == 0) {
    nbdkit_error ("you must specify size=<SIZE> on the command line, "
                  "for example size=1G");
    return -1;
  }
  if (complete_dictionary (p) == -1 || complete_recompress (p) == -1
      || complete_reserve (p) == -1 || check_tiers (p) == -1)
    return -1;
  return check_mem_limit (p);
}

void
parameters_free (struct parameters *p)
{
  free (p->dictionary);
  p->dictionary = NULL;
  free (p->control);
  p->control = NULL;
  while (p->nr_tiers)
    tier_free (&p->tiers[--p->nr_tiers]);
}
