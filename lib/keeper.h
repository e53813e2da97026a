/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The keeper: the thread that keeps reserves full, and does nothing
 * else.
 */

#ifndef KEEPER_H
#define KEEPER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "arena.h"

#define KEEPER_ARENAS 2

struct keeper {
  struct arena *arenas[KEEPER_ARENAS];

  pthread_t thread;
  bool started;                 /* known to starter and stopper only */

  pthread_mutex_t lock;         /* covers what is below it */
  pthread_cond_t wake;
  bool called, quit;
};

void keeper_init (struct keeper *, struct arena *, struct arena *);
void keeper_destroy (struct keeper *);

/* Give the arenas reserves of these sizes, in bytes (multiples of the
 * chunk), fill them, and keep them filled from now on.  It returns when
 * they are as full as the limit allows.  -1 and errno on failure.
 */
int keeper_start (struct keeper *, uint64_t, uint64_t);
void keeper_stop (struct keeper *);

/* It may be possible to fill what could not be filled before. */
void keeper_call (struct keeper *);

#endif /* KEEPER_H */
