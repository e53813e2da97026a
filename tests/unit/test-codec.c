/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

#include "unit.h"

#include <pthread.h>

#include "codec.h"
#include "pages.h"
#include "slot.h"

static unsigned char page[ZRAM_PAGE_SIZE], object[ZRAM_PAGE_SIZE],
  back[ZRAM_PAGE_SIZE];

START_TEST (test_names)
{
  enum zram_algorithm a;
  unsigned i;

  for (i = 0; i < ZRAM_NR_ALGORITHMS; i++) {
    ck_assert (zram_algorithm_find (zram_algorithm_name (i), &a));
    ck_assert_uint_eq (a, i);
  }
  ck_assert (zram_algorithm_find ("zstd", &a) && a == ZRAM_ALGORITHM_ZSTD);
  ck_assert (!zram_algorithm_find ("gzip", &a));
  ck_assert (!zram_algorithm_find ("", &a));
  ck_assert (!zram_algorithm_find ("ZSTD", &a));
}
END_TEST

/* Every algorithm, at its lowest, highest and usual level. */
START_TEST (test_round_trip)
{
  struct codecs *codecs = codecs_create (2);
  struct codec_context *context = codecs_get (codecs);
  struct codec_reader *reader = codecs_get_reader (codecs);
  struct rng rng = { 1 };
  int a, i, kind, levels[3];

  for (a = 0; a < ZRAM_NR_ALGORITHMS; a++) {
    zram_algorithm_levels (a, &levels[0], &levels[1], &levels[2]);
    for (i = 0; i < 3; i++) {
      struct zram_codec codec = { a, levels[i] };
      int index;

      codecs_put_reader (codecs, reader);
      codecs_put (codecs, context);
      index = codecs_add (codecs, &codec);
      context = codecs_get (codecs);
      reader = codecs_get_reader (codecs);
      ck_assert_int_ge (index, CODEC_FIRST);
      for (kind = 0; kind < 10 * PAGES_NR_KINDS; kind++) {
        size_t size;

        pages_fill (&rng, kind % PAGES_NR_KINDS, page, sizeof page);
        size = codecs_compress (codecs, context, index, page, 4000);
        memcpy (object, context->object, size);
        ck_assert_uint_le (size, 4000);
        if (kind % PAGES_NR_KINDS == PAGES_RANDOM
            || a == ZRAM_ALGORITHM_NONE)
          ck_assert_uint_eq (size, 0);
        /* (At its lowest levels zstd only compresses what repeats.) */
        else if (kind % PAGES_NR_KINDS == PAGES_TEXT && levels[i] >= 1
                 && levels[i] < 100)
          ck_assert (size > 0 && size < 2500);
        memset (back, 0xaa, sizeof back);
        if (size) {
          ck_assert (codecs_decompress (codecs, reader, index, object, size,
                                        back));
          ck_assert_mem_eq (page, back, sizeof page);
          /* A piece of it is not a page. */
          ck_assert (!codecs_decompress (codecs, reader, index, object,
                                         size - 1, back));
        }
      }
    }
  }
  codecs_put_reader (codecs, reader);
  codecs_put (codecs, context);
  codecs_destroy (codecs);
}
END_TEST

START_TEST (test_raw_and_pattern)
{
  struct codecs *codecs = codecs_create (1);
  struct rng rng = { 2 };
  uint64_t pattern = UINT64_C (0x0123456789abcdef);

  pages_fill (&rng, PAGES_RANDOM, page, sizeof page);
  ck_assert (!codecs_needs_reader (codecs, CODEC_RAW));
  ck_assert (codecs_decompress (codecs, NULL, CODEC_RAW, page, sizeof page,
                                back));
  ck_assert_mem_eq (page, back, sizeof page);

  ck_assert (!codecs_needs_reader (codecs, CODEC_PATTERN));
  ck_assert (codecs_decompress (codecs, NULL, CODEC_PATTERN, &pattern, 8,
                                back));
  ck_assert_mem_eq (back, &pattern, 8);
  ck_assert_mem_eq (back + 4088, &pattern, 8);
  ck_assert (!codecs_decompress (codecs, NULL, CODEC_PATTERN, &pattern, 7,
                                 back));
  codecs_destroy (codecs);
}
END_TEST

START_TEST (test_bad_levels)
{
  static const struct zram_codec bad[] = {
    { ZRAM_ALGORITHM_NONE, 1 },
    { ZRAM_ALGORITHM_LZ4, -1 },
    { ZRAM_ALGORITHM_LZ4HC, 2 },
    { ZRAM_ALGORITHM_LZ4HC, 13 },
    { ZRAM_ALGORITHM_ZSTD, 23 },
    { ZRAM_ALGORITHM_ZSTD, -131073 },
  };
  struct codecs *codecs = codecs_create (1);
  unsigned i;

  for (i = 0; i < sizeof bad / sizeof bad[0]; i++)
    ck_assert_errno (codecs_add (codecs, &bad[i]) == -1, EINVAL);
  codecs_destroy (codecs);
}
END_TEST

START_TEST (test_table)
{
  struct zram_codec zstd = { ZRAM_ALGORITHM_ZSTD, 1 };
  struct codecs *codecs = codecs_create (1);
  int first = codecs_add (codecs, &zstd), n;

  ck_assert_int_eq (first, CODEC_FIRST);
  ck_assert_int_eq (codecs_add (codecs, &zstd), first);
  ck_assert (codecs_is_valid (codecs, first));
  ck_assert (!codecs_is_valid (codecs, first + 1));
  for (n = first + 1; n < SLOT_CODECS; n++) {
    struct zram_codec codec = { ZRAM_ALGORITHM_ZSTD, -n };

    ck_assert_int_eq (codecs_add (codecs, &codec), n);
  }
  zstd.level = 9;
  ck_assert_errno (codecs_add (codecs, &zstd) == -1, ENOSPC);
  codecs_destroy (codecs);
}
END_TEST

START_TEST (test_size)
{
  struct zram_codec zstd = { ZRAM_ALGORITHM_ZSTD, 1 };
  struct codecs *codecs = codecs_create (3);
  uint64_t empty = codecs_size (codecs);

  ck_assert_int_ge (codecs_add (codecs, &zstd), 0);
  ck_assert_uint_gt (codecs_size (codecs), empty + 3 * 100000);
  ck_assert_uint_eq (codecs_size (codecs), codecs_size_with (3, &zstd));
  codecs_destroy (codecs);
}
END_TEST

struct thread {
  struct codecs *codecs;
  unsigned n, faults;
};

/* More threads than contexts, all of which must come through. */
static void *
use_contexts (void *opaque)
{
  struct thread *t = opaque;
  unsigned i, k;

  for (i = 0; i < 2000; i++) {
    struct codec_context *context = codecs_get (t->codecs);

    memset (context->page, t->n, 64);
    for (k = 0; k < 64; k++)
      t->faults += context->page[k] != t->n;
    codecs_put (t->codecs, context);
  }
  return NULL;
}

START_TEST (test_contexts_are_exclusive)
{
  struct codecs *codecs = codecs_create (2);
  struct thread t[6];
  pthread_t threads[6];
  unsigned i;

  for (i = 0; i < 6; i++) {
    t[i] = (struct thread) { codecs, i, 0 };
    ck_assert_int_eq (pthread_create (&threads[i], NULL, use_contexts,
                                      &t[i]), 0);
  }
  for (i = 0; i < 6; i++) {
    pthread_join (threads[i], NULL);
    ck_assert_uint_eq (t[i].faults, 0);
  }
  codecs_destroy (codecs);
}
END_TEST

UNIT_MAIN ("codec", test_names, test_round_trip, test_raw_and_pattern,
           test_bad_levels, test_table, test_size,
           test_contexts_are_exclusive)
