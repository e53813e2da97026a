/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* A store and a plain array that must always be equal.  Each operation
 * is done to both and everything that can be compared is.  A difference
 * is printed and ends the process (abort), so that it serves in a test
 * and in a fuzzer alike.
 */

#ifndef MODEL_H
#define MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "zram.h"

struct model {
  struct zram_store *store;
  uint64_t size;                /* bytes that are modelled... */
  uint64_t start;               /* ...from here on in the store */
  unsigned char *data;          /* what they should be */
  bool *written;                /* per page: it is no hole */
  bool may_fill_up;             /* ENOSPC is a legal answer */
  bool may_fail_reads;          /* so is EIO, now and then */
};

/* So many steps; under a slow tool, the part of them that MODEL_PART=N in
 * the environment asks for: one in N.
 */
unsigned model_steps (unsigned steps);

/* Model SIZE bytes at START of a store, which are a hole. */
void model_init (struct model *, struct zram_store *, uint64_t start,
                 uint64_t size);
void model_destroy (struct model *);

/* OFFSET is in the model, and the range must lie inside it. */
void model_read (struct model *, size_t count, uint64_t offset);
void model_write (struct model *, const void *buf, size_t count,
                  uint64_t offset);
void model_zero (struct model *, uint64_t count, uint64_t offset, bool trim);
void model_extents (struct model *, uint64_t count, uint64_t offset);

/* Read and compare everything. */
void model_verify (struct model *);

/* Run the store's validator; no fault is accepted. */
void model_check_memory (struct zram_memory *);

/* One random operation.  EXTENTS: extents are among them. */
struct rng;
void model_step (struct model *, struct rng *, bool extents);

#endif /* MODEL_H */
