/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Dictionaries that train themselves.  See dictionary.c. */

#ifndef DICTIONARY_H
#define DICTIONARY_H

#include <stdbool.h>
#include <stdint.h>

#include "slot.h"

struct zram_memory;
struct zram_store;

/* Of a store; only the background thread changes it. */
struct dictionary {
  bool wanted;
  unsigned base;                /* the codec to give a dictionary to */
  uint64_t next;                /* train when so many were compressed */
  uint64_t interval;            /* and how many more until the next time */

  /* Of the dictionary in use; 0 if there is none. */
  _Atomic unsigned generation;  /* from 1 */
  _Atomic unsigned trained_from;        /* pages */
  _Atomic unsigned size_gain;   /* objects are so much smaller, per mille */
  _Atomic unsigned time_gain;   /* and so much faster to make and read */
};

/* Of a memory: codecs whose last object is awaited. */
struct dictionary_retired {
  struct {
    bool waiting;
    bool unused;                /* it had no object at the last look */
    uint64_t ticket;            /* of the grace period since then */
  } codecs[SLOT_CODECS];
};

/* Let a store train dictionaries for the codec BASE. */
void dictionary_init (struct dictionary *, unsigned base);

/* Train one if it is time to, and use it if it is better.  For the
 * background thread.  True if one was adopted.
 */
bool dictionary_train (struct zram_store *);

/* The store is being closed: its dictionary is not used any more. */
void dictionary_close (struct zram_store *);

/* Free dictionaries whose last object is gone.  For the background
 * thread; true if there is one to look at again.
 */
bool dictionary_reap (struct zram_memory *);

/* If so many old ones are alive that there will soon be no new ones: the one
 * that has fewest objects.  0 if not.
 */
unsigned dictionary_crowding (const struct zram_memory *);

#endif /* DICTIONARY_H */
