/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Which pages leave RAM first when memory is short: huge ones that are idle,
 * then others that are, and what was just used the last.
 */

#include "unit.h"

#include "memory.h"
#include "pages.h"
#include "tiered.h"

#define OLD 1600
/* How often what is used is: mfu does not take one use for much. */
#define USES 5

#define IDLE_HUGE (OLD / 4 - OLD / 20)

/* One page of four is huge, and no cluster has only such. */
static bool
is_huge (unsigned i)
{
  return i % 4 == 1;
}

/* Some of the huge pages, and some of the others, are used again. */
static bool
is_used (unsigned i)
{
  return i % 20 == 1 || i % 20 == 2;
}

static void
fill_page (unsigned i)
{
  struct rng rng = { i + 1 };

  pages_fill (&rng, is_huge (i) ? PAGES_RANDOM : PAGES_TEXT, page, PAGE);
}

static void
put_page (unsigned i)
{
  fill_page (i);
  ck_assert_int_eq (zram_write (store, page, PAGE, (uint64_t) i * PAGE), 0);
}

static void
get_page (unsigned i)
{
  fill_page (i);
  ck_assert_int_eq (zram_read (store, back, PAGE, (uint64_t) i * PAGE), 0);
  ck_assert_int_eq (memcmp (back, page, PAGE), 0);
}

static void
pass_time (unsigned times)
{
  pthread_mutex_lock (&memory->lock);
  while (times)
    times -= aging_hurry (store, false);
  pthread_mutex_unlock (&memory->lock);
}

/* Pages that do compress are written until so many others have left.  Returns
 * the page after them.
 */
static unsigned
press (unsigned i, uint64_t gone)
{
  for (; stats ().bd_count < gone; i += is_huge (i + 1) ? 2 : 1)
    put_page (i);
  return i;
}

static unsigned
count_on_tier (unsigned first, unsigned end, bool huge, bool used)
{
  unsigned i, n = 0;

  for (i = first; i < end; i++)
    n += is_on_tier (i) && is_huge (i) == huge && is_used (i) == used;
  return n;
}

static void
check_order (void)
{
  unsigned i, end;

  setup (4 * MIB);              /* a segment takes 30 huge pages */
  for (i = 0; i < OLD; i++)
    put_page (i);
  pass_time (AGING_IDLE);
  for (i = 0; i < OLD * USES; i++)
    if (is_used (i % OLD))
      get_page (i % OLD);
  memory->limit.max = limit_resident (&memory->limit);

  end = press (OLD + 2, 100);
  ck_assert_uint_ge (count_on_tier (0, OLD, true, false), 100);
  ck_assert_uint_eq (stats ().bd_count, count_on_tier (0, OLD, true, false));
  end = press (end, IDLE_HUGE + 100);
  ck_assert_uint_eq (count_on_tier (0, OLD, true, false), IDLE_HUGE);
  ck_assert_uint_eq (stats ().bd_count - IDLE_HUGE,
                     count_on_tier (0, OLD, false, false));
  for (i = 0; i < OLD; i++)
    get_page (i);
  ck_assert_uint_gt (end, OLD);
  teardown ();
}

START_TEST (test_lru)
{
  policy = ZRAM_POLICY_LRU;
  check_order ();
}
END_TEST

START_TEST (test_mfu)
{
  policy = ZRAM_POLICY_MFU;
  check_order ();
}
END_TEST

START_TEST (test_smq)
{
  policy = ZRAM_POLICY_SMQ;
  check_order ();
}
END_TEST

UNIT_MAIN ("order", test_lru, test_mfu, test_smq)
