/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The words that users say for the values of enumerations. */

#include <config.h>

#include <string.h>

#include "zram.h"

static const char *const policies[ZRAM_NR_POLICIES] = {
  [ZRAM_POLICY_LRU] = "lru",
  [ZRAM_POLICY_MFU] = "mfu",
  [ZRAM_POLICY_SMQ] = "smq",
};

static const char *const pages_names[ZRAM_NR_PAGES] = {
  [ZRAM_PAGES_ALL] = "all",
  [ZRAM_PAGES_IDLE] = "idle",
  [ZRAM_PAGES_HUGE] = "huge",
  [ZRAM_PAGES_HUGE_IDLE] = "huge_idle",
  [ZRAM_PAGES_INCOMPRESSIBLE] = "incompressible",
};

static bool
find (const char *const *names, unsigned nr, const char *name,
      unsigned *value)
{
  unsigned i;

  for (i = 0; i < nr; i++) {
    if (strcmp (name, names[i]) == 0) {
      *value = i;
      return true;
    }
  }
  return false;
}

const char *
zram_policy_name (enum zram_policy policy)
{
  return policies[policy];
}

bool
zram_policy_find (const char *name, enum zram_policy *policy)
{
  unsigned value;

  if (!find (policies, ZRAM_NR_POLICIES, name, &value))
    return false;
  *policy = value;
  return true;
}

const char *
zram_pages_name (enum zram_pages pages)
{
  return pages_names[pages];
}

bool
zram_pages_find (const char *name, enum zram_pages *pages)
{
  unsigned value;

  if (!find (pages_names, ZRAM_NR_PAGES, name, &value))
    return false;
  *pages = value;
  return true;
}
