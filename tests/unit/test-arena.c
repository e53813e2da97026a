/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

#include "unit.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "arena.h"
#include "mapping.h"
#include "pages.h"

#define ARENA_SIZE (UINT64_C (64) << 20)

static struct limit limit;
static struct arena arena;

static void
setup (uint64_t max)
{
  limit = (struct limit) { .max = max };
  ck_assert_int_eq (arena_init (&arena, &limit, ARENA_SIZE, 100), 0);
}

static void
teardown (void)
{
  ck_assert_uint_eq (arena_check (&arena, "arena", stderr), 0);
  arena_destroy (&arena);
  ck_assert_uint_eq (limit_resident (&limit), 0);
}

START_TEST (test_runs_stay_in_a_chunk)
{
  unsigned units, i;
  uint32_t unit;

  setup (0);
  for (i = 0; i < 10; i++) {
    for (units = 1; units <= ARENA_CHUNK_UNITS; units++) {
      unit = arena_alloc (&arena, units);
      ck_assert_uint_ne (unit, 0);
      ck_assert_uint_eq (unit / ARENA_CHUNK_UNITS,
                         (unit + units - 1) / ARENA_CHUNK_UNITS);
      ck_assert (arena_is_used (&arena, unit));
      ck_assert (arena_is_used (&arena, unit + units - 1));
    }
  }
  /* 10 * (1 + ... + 16) */
  ck_assert_uint_eq (arena_used (&arena), 1360 * ARENA_UNIT);
  teardown ();
}
END_TEST

START_TEST (test_memory_is_kept_then_released)
{
  uint32_t a, b;

  setup (0);
  a = arena_alloc (&arena, 16);
  b = arena_alloc (&arena, 3);
  memset (arena_pointer (&arena, (uint64_t) a * ARENA_UNIT), 'x',
          16 * ARENA_UNIT);
  ck_assert_uint_eq (arena_resident (&arena), 19 * ARENA_UNIT);
  arena_free (&arena, a, 16);
  ck_assert_uint_eq (arena_used (&arena), 3 * ARENA_UNIT);
  ck_assert_uint_eq (arena_resident (&arena), 19 * ARENA_UNIT);

  /* Nothing more than asked for, then everything that is free. */
  ck_assert_uint_eq (arena_release (&arena, 16 * ARENA_UNIT), 0);
  ck_assert_uint_eq (arena_release (&arena, 0), 16 * ARENA_UNIT);
  ck_assert_uint_eq (arena_resident (&arena), 3 * ARENA_UNIT);
  ck_assert_uint_eq (*(char *) arena_pointer (&arena,
                                              (uint64_t) a * ARENA_UNIT), 0);
  arena_free (&arena, b, 3);
  ck_assert_uint_eq (arena_release (&arena, 0), 3 * ARENA_UNIT);
  ck_assert_uint_eq (arena_resident (&arena), 0);
  ck_assert_uint_eq (arena_used_max (&arena), 19 * ARENA_UNIT);
  teardown ();
}
END_TEST

START_TEST (test_spare_memory_is_used_first)
{
  uint32_t a, b;

  setup (0);
  a = arena_alloc (&arena, 8);
  arena_free (&arena, a + 4, 4);
  b = arena_alloc (&arena, 4);
  ck_assert_uint_eq (b, a + 4);
  ck_assert_uint_eq (arena_resident (&arena), 8 * ARENA_UNIT);
  teardown ();
}
END_TEST

START_TEST (test_part_of_a_run_can_be_freed)
{
  uint32_t a;

  setup (0);
  a = arena_alloc (&arena, 16);
  arena_free (&arena, a + 5, 2);
  ck_assert (!arena_is_used (&arena, a + 5));
  ck_assert (arena_is_used (&arena, a + 7));
  ck_assert_uint_eq (arena_release (&arena, 0), 2 * ARENA_UNIT);
  ck_assert_uint_eq (arena_alloc (&arena, 2), a + 5);
  teardown ();
}
END_TEST

START_TEST (test_limit)
{
  uint32_t a;

  /* Three units and the records of a chunk. */
  setup (3 * ARENA_UNIT + 200);
  ck_assert_errno (arena_alloc (&arena, 4) == 0, ENOSPC);
  a = arena_alloc (&arena, 2);
  ck_assert_uint_ne (a, 0);
  ck_assert_uint_ne (arena_alloc (&arena, 1), 0);
  ck_assert_errno (arena_alloc (&arena, 1) == 0, ENOSPC);
  ck_assert_uint_le (limit_resident (&limit), limit.max);

  /* What is free is still charged, and can be had again. */
  arena_free (&arena, a, 2);
  ck_assert_uint_eq (arena_alloc (&arena, 2), a);
  ck_assert_errno (arena_alloc (&arena, 1) == 0, ENOSPC);
  teardown ();
}
END_TEST

START_TEST (test_address_space_ends)
{
  unsigned n;

  setup (0);
  for (n = 0; arena_alloc (&arena, 16); n++)
    ;
  ck_assert_int_eq (errno, ENOMEM);
  /* All chunks but the first, which is never used. */
  ck_assert_uint_eq (n, ARENA_SIZE / (16 * ARENA_UNIT) - 1);
  teardown ();
}
END_TEST

/* Memory that is locked cannot be given back: it stays counted. */
START_TEST (test_system_refuses)
{
  uint32_t a;
  void *p;

  setup (0);
  a = arena_alloc (&arena, 4);
  p = arena_pointer (&arena, (uint64_t) a * ARENA_UNIT);
  /* Not by the C library: sanitizers make that do nothing. */
  ck_assert_int_eq (syscall (SYS_mlock, p, ARENA_UNIT), 0);
  memset (p, 'x', 4 * ARENA_UNIT);
  arena_free (&arena, a, 4);
  ck_assert_uint_eq (arena_release (&arena, 0), 0);
  ck_assert_uint_eq (arena_resident (&arena), 4 * ARENA_UNIT);
  ck_assert_uint_eq (arena_check (&arena, "arena", stderr), 0);
  syscall (SYS_munlock, p, ARENA_UNIT);
  ck_assert_uint_eq (arena_release (&arena, 0), 4 * ARENA_UNIT);
  teardown ();
}
END_TEST

/* Runs that come and go never overlap, and all is found again. */
START_TEST (test_random)
{
  enum { RUNS = 400 };
  static struct { uint32_t unit; unsigned units; } runs[RUNS];
  struct rng rng = { 42 };
  unsigned step, i, k;

  setup (0);
  memset (runs, 0, sizeof runs);
  for (step = 0; step < 20000; step++) {
    i = rng_below (&rng, RUNS);
    if (runs[i].unit) {
      unsigned char *p = arena_pointer (&arena, (uint64_t) runs[i].unit
                                                * ARENA_UNIT);

      for (k = 0; k < runs[i].units; k++)
        ck_assert_uint_eq (p[k * ARENA_UNIT], i % 251 + 1);
      arena_free (&arena, runs[i].unit, runs[i].units);
      runs[i].unit = 0;
    }
    else {
      runs[i].units = 1 + rng_below (&rng, ARENA_CHUNK_UNITS);
      runs[i].unit = arena_alloc (&arena, runs[i].units);
      ck_assert_uint_ne (runs[i].unit, 0);
      for (k = 0; k < runs[i].units; k++)
        memset (arena_pointer (&arena, (uint64_t) (runs[i].unit + k)
                                       * ARENA_UNIT),
                i % 251 + 1, 1);
    }
    if (step % 100 == 0) {
      ck_assert_uint_eq (arena_check (&arena, "arena", stderr), 0);
      arena_release (&arena, rng_below (&rng, 2) << 20);
    }
  }
  teardown ();
}
END_TEST

START_TEST (test_validator_sees_faults)
{
  uint32_t a;
  FILE *null = fopen ("/dev/null", "w");

  setup (0);
  a = arena_alloc (&arena, 2);
  arena.used++;
  ck_assert_uint_eq (arena_check (&arena, "arena", null), 1);
  arena.used--;
  arena.resident--;
  ck_assert_uint_eq (arena_check (&arena, "arena", null), 1);
  arena.resident++;
  arena.bin_map ^= 1 << 16;
  ck_assert_uint_ge (arena_check (&arena, "arena", null), 1);
  arena.bin_map ^= 1 << 16;
  fclose (null);
  arena_free (&arena, a, 2);
  teardown ();
}
END_TEST

UNIT_MAIN ("arena", test_runs_stay_in_a_chunk,
           test_memory_is_kept_then_released,
           test_spare_memory_is_used_first, test_part_of_a_run_can_be_freed,
           test_limit, test_address_space_ends, test_system_refuses,
           test_random, test_validator_sees_faults)
