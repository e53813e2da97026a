/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Storage for tiers that fails when it is told to. */

#ifndef STORAGE_H
#define STORAGE_H

#include <stdatomic.h>
#include <stdint.h>

#include "zram.h"

struct storage {
  unsigned char *bytes;
  uint64_t size;
  _Atomic unsigned fail_reads, fail_writes;     /* so many of the next */
  uint64_t bad;                 /* writes behind this fail; 0: none... */
  uint64_t bad_end;             /* ...but not behind this; 0: all */
  unsigned chance;              /* one of so many writes fails; 0: none */
  unsigned read_chance;         /* the same of reads; and of as many others
                                   one byte is wrong */
  _Atomic uint64_t random;
  unsigned late_writes, late_discards;  /* so many are not answered... */
  uint64_t late;                /* ...the last of these was for this offset */
  unsigned delay;               /* us that each read takes */
  void (*on_read) (size_t);     /* called by each read */
  void (*on_write) (void);      /* called once, by the next write... */
  void (*on_close) (void);      /* ...and when it is closed */
  _Atomic unsigned reads, writes, discards, closed;
};

/* A tier on a new storage of SIZE bytes. */
struct zram_tier storage_init (struct storage *, uint64_t size);
void storage_destroy (struct storage *);

#endif /* STORAGE_H */
