/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The arithmetic of zsmalloc: size classes, and how long zspages are.
 * After the kernel's mm/zsmalloc.c (Documentation/mm/zsmalloc.rst), with
 * two differences.
 *
 * Classes are not merged, and zspages go up to 16 units, because our
 * objects carry 4 bytes each and not 8 and an indirection of 8 more.
 *
 * The length of a zspage is not a constant of the class.  A long one
 * wastes less in its tail, but the last one of a class is half empty on
 * average, and there are 240 classes: in a store of a few megabytes that
 * would be most of the memory.  So the length minimizes what the class
 * as it is now would waste in both ways:
 *
 *     objects * tail waste per object  +  1/32 of the zspage
 *
 * (1/32 and not a half, because compaction moves what stands in a
 * nearly empty last zspage to a shorter one when the class has come to
 * rest).
 */

#include <config.h>

#include <stdint.h>

#include "zsmalloc.h"

#define LARGE_STEP 128

unsigned
zs_class_index (size_t size)
{
  if (size <= ZS_SMALL_MAX)
    return (size - 1) / 16;
  return ZS_NR_SMALL + (size - ARENA_UNIT - 1) / LARGE_STEP;
}

size_t
zs_class_size (unsigned index)
{
  if (index < ZS_NR_SMALL)
    return (index + 1) * 16;
  return ARENA_UNIT + (index - ZS_NR_SMALL + 1) * LARGE_STEP;
}

unsigned
zs_capacity (size_t class_size, unsigned units)
{
  return (units * ARENA_UNIT - sizeof (struct zs_header))
    / (class_size + sizeof (uint32_t));
}

static uint64_t
expected_waste (size_t class_size, uint64_t objects, unsigned units)
{
  unsigned capacity = zs_capacity (class_size, units);
  uint64_t size = units * ARENA_UNIT;

  if (capacity == 0)
    return UINT64_MAX;
  return objects * (size - capacity * class_size) / capacity + size / 32;
}

unsigned
zs_best_units (size_t class_size, uint64_t objects)
{
  uint64_t waste, least = UINT64_MAX;
  unsigned units, best = ZS_UNITS_MAX;

  for (units = 1; units <= ZS_UNITS_MAX; units++) {
    waste = expected_waste (class_size, objects + 1, units);
    if (waste < least) {
      least = waste;
      best = units;
    }
  }
  return best;
}
