/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

#include "unit.h"

#include "zsmalloc.h"

START_TEST (test_classes)
{
  size_t size;
  unsigned index, last = 0;

  ck_assert_uint_eq (zs_class_size (0), 16);
  ck_assert_uint_eq (zs_class_index (3840), 239);
  ck_assert_uint_eq (zs_class_size (239), 3840);
  ck_assert_uint_eq (zs_class_size (240), 4224);
  ck_assert_uint_eq (zs_class_size (ZS_NR_CLASSES - 1), 16384);
  for (size = 1; size <= POOL_OBJECT_MAX; size++) {
    if (size > ZS_SMALL_MAX && size <= ARENA_UNIT)
      continue;
    index = zs_class_index (size);
    ck_assert (index == last || index == last + 1);
    ck_assert_uint_lt (index, ZS_NR_CLASSES);
    ck_assert_uint_ge (zs_class_size (index), size);
    if (index > 0 && index != 240)
      ck_assert_uint_lt (zs_class_size (index - 1), size);
    last = index;
  }
}
END_TEST

/* A zspage holds what it says: objects, 4 bytes each, and the header. */
START_TEST (test_capacity)
{
  unsigned index, units;

  for (index = 0; index < ZS_NR_CLASSES; index++) {
    for (units = 1; units <= ZS_UNITS_MAX; units++) {
      size_t size = zs_class_size (index);
      size_t n = zs_capacity (size, units);

      ck_assert_uint_le (n * (size + 4) + sizeof (struct zs_header),
                         units * ARENA_UNIT);
      ck_assert_uint_gt ((n + 1) * (size + 4) + sizeof (struct zs_header),
                         units * ARENA_UNIT);
      ck_assert_uint_lt (n, ZS_END);
    }
  }
  ck_assert_uint_eq (sizeof (struct zs_header), 16);
  /* By hand: (4096 - 16) / 1020 and (65536 - 16) / 3844.  The class after
   * the last would hold 16, no more than whole pages: 65520 / 3860.
   */
  ck_assert_uint_eq (zs_capacity (1016, 1), 4);
  ck_assert_uint_eq (zs_capacity (3840, 16), 17);
  ck_assert_uint_eq (zs_capacity (3856, 16), 16);
}
END_TEST

/* What objects cost in a class that is large: at most 7.5 % above their
 * size for every size from 512 bytes to a page, and never more than one.
 */
START_TEST (test_large_class)
{
  size_t size;

  for (size = 512; size <= ARENA_UNIT; size++) {
    size_t class_size = zs_class_size (zs_class_index (size));
    unsigned units = zs_best_units (class_size, 1000000);
    double cost = (double) units * ARENA_UNIT
      / zs_capacity (class_size, units);

    if (size > ZS_SMALL_MAX)
      cost = ARENA_UNIT;
    ck_assert_msg (cost < ARENA_UNIT + 1, "size %zu costs %f", size, cost);
    ck_assert_msg (cost <= size * 1.075, "size %zu costs %f", size, cost);
  }
}
END_TEST

/* In a class that is small, a zspage is no longer than it must be. */
START_TEST (test_small_class)
{
  unsigned index;

  for (index = 0; index < ZS_NR_CLASSES; index++) {
    size_t size = zs_class_size (index);
    unsigned units = zs_best_units (size, 0);

    ck_assert_uint_ge (zs_capacity (size, units), 1);
    if (size <= 1000)
      ck_assert_uint_eq (units, 1);
    ck_assert_uint_le (zs_best_units (size, 10), ZS_UNITS_MAX);
  }
}
END_TEST

UNIT_MAIN ("geometry", test_classes, test_capacity, test_large_class,
           test_small_class)
