/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The slot: one 64-bit word for one page of a store, which says where
 * the page's data is and carries its lock.
 *
 *     bit  0      lock      set: only the owner of the lock writes the word
 *     bit  1      waiters   somebody sleeps until the lock is free
 *     bits 2..4   state
 *     bit  5      settled   in vain was it tried to group the page
 *     bits 6..9   age       since the page was read or written (aging.h)
 *     bits 10..63 what the state needs:
 *
 *       EMPTY     nothing (an EMPTY word is 0): the page is a hole
 *       RAM       codec 10..15, size - 1 16..27, offset / 16 28..63:
 *                 the page's object in the arena
 *       GROUP     codec 10..15, place 16..27, offset / 16 28..63: the
 *                 page is in an object with others (group.h)
 *       TIER      codec 10..15, tier 16..18, segment 19..40, offset / 32
 *                 41..55, length 56..63: the page's object is in a record
 *                 on a tier (tier.h)
 *       TIER_GROUP  the same: the page is in a group there
 *       CLEAN     as RAM; and a copy of the page is on a tier.  The eight
 *                 bytes after the object are the word that names the copy
 *       SAME      pattern 32..63: the page repeats this 32-bit value; or
 *                 lost 10: nobody knows it any more
 *       DEAD      a number 32..62: the leaf was taken out of the
 *                 directory, look the page up again.  Bits 31 and 63
 *                 are set, so that the word is also two dead entries of
 *                 a directory's node (slots.h)
 *
 * EMPTY, SAME and DEAD have no age, and only RAM can be settled.
 *
 * A word changes from one unlocked value to another in one atomic step
 * (slot_exchange), or under its lock (slot_lock, slot_unlock).  A writer
 * that brings a complete object needs only the former; a reader holds
 * the lock while it decompresses, so that nobody frees or moves the
 * object meanwhile.
 *
 * Locks: the slot comes before any lock of the pool.  Code that runs in
 * the background, and holds others, only ever tries it.
 *
 * A waiter spins briefly, sets the waiters bit and sleeps on a futex (on
 * the word's low half, where the lock is).  Whoever unlocks a word that
 * has the bit wakes them all: more than one waiter for one page is rare.
 */

#ifndef SLOT_H
#define SLOT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef _Atomic uint64_t slot;

enum slot_state {
  SLOT_EMPTY,
  SLOT_RAM,
  SLOT_SAME,
  SLOT_DEAD,
  SLOT_GROUP,
  SLOT_TIER,
  SLOT_TIER_GROUP,
  SLOT_CLEAN,
};

#define SLOT_LOCK    UINT64_C (1)
#define SLOT_WAITERS UINT64_C (2)
#define SLOT_SETTLED UINT64_C (32)

#define SLOT_AGE_SHIFT 6
#define SLOT_AGE_MAX 15

#define SLOT_CODECS 64          /* how many codecs a word can name */

/* Objects lie at multiples of this in the arena... */
#define SLOT_OFFSET_UNIT 16
/* ...so this much address space can be named. */
#define SLOT_OFFSET_MAX ((UINT64_C (1) << 36) * SLOT_OFFSET_UNIT)

/* Records lie at multiples of this in a segment. */
#define SLOT_TIER_UNIT 32

/* ---- The word ------------------------------------------------------ */

static inline enum slot_state
slot_state (uint64_t word)
{
  return word >> 2 & 7;
}

/* SIZE is 1 to 4096 bytes, OFFSET a multiple of SLOT_OFFSET_UNIT. */
static inline uint64_t
slot_word_ram (unsigned codec, unsigned size, uint64_t offset)
{
  return (uint64_t) SLOT_RAM << 2 | (uint64_t) codec << 10
    | (uint64_t) (size - 1) << 16 | offset / SLOT_OFFSET_UNIT << 28;
}

/* The same word in another state. */
static inline uint64_t
slot_word_state (uint64_t word, enum slot_state state)
{
  return (word & ~UINT64_C (0x1c)) | (uint64_t) state << 2;
}

static inline unsigned
slot_codec (uint64_t word)
{
  return word >> 10 & (SLOT_CODECS - 1);
}

static inline unsigned
slot_size (uint64_t word)
{
  return (word >> 16 & 4095) + 1;
}

static inline uint64_t
slot_offset (uint64_t word)
{
  return (word >> 28) * SLOT_OFFSET_UNIT;
}

/* PLACE is below GROUP_PAGES_MAX. */
static inline uint64_t
slot_word_group (unsigned codec, unsigned place, uint64_t offset)
{
  return (uint64_t) SLOT_GROUP << 2 | (uint64_t) codec << 10
    | (uint64_t) place << 16 | offset / SLOT_OFFSET_UNIT << 28;
}

static inline unsigned
slot_place (uint64_t word)
{
  return word >> 16 & 4095;
}

/* Where a record is, see tier.h.  OFFSET is below 1 MiB, and a multiple
 * of SLOT_TIER_UNIT; LENGTH is below 256.
 */
static inline uint64_t
slot_word_tier (enum slot_state state, unsigned codec, unsigned tier,
                uint32_t segment, unsigned offset, unsigned length)
{
  return (uint64_t) state << 2 | (uint64_t) codec << 10
    | (uint64_t) tier << 16 | (uint64_t) segment << 19
    | (uint64_t) (offset / SLOT_TIER_UNIT) << 41 | (uint64_t) length << 56;
}

static inline unsigned
slot_tier (uint64_t word)
{
  return word >> 16 & 7;
}

static inline uint32_t
slot_segment (uint64_t word)
{
  return word >> 19 & 0x3fffff;
}

static inline unsigned
slot_tier_offset (uint64_t word)
{
  return (word >> 41 & 0x7fff) * SLOT_TIER_UNIT;
}

static inline unsigned
slot_tier_length (uint64_t word)
{
  return word >> 56;
}

static inline unsigned
slot_age (uint64_t word)
{
  return word >> SLOT_AGE_SHIFT & SLOT_AGE_MAX;
}

/* The same, as old as that. */
static inline uint64_t
slot_word_aged (uint64_t word, unsigned age)
{
  return (word & ~((uint64_t) SLOT_AGE_MAX << SLOT_AGE_SHIFT))
    | (uint64_t) age << SLOT_AGE_SHIFT;
}

/* Whether there is an object of this page alone that the word names. */
static inline bool
slot_is_alone (uint64_t word)
{
  return slot_state (word) == SLOT_RAM || slot_state (word) == SLOT_CLEAN;
}

/* Whether there is an object that the word names. */
static inline bool
slot_has_object (uint64_t word)
{
  return slot_is_alone (word) || slot_state (word) == SLOT_GROUP;
}

/* Whether what the word names is on a tier. */
static inline bool
slot_on_tier (uint64_t word)
{
  return slot_state (word) == SLOT_TIER
    || slot_state (word) == SLOT_TIER_GROUP;
}

/* Whether the word has an age. */
static inline bool
slot_has_age (uint64_t word)
{
  return slot_has_object (word) || slot_on_tier (word);
}

/* The same object at another place. */
static inline uint64_t
slot_word_moved (uint64_t word, uint64_t offset)
{
  return (word & ((UINT64_C (1) << 28) - 1))
    | offset / SLOT_OFFSET_UNIT << 28;
}

static inline uint64_t
slot_word_same (uint32_t pattern)
{
  return (uint64_t) SLOT_SAME << 2 | (uint64_t) pattern << 32;
}

static inline uint32_t
slot_pattern (uint64_t word)
{
  return word >> 32;
}

/* A page that was on a tier and cannot be read.  The pattern, which means
 * nothing, is not zero: such a page is not empty.
 */
static inline uint64_t
slot_word_lost (void)
{
  return slot_word_same (UINT32_MAX) | UINT64_C (1) << 10;
}

static inline bool
slot_is_lost (uint64_t word)
{
  return word == slot_word_lost ();
}

static inline uint64_t
slot_word_dead (uint32_t number)
{
  return (uint64_t) SLOT_DEAD << 2 | UINT64_C (1) << 31
    | (uint64_t) number << 32 | UINT64_C (1) << 63;
}

static inline uint32_t
slot_number (uint64_t word)
{
  return word >> 32 & INT32_MAX;
}

/* ---- The slot ------------------------------------------------------ */

/* What the slot says now, without the lock's bits. */
static inline uint64_t
slot_peek (const slot *s)
{
  return atomic_load_explicit (s, memory_order_acquire)
    & ~(SLOT_LOCK | SLOT_WAITERS);
}

/* The slow halves of the two functions that follow. */
void slot_wait (slot *s, uint64_t word);
void slot_wake (slot *s);

/* Lock the slot and return its word (without the lock's bits).  A DEAD
 * word is returned and not locked.
 */
static inline uint64_t
slot_lock (slot *s)
{
  uint64_t word = atomic_load_explicit (s, memory_order_relaxed);

  for (;;) {
    if (word & SLOT_LOCK) {
      slot_wait (s, word);
      word = atomic_load_explicit (s, memory_order_relaxed);
    }
    else if (slot_state (word) == SLOT_DEAD)
      return word;
    else if (atomic_compare_exchange_weak_explicit (s, &word,
                                                    word | SLOT_LOCK,
                                                    memory_order_acquire,
                                                    memory_order_relaxed))
      return word;
  }
}

/* Lock the slot if it is free and says WORD. */
static inline bool
slot_trylock (slot *s, uint64_t word)
{
  return atomic_compare_exchange_strong_explicit (s, &word, word | SLOT_LOCK,
                                                  memory_order_acquire,
                                                  memory_order_relaxed);
}

/* Make the slot say NEW if it is free and says WORD. */
static inline bool
slot_try_change (slot *s, uint64_t word, uint64_t new)
{
  return atomic_compare_exchange_strong_explicit (s, &word, new,
                                                  memory_order_acq_rel,
                                                  memory_order_relaxed);
}

/* Unlock the slot; it says WORD from now on. */
static inline void
slot_unlock (slot *s, uint64_t word)
{
  uint64_t old = atomic_exchange_explicit (s, word, memory_order_release);

  if (old & SLOT_WAITERS)
    slot_wake (s);
}

/* Wait until the slot is free, make it say WORD and return what it said.
 * A DEAD word is returned and left.
 */
static inline uint64_t
slot_exchange (slot *s, uint64_t word)
{
  uint64_t old = atomic_load_explicit (s, memory_order_relaxed);

  for (;;) {
    if (old & SLOT_LOCK) {
      slot_wait (s, old);
      old = atomic_load_explicit (s, memory_order_relaxed);
    }
    else if (slot_state (old) == SLOT_DEAD)
      return old;
    else if (atomic_compare_exchange_weak_explicit (s, &old, word,
                                                    memory_order_acq_rel,
                                                    memory_order_relaxed))
      return old;
  }
}

#endif /* SLOT_H */
