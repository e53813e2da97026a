/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The slot table, the leaves below it and the epoch that frees them. */

#include "unit.h"

#include "slots.h"

static struct limit limit;
static struct table table;

static void
setup (void)
{
  limit = (struct limit) { .max = 0 };
  ck_assert_int_eq (table_init (&table, &limit, TABLE_SIZE_MAX), 0);
}

static void
teardown (void)
{
  table_destroy (&table);
  ck_assert_uint_eq (limit_resident (&limit), 0);
}

static uint64_t
pages_used (void)
{
  return arena_used (&table.arena) / TABLE_PAGE_SIZE;
}

START_TEST (test_depth)
{
  static const struct { uint64_t nr_pages; unsigned depth; } cases[] = {
    { 1, 1 },
    { 512 * 1024, 1 },                          /* 2 GiB */
    { 512 * 1024 + 1, 2 },
    { UINT64_C (512) << 20, 2 },                /* 2 TiB */
    { UINT64_C (1) << 51, 5 },                  /* 8 EiB */
  };
  struct slots slots;
  unsigned i;

  setup ();
  for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    ck_assert_int_eq (slots_init (&slots, &table, cases[i].nr_pages), 0);
    ck_assert_uint_eq (slots.depth, cases[i].depth);
    ck_assert_uint_eq (pages_used (), 1);
    slots_destroy (&slots);
  }
  ck_assert_uint_eq (pages_used (), 0);
  teardown ();
}
END_TEST

START_TEST (test_find_and_make)
{
  uint64_t last = (UINT64_C (1) << 51) - 1;
  struct slots slots;
  slot *s;

  setup ();
  ck_assert_int_eq (slots_init (&slots, &table, last + 1), 0);
  ck_assert_ptr_null (slots_find (&slots, last));
  s = slots_make (&slots, last);
  ck_assert_ptr_nonnull (s);
  ck_assert_ptr_eq (slots_find (&slots, last), s);
  ck_assert_ptr_eq (slots_make (&slots, last), s);
  ck_assert_ptr_eq (slots_find (&slots, last - 511), s - 511);
  ck_assert_ptr_null (slots_find (&slots, last - 512));
  ck_assert_ptr_null (slots_find (&slots, 0));
  ck_assert_ptr_eq (table_slot (&table, table_owner (&table, s)), s);
  /* The root, four nodes and the leaf. */
  ck_assert_uint_eq (pages_used (), 6);
  ck_assert_uint_eq (slots_nr_table_pages (&slots), 6);
  slots_destroy (&slots);
  teardown ();
}
END_TEST

START_TEST (test_step)
{
  struct slots slots;
  uint64_t span;

  setup ();
  ck_assert_int_eq (slots_init (&slots, &table, UINT64_C (1) << 31), 0);
  ck_assert_ptr_null (slots_step (&slots, 5, &span));
  ck_assert_uint_eq (span, (UINT64_C (512) << 20) - 5);
  ck_assert_ptr_nonnull (slots_make (&slots, 512 * 3));
  ck_assert_ptr_null (slots_step (&slots, 5, &span));
  ck_assert_uint_eq (span, 512 - 5);
  ck_assert_ptr_nonnull (slots_step (&slots, 512 * 3 + 10, &span));
  ck_assert_uint_eq (span, 512 - 10);
  ck_assert_ptr_null (slots_step (&slots, 512 * 1024, &span));
  ck_assert_uint_eq (span, 512 * 1024);
  slots_destroy (&slots);
  teardown ();
}
END_TEST

START_TEST (test_retire)
{
  struct slots slots;
  epoch_token *token;
  slot *s, *again;

  setup ();
  ck_assert_int_eq (slots_init (&slots, &table, 100000), 0);
  s = slots_make (&slots, 1000);
  slot_exchange (s, slot_word_same (1));

  /* Not while something is in it, nor while a slot is locked. */
  slots_retire (&slots, 1000);
  ck_assert_ptr_eq (slots_find (&slots, 1000), s);
  slot_exchange (s, 0);
  slot_lock (s);
  slots_retire (&slots, 1000);
  ck_assert_ptr_eq (slots_find (&slots, 1000), s);
  slot_unlock (s, 0);
  ck_assert_uint_eq (slot_peek (s - 1), 0);

  /* While a request is inside, it may hold the pointer. */
  token = epoch_enter (&table.epoch);
  slots_retire (&slots, 1000);
  ck_assert_ptr_null (slots_find (&slots, 1000));
  ck_assert_int_eq (slot_state (slot_peek (s)), SLOT_DEAD);
  ck_assert (table_poll (&table));
  ck_assert (table_poll (&table));
  ck_assert_uint_eq (table_nr_waiting (&table), 1);
  ck_assert_int_eq (slot_state (slot_peek (s)), SLOT_DEAD);
  again = slots_make (&slots, 1000);
  ck_assert_ptr_ne (again, s);
  ck_assert_uint_eq (pages_used (), 3);
  epoch_leave (token);
  ck_assert (!table_poll (&table));
  ck_assert_uint_eq (table_nr_waiting (&table), 0);
  ck_assert_uint_eq (pages_used (), 2);

  /* Absent leaves and second tries do nothing. */
  slots_retire (&slots, 5000);
  slots_retire (&slots, 1000);
  slots_retire (&slots, 1000);
  while (table_poll (&table))
    ;
  ck_assert_uint_eq (pages_used (), 1);
  slots_destroy (&slots);
  teardown ();
}
END_TEST

/* When the last leaf goes, so do the nodes above it. */
START_TEST (test_retire_nodes)
{
  uint64_t far = UINT64_C (1) << 50, span;
  struct slots slots;
  slot *s;

  setup ();
  ck_assert_int_eq (slots_init (&slots, &table, UINT64_C (1) << 51), 0);
  s = slots_make (&slots, far);
  slots_make (&slots, far + 512);
  ck_assert_uint_eq (slots_nr_table_pages (&slots), 7);
  slots_retire (&slots, far);
  ck_assert_ptr_null (slots_find (&slots, far));
  ck_assert_int_eq (slot_state (slot_peek (s)), SLOT_DEAD);
  ck_assert_uint_eq (slots_nr_table_pages (&slots), 6);
  slots_retire (&slots, far + 512);
  ck_assert_uint_eq (slots_nr_table_pages (&slots), 1);
  ck_assert_ptr_null (slots_step (&slots, 0, &span));
  ck_assert_uint_eq (span, UINT64_C (1) << 49);
  ck_assert_uint_eq (table_nr_waiting (&table), 6);
  s = slots_make (&slots, far);
  ck_assert_ptr_eq (slots_find (&slots, far), s);
  ck_assert_uint_eq (slot_peek (s), 0);
  while (table_poll (&table))
    ;
  ck_assert_uint_eq (pages_used (), 6);
  slots_destroy (&slots);
  teardown ();
}
END_TEST

/* A request that enters after the grace period began does not delay it
 * for ever, and one that was inside before does.
 */
START_TEST (test_epoch)
{
  static struct epoch epoch;
  epoch_token *before, *after;
  uint64_t first, second;

  epoch_init (&epoch);
  ck_assert (epoch_passed (&epoch, epoch_ticket (&epoch)));

  before = epoch_enter (&epoch);
  first = epoch_ticket (&epoch);
  ck_assert (!epoch_passed (&epoch, first));
  after = epoch_enter (&epoch);
  ck_assert_ptr_ne (before, after);
  ck_assert (!epoch_passed (&epoch, first));

  /* One that is asked for while another is running comes after it. */
  second = epoch_ticket (&epoch);
  ck_assert_uint_gt (second, first);
  epoch_leave (before);
  ck_assert (!epoch_passed (&epoch, first));
  epoch_leave (after);
  ck_assert (epoch_passed (&epoch, first));
  ck_assert (epoch_passed (&epoch, second));
  ck_assert_uint_eq (epoch_ticket (&epoch), second + 1);
  epoch_destroy (&epoch);
}
END_TEST

START_TEST (test_limit)
{
  struct slots slots;

  setup ();
  limit.max = 2 * TABLE_PAGE_SIZE + 64;
  ck_assert_int_eq (slots_init (&slots, &table, UINT64_C (1) << 40), 0);
  ck_assert_errno (slots_make (&slots, 77) == NULL, ENOSPC);
  ck_assert_ptr_null (slots_find (&slots, 77));
  limit.max = 0;
  ck_assert_ptr_nonnull (slots_make (&slots, 77));
  slots_destroy (&slots);
  teardown ();
}
END_TEST

UNIT_MAIN ("slots", test_depth, test_find_and_make, test_step, test_retire,
           test_retire_nodes, test_epoch, test_limit)
