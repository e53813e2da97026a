/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

#include "unit.h"

#include <pthread.h>
#include <unistd.h>

#include "slot.h"

START_TEST (test_words)
{
  uint64_t word, top = SLOT_OFFSET_MAX - SLOT_OFFSET_UNIT;

  ck_assert_int_eq (slot_state (0), SLOT_EMPTY);

  word = slot_word_ram (63, 4096, top);
  ck_assert_int_eq (slot_state (word), SLOT_RAM);
  ck_assert_uint_eq (slot_codec (word), 63);
  ck_assert_uint_eq (slot_size (word), 4096);
  ck_assert_uint_eq (slot_offset (word), top);
  ck_assert_uint_eq (word & (SLOT_LOCK | SLOT_WAITERS), 0);

  word = slot_word_moved (slot_word_ram (5, 1, 16), top);
  ck_assert_uint_eq (word, slot_word_ram (5, 1, top));

  word = slot_word_same (UINT32_MAX);
  ck_assert_int_eq (slot_state (word), SLOT_SAME);
  ck_assert_uint_eq (slot_pattern (word), UINT32_MAX);
  ck_assert_uint_ne (slot_word_same (0), 0);
  ck_assert (!slot_is_lost (word));
  ck_assert (slot_is_lost (slot_word_lost ()));
  ck_assert_int_eq (slot_state (slot_word_lost ()), SLOT_SAME);
  ck_assert_uint_ne (slot_pattern (slot_word_lost ()), 0);

  word = slot_word_dead (12345);
  ck_assert_int_eq (slot_state (word), SLOT_DEAD);
  ck_assert_uint_eq (slot_number (word), 12345);
}
END_TEST

START_TEST (test_lock)
{
  uint64_t word = slot_word_same (7), other = slot_word_same (8);
  slot s = word;

  ck_assert_uint_eq (slot_lock (&s), word);
  ck_assert_uint_eq (slot_peek (&s), word);
  ck_assert (!slot_trylock (&s, word));
  slot_unlock (&s, other);
  ck_assert (!slot_trylock (&s, word));
  ck_assert (slot_trylock (&s, other));
  slot_unlock (&s, other);
  ck_assert_uint_eq (slot_exchange (&s, word), other);
  ck_assert_uint_eq (s, word);
}
END_TEST

/* A dead slot is neither locked nor replaced. */
START_TEST (test_dead)
{
  uint64_t dead = slot_word_dead (3);
  slot s = dead;

  ck_assert_uint_eq (slot_lock (&s), dead);
  ck_assert_uint_eq (s, dead);
  ck_assert_uint_eq (slot_exchange (&s, slot_word_same (1)), dead);
  ck_assert_uint_eq (s, dead);
}
END_TEST

static slot contended;
static unsigned long guarded[2];

#define ROUNDS 20000

/* The lock protects two plain counters, which are always equal. */
static void *
contend (void *opaque)
{
  unsigned *faults = opaque, i;

  for (i = 0; i < ROUNDS; i++) {
    uint64_t word = slot_lock (&contended);

    *faults += guarded[0] != guarded[1];
    guarded[0]++;
    if (i % 4096 == 0)
      usleep (2000);            /* so that others go to sleep */
    guarded[1]++;
    slot_unlock (&contended, slot_word_same (slot_pattern (word) + 1));
  }
  return NULL;
}

START_TEST (test_contention)
{
  pthread_t threads[4];
  unsigned faults[4] = { 0 }, i;

  contended = slot_word_same (0);
  for (i = 0; i < 4; i++)
    ck_assert_int_eq (pthread_create (&threads[i], NULL, contend,
                                      &faults[i]), 0);
  for (i = 0; i < 4; i++)
    pthread_join (threads[i], NULL);
  for (i = 0; i < 4; i++)
    ck_assert_uint_eq (faults[i], 0);
  ck_assert_uint_eq (guarded[1], 4 * ROUNDS);
  ck_assert_uint_eq (slot_pattern (contended), 4 * ROUNDS);
  ck_assert_uint_eq (contended & (SLOT_LOCK | SLOT_WAITERS), 0);
}
END_TEST

UNIT_MAIN ("slot", test_words, test_lock, test_dead, test_contention)
