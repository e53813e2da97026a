/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

#include "unit.h"

#include <pthread.h>
#include <sched.h>
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

/* Memory that is locked goes back like any other, and stays lockable. */
START_TEST (test_locked_memory_is_returned)
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
  ck_assert_uint_eq (arena_release (&arena, 0), 4 * ARENA_UNIT);
  ck_assert_uint_eq (arena_resident (&arena), 0);
  ck_assert_uint_eq (*(char *) p, 0);
  syscall (SYS_munlock, p, ARENA_UNIT);
  teardown ();
}
END_TEST

/* ---- The reserve --------------------------------------------------- */

#define CHUNK (ARENA_CHUNK_UNITS * ARENA_UNIT)

/* Counts how often the keeper was called. */
static void
count_call (void *opaque)
{
  ++*(unsigned *) opaque;
}

/* The pages of a run that the system has in memory. */
static unsigned
pages_in_core (uint32_t unit, unsigned units)
{
  unsigned char map[ARENA_CHUNK_UNITS];
  unsigned i, n = 0;

  ck_assert_int_eq (mincore (arena_pointer (&arena, (uint64_t) unit
                                                    * ARENA_UNIT),
                             units * ARENA_UNIT, map), 0);
  for (i = 0; i < units; i++)
    n += map[i] & 1;
  return n;
}

static void
check_reserve (uint64_t target, uint64_t filled, uint64_t low)
{
  struct arena_reserve_stats stats;

  arena_reserve_stats (&arena, &stats);
  ck_assert_uint_eq (stats.target, target);
  ck_assert_uint_eq (stats.filled, filled);
  ck_assert_uint_eq (stats.low, low);
  ck_assert_uint_eq (arena_check (&arena, "arena", stderr), 0);
}

/* What is handed out is in memory already, and only the keeper makes it
 * so; it is called in time.
 */
START_TEST (test_reserve_is_taken_from)
{
  unsigned calls = 0, i;
  uint32_t a;

  setup (0);
  arena_set_reserve (&arena, 16 * CHUNK, count_call, &calls);
  for (i = 0; i < 16; i++)
    ck_assert_int_eq (arena_refill (&arena), 1);
  ck_assert_int_eq (arena_refill (&arena), 0);
  check_reserve (16 * CHUNK, 16 * CHUNK, 16 * CHUNK);
  ck_assert_uint_eq (arena_resident (&arena), 16 * CHUNK);
  ck_assert_uint_eq (limit_resident (&limit), 16 * (CHUNK + arena.record_size));

  a = arena_alloc (&arena, 3);
  ck_assert_uint_eq (pages_in_core (a, 3), 3);
  ck_assert_uint_eq (arena_resident (&arena), 16 * CHUNK);
  check_reserve (16 * CHUNK, 15 * CHUNK, 15 * CHUNK);
  a = arena_alloc (&arena, 13);
  ck_assert_uint_eq (pages_in_core (a, 13), 13);
  check_reserve (16 * CHUNK, 15 * CHUNK, 15 * CHUNK);
  a = arena_alloc (&arena, 16);
  ck_assert_uint_eq (calls, 0);
  /* An eighth of it and a chunk more are gone. */
  a = arena_alloc (&arena, 1);
  ck_assert_uint_eq (calls, 1);
  for (i = 0; i < 3; i++)
    ck_assert_int_eq (arena_refill (&arena), 1);
  ck_assert_int_eq (arena_refill (&arena), 0);
  check_reserve (16 * CHUNK, 16 * CHUNK, 13 * CHUNK);
  teardown ();
}
END_TEST

/* Units that were returned to the system are not handed out until their
 * chunk was filled again; the reserve itself is not returned.
 */
START_TEST (test_reserve_is_not_released)
{
  unsigned calls = 0;
  uint32_t a, b;

  setup (0);
  arena_set_reserve (&arena, 2 * CHUNK, count_call, &calls);
  while (arena_refill (&arena) == 1)
    ;
  a = arena_alloc (&arena, 8);
  b = arena_alloc (&arena, 2);
  while (arena_refill (&arena) == 1)
    ;
  arena_free (&arena, a, 8);
  /* 14 units of a chunk that is in use, and not the two chunks. */
  ck_assert_uint_eq (arena_release (&arena, 0), 14 * ARENA_UNIT);
  ck_assert_uint_eq (pages_in_core (a, 8), 0);
  check_reserve (2 * CHUNK, 2 * CHUNK, 1 * CHUNK);
  ck_assert_uint_ne (arena_alloc (&arena, 1) / ARENA_CHUNK_UNITS,
                     a / ARENA_CHUNK_UNITS);

  /* Once empty it is filled again, before any new one. */
  arena_free (&arena, b, 2);
  ck_assert_uint_eq (arena_release (&arena, 0), 17 * ARENA_UNIT);
  ck_assert_uint_ne (arena_alloc (&arena, 16), 0);
  ck_assert_int_eq (arena_refill (&arena), 1);
  ck_assert_uint_eq (pages_in_core (a, 8), 8);
  ck_assert_uint_eq (arena_end (&arena), 4 * ARENA_CHUNK_UNITS);
  check_reserve (2 * CHUNK, 1 * CHUNK, 0);

  /* Without a reserve all of it may go. */
  arena_set_reserve (&arena, 0, NULL, NULL);
  ck_assert_uint_eq (arena_release (&arena, 0), 1 * CHUNK);
  ck_assert_uint_ne (arena_alloc (&arena, 16), 0);
  teardown ();
}
END_TEST

static void *
alloc_one (void *opaque)
{
  *(uint32_t *) opaque = arena_alloc (&arena, 1);
  return NULL;
}

static uint32_t
nr_waiting (void)
{
  uint32_t n;

  pthread_mutex_lock (&arena.lock);
  n = arena.reserve.waiting;
  pthread_mutex_unlock (&arena.lock);
  return n;
}

/* Who waits for the keeper takes what somebody else frees meanwhile. */
START_TEST (test_reserve_is_freed_while_waiting)
{
  unsigned calls = 0;
  uint32_t a, got = 0;
  pthread_t thread;

  setup (0);
  arena_set_reserve (&arena, CHUNK, count_call, &calls);
  ck_assert_int_eq (arena_refill (&arena), 1);
  a = arena_alloc (&arena, 16);
  ck_assert_int_eq (pthread_create (&thread, NULL, alloc_one, &got), 0);
  while (nr_waiting () == 0)
    sched_yield ();
  arena_free (&arena, a + 5, 1);
  pthread_join (thread, NULL);
  ck_assert_uint_eq (got, a + 5);
  ck_assert_uint_eq (arena.reserve.waits, 1);
  teardown ();
}
END_TEST

START_TEST (test_reserve_at_the_limit)
{
  unsigned calls = 0;

  setup (5 * CHUNK / 2);
  arena_set_reserve (&arena, 4 * CHUNK, count_call, &calls);
  ck_assert_int_eq (arena_refill (&arena), 1);
  ck_assert_int_eq (arena_refill (&arena), 1);
  ck_assert_errno (arena_refill (&arena) == -1, ENOSPC);
  ck_assert (!arena_is_short (&arena));
  ck_assert_uint_le (limit_resident (&limit), limit.max);
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
           test_limit, test_address_space_ends,
           test_locked_memory_is_returned, test_reserve_is_taken_from,
           test_reserve_is_not_released,
           test_reserve_is_freed_while_waiting, test_reserve_at_the_limit,
           test_random, test_validator_sees_faults)
