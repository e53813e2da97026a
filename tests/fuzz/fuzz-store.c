/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Fuzzes the store: the input is a list of operations, which are done to
 * a store and to the model (tests/unit/model.h), with the validator after
 * each.
 *
 * The first byte chooses allocator, algorithm and size, the second one
 * whether there is a tier, of how many MiB, the policy, and whether idle pages
 * are grouped.  Each operation is eight bytes: what, what kind of contents,
 * where (three bytes) and how much (three bytes).
 */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "model.h"
#include "pages.h"
#include "storage.h"

#define SIZE_MAX_LOG 23         /* 8 MiB: four leaves */

static struct storage storage;

/* From RAM to tiers, or the other way. */
static void
move (struct model *m, bool up, uint64_t count, uint64_t offset)
{
  struct zram_move move = {
    .from = up ? ZRAM_LEVEL_TIERS : ZRAM_LEVEL_RAM,
    .to = up ? ZRAM_LEVEL_RAM : ZRAM_LEVEL_TIERS,
    .offset = offset / ZRAM_PAGE_SIZE * ZRAM_PAGE_SIZE,
    .count = (count + ZRAM_PAGE_SIZE) / ZRAM_PAGE_SIZE * ZRAM_PAGE_SIZE,
  };
  uint64_t moved;

  zram_move (m->store, &move, &moved);
}

/* The validator reads, too, and takes what fails for a fault. */
static void
check (struct zram_memory *memory)
{
  unsigned failing = storage.fail_reads;

  storage.fail_reads = 0;
  model_check_memory (memory);
  storage.fail_reads = failing;
}

static void
operate (struct model *m, struct zram_memory *memory, const uint8_t *op)
{
  struct rng rng = { 1 + op[1] };
  uint64_t where = op[2] | op[3] << 8 | op[4] << 16;
  uint64_t count = op[5] | op[6] << 8 | (op[7] & 1) << 16;
  uint64_t offset = where % m->size;
  unsigned char *buf;

  if (count > m->size - offset)
    count = m->size - offset;
  switch (op[0] % 11) {
  case 0:
  case 1:
  case 2:
    buf = calloc (1, count + 1);
    pages_fill (&rng, op[1] % PAGES_NR_KINDS, buf, count);
    model_write (m, buf, count, offset);
    free (buf);
    break;
  case 3:
    model_read (m, count, offset);
    break;
  case 4:
    model_zero (m, count, offset, false);
    break;
  case 5:
    model_zero (m, count << (op[7] >> 5) < m->size - offset
                   ? count << (op[7] >> 5) : m->size - offset,
                offset, true);
    break;
  case 6:
    model_extents (m, count, offset);
    break;
  case 7:
    /* The limit strikes, or relents, or there is a quiet moment. */
    if (op[1] & 1)
      memory->limit.max = limit_resident (&memory->limit) + where % 65536;
    else if (op[1] & 2)
      memory->limit.max = 0;
    else
      zram_memory_settle (memory);
    break;
  case 8:
    zram_mark_idle (m->store, 0);
    zram_memory_settle (memory);
    break;
  case 9:
    move (m, op[1] & 1, count, offset);
    break;
  case 10:
    storage.fail_writes = op[1] % 4;
    storage.fail_reads = op[1] / 4 % 4;
    break;
  }
}

/* Without a tier, and with 2 to 5 MiB. */
static void
add_tier (struct zram_memory *memory, uint8_t how)
{
  struct zram_tier tier = storage_init (&storage, (2 + (how >> 1 & 3)) << 20);

  if (how & 1 && zram_add_tier (memory, &tier) == -1)
    abort ();
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  struct zram_memory_config config = { .contexts = 1 };
  struct zram_codec codec = { ZRAM_ALGORITHM_LZ4, 0 };
  struct zram_memory *memory;
  struct zram_store *store;
  struct model model;
  uint64_t disksize;

  if (size < 2)
    return 0;
  config.allocator = data[0] & 1;
  codec.algorithm = data[0] >> 1 & 1
    ? ZRAM_ALGORITHM_LZ4 : ZRAM_ALGORITHM_ZSTD;
  codec.level = codec.algorithm == ZRAM_ALGORITHM_ZSTD ? 1 : 0;
  disksize = (UINT64_C (1) << (12 + (data[0] >> 2) % (SIZE_MAX_LOG - 11)))
    + data[0];
  config.policy = data[1] / 8 % ZRAM_NR_POLICIES;
  if (data[1] & 128 && config.allocator == ZRAM_ALLOCATOR_ZSMALLOC)
    config.recompress = (struct zram_recompress) {
      .codec = { ZRAM_ALGORITHM_ZSTD, 3 }, .age = 3600, .group = 16,
    };
  memory = zram_memory_create (&config);
  add_tier (memory, data[1]);
  store = zram_open (memory, disksize, &codec);
  model_init (&model, store, 0, disksize);
  model.may_fill_up = true;
  model.may_fail_reads = data[1] & 1;
  for (data += 2, size -= 2; size >= 8; data += 8, size -= 8) {
    operate (&model, memory, data);
    check (memory);
    if (memory->limit.max && memory->limit.resident > memory->limit.max)
      abort ();
  }
  memory->limit.max = 0;
  storage.fail_reads = 0;
  model.may_fail_reads = false;
  model_verify (&model);
  zram_close (store);
  model_check_memory (memory);
  zram_memory_destroy (memory);
  model_destroy (&model);
  storage_destroy (&storage);
  return 0;
}
