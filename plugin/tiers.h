/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* A tier as somebody asks for it, on the command line or in a request on
 * the control socket.  What is wrong with it is complained of (complain.h).
 */

#ifndef TIERS_H
#define TIERS_H

#include <stdbool.h>
#include <stdint.h>

#include "zram.h"

struct tier_parameters {
  const char *text;             /* as it was written */
  char *place;                  /* the path or URI, absolute */
  bool uri;
  const char *size_text;        /* NULL: not given */
  uint64_t size;
  bool force;
};

/* Whether a path or URI means something else in another directory. */
bool tier_is_relative (const char *text);

/* Take TEXT, which must stay, as its path or URI; and as its size.  -1 after a
 * complaint.
 */
int tier_place (struct tier_parameters *, const char *key, const char *text);
int tier_size (struct tier_parameters *, const char *key, const char *text);
void tier_free (struct tier_parameters *);

/* Whether there can be such a tier, with that mem-limit and with swap= or
 * without.  -1 after a complaint.
 */
int tier_check (const struct tier_parameters *, uint64_t mem_limit,
                bool swap);

/* Open it and have the memory use it.  -1 and errno after a complaint. */
int tier_add (struct zram_memory *, const struct tier_parameters *,
              bool swap);

#endif /* TIERS_H */
