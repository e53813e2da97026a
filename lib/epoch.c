/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Grace periods.  See epoch.h.
 *
 * They are polled, and not waited for, because the thread that wants to
 * know has other work, on which the request that it would wait for may
 * depend.
 */

#include <config.h>

#include "epoch.h"

static void
flip (struct epoch *epoch)
{
  atomic_fetch_xor (&epoch->current, 1);
}

/* Whether nobody is in the set that is not current. */
static bool
is_drained (struct epoch *epoch)
{
  unsigned old = atomic_load (&epoch->current) ^ 1;
  unsigned i;

  for (i = 0; i < NR_STRIPES; i++)
    if (atomic_load (&epoch->stripes[i].inside[old]))
      return false;
  return true;
}

void
epoch_begin (struct epoch *epoch)
{
  epoch->drains = 2;
  flip (epoch);
}

bool
epoch_passed (struct epoch *epoch)
{
  while (epoch->drains && is_drained (epoch)) {
    if (--epoch->drains)
      flip (epoch);
  }
  return epoch->drains == 0;
}
