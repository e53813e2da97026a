/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* How much memory does the pool take for objects that are all of one
 * size?
 *
 * That is where a pool of size classes shows what it wastes: an average
 * over all sizes hides the worst.  A pool is filled with objects of one
 * size, compacted, and what it takes is compared with what they are.
 * The sizes are the smallest and the largest of each class, so no other
 * can be worse.
 *
 * With a corpus, it is filled with objects as large as those that its pages
 * become, in random order and again and again until there are so many bytes
 * of them.  Nothing but the pool is that large: they have no contents.
 *
 * A page that does not compress to pool_small_max bytes is stored as it
 * is.  So the bytes that a store could have saved on larger ones count
 * as waste here.
 */

#include <config.h>

#include <stdio.h>
#include <stdlib.h>
#include <stdint.h>
#include <inttypes.h>
#include <string.h>
#include <err.h>

#include "codec.h"
#include "pool.h"
#include "slot.h"
#include "table.h"

#include "bench.h"

#define SIZE_MIN 512
#define CLASS_STEP 16
#define SMALL_MAX zsmalloc_ops.small_max

struct rig {
  struct limit limit;
  struct table table;
  struct pool pool;
};

static void
rig_open (struct rig *rig)
{
  memset (rig, 0, sizeof *rig);
  if (table_init (&rig->table, &rig->limit, TABLE_SIZE_MAX) == -1)
    err (EXIT_FAILURE, "table_init");
  if (pool_init (&rig->pool, &rig->table, &rig->limit,
                 ZRAM_ALLOCATOR_ZSMALLOC, UINT64_C (1) << 34) == -1)
    err (EXIT_FAILURE, "pool_init");
}

static void
rig_close (struct rig *rig)
{
  pool_destroy (&rig->pool);
  table_destroy (&rig->table);
}

/* The sizes that objects have, one after the other and from the beginning
 * again.
 */
struct sizes {
  const uint16_t *sizes;
  size_t nr, next;
};

static size_t
next_size (struct sizes *sizes)
{
  return sizes->sizes[sizes->next++ % sizes->nr];
}

static void
fill_leaf (struct rig *rig, struct sizes *sizes, size_t nr_objects)
{
  uint32_t leaf = table_alloc (&rig->table);
  slot *slots;

  if (leaf == 0)
    err (EXIT_FAILURE, "table_alloc");
  slots = table_page (&rig->table, leaf);
  for (size_t i = 0; i < nr_objects; ++i) {
    size_t size = next_size (sizes);
    uint64_t offset = pool_alloc (&rig->pool, size,
                                  table_owner (&rig->table, &slots[i]));

    if (offset == 0)
      err (EXIT_FAILURE, "pool_alloc: %zu bytes", size);
    slot_exchange (&slots[i], slot_word_ram (0, size, offset));
  }
}

/* What the pool takes for NR_OBJECTS. */
static uint64_t
measure (struct sizes *sizes, size_t nr_objects)
{
  static struct rig rig;
  uint64_t used;
  unsigned budget;

  rig_open (&rig);
  for (size_t done = 0; done < nr_objects; done += TABLE_LEAF_SLOTS) {
    size_t left = nr_objects - done;

    fill_leaf (&rig, sizes, left < TABLE_LEAF_SLOTS ? left : TABLE_LEAF_SLOTS);
  }
  do
    budget = 100000;
  while (pool_compact (&rig.pool, &budget, true));
  used = pool_used (&rig.pool);
  rig_close (&rig);
  return used;
}

static void
report (size_t size, size_t bytes)
{
  const uint16_t stored = size > SMALL_MAX ? ZRAM_PAGE_SIZE : size;
  struct sizes sizes = { &stored, 1, 0 };
  size_t n = bytes / size;
  uint64_t used = measure (&sizes, n);

  printf ("pool size=%zu objects=%zu used=%" PRIu64 " ratio=%.4f\n",
          size, n, used, used / ((double) n * size));
}

/* What the pages of a corpus become, in random order. */
static uint16_t *
compress_all (const struct corpus *corpus, const struct zram_codec *codec)
{
  size_t n = corpus->nr_pages;
  struct codecs *codecs = codecs_create (1);
  struct codec_context *context = codecs ? codecs_get (codecs) : NULL;
  uint16_t *sizes = malloc (n * sizeof *sizes);
  uint32_t *order = small_pages (n * sizeof *order);
  int index;

  if (!context || !sizes)
    err (EXIT_FAILURE, "malloc");
  codecs_put (codecs, context);
  index = codecs_add (codecs, codec);
  if (index == -1)
    err (EXIT_FAILURE, "codecs_add");
  random_order (order, n, 0);
  for (size_t i = 0; i < n; ++i) {
    size_t size = codecs_compress (codecs, context, index,
                                   corpus_page (corpus, order[i]), SMALL_MAX);

    sizes[i] = size ? size : ZRAM_PAGE_SIZE;
  }
  codecs_destroy (codecs);
  return sizes;
}

static void
report_corpus (const struct corpus *corpus, const char *algorithm,
               size_t bytes)
{
  struct zram_codec codec = { .level = 1 };
  struct sizes sizes = { .nr = corpus->nr_pages };
  uint64_t sum = 0, used;
  size_t n = 0;

  if (!zram_algorithm_find (algorithm, &codec.algorithm))
    errx (EXIT_FAILURE, "%s: no such algorithm", algorithm);
  sizes.sizes = compress_all (corpus, &codec);
  for (; sum < bytes; ++n)
    sum += next_size (&sizes);
  sizes.next = 0;
  used = measure (&sizes, n);
  printf ("corpus algorithm=%s objects=%zu bytes=%" PRIu64 " used=%" PRIu64
          " ratio=%.4f\n", algorithm, n, sum, used, used / (double) sum);
  free ((void *) sizes.sizes);
}

int
main (int argc, char *argv[])
{
  size_t bytes;

  if (argc < 2) {
    fprintf (stderr, "usage: bench-pool MIB [CORPUS PAGES ALGORITHM ...]\n");
    return EXIT_FAILURE;
  }
  bytes = parse_count ("MIB", argv[1]) << 20;
  if (argc > 3) {
    struct corpus corpus = corpus_load (argv[2],
                                        parse_count ("PAGES", argv[3]),
                                        CORPUS_DROP_SAME);

    for (int i = 4; i < argc; ++i)
      report_corpus (&corpus, argv[i], bytes);
    return EXIT_SUCCESS;
  }
  for (size_t size = SIZE_MIN; size <= ZRAM_PAGE_SIZE; size += CLASS_STEP) {
    report (size, bytes);
    if (size < ZRAM_PAGE_SIZE)
      report (size + 1, bytes);
  }
  return EXIT_SUCCESS;
}
