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
epoch_init (struct epoch *epoch)
{
  pthread_mutex_init (&epoch->lock, NULL);
}

void
epoch_destroy (struct epoch *epoch)
{
  pthread_mutex_destroy (&epoch->lock);
}

uint64_t
epoch_ticket (struct epoch *epoch)
{
  uint64_t ticket;

  pthread_mutex_lock (&epoch->lock);
  ticket = epoch->wanted = epoch->begun + 1;
  pthread_mutex_unlock (&epoch->lock);
  return ticket;
}

/* Let grace periods end and begin as they can. */
static void
advance (struct epoch *epoch)
{
  for (;;) {
    while (epoch->drains && is_drained (epoch)) {
      if (--epoch->drains)
        flip (epoch);
    }
    if (epoch->drains)
      return;
    epoch->passed = epoch->begun;
    if (epoch->begun == epoch->wanted)
      return;
    epoch->begun++;
    epoch->drains = 2;
    flip (epoch);
  }
}

bool
epoch_passed (struct epoch *epoch, uint64_t ticket)
{
  bool r;

  pthread_mutex_lock (&epoch->lock);
  advance (epoch);
  r = epoch->passed >= ticket;
  pthread_mutex_unlock (&epoch->lock);
  return r;
}
