/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Waiting for a slot.  See slot.h for the protocol.
 *
 * A lock is usually held for one decompression, some microseconds, so a
 * waiter first spins about as long as going to sleep would take.  The
 * holder may have lost its processor, though, and then only sleeping
 * lets it go on.
 *
 * The futex is the half of the word with the lock in it.  That half may
 * look the same after the word was unlocked and locked again; then the
 * waiters bit is set again too, by somebody else, and whoever holds the
 * lock now will wake us as well.
 */

#include <config.h>

#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <linux/futex.h>
#include <sys/syscall.h>

#include "slot.h"

#define SPINS 100

static uint32_t *
futex_of (slot *s)
{
  uint32_t *half = (uint32_t *) s;

#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  half++;
#endif
  return half;
}

static void
cpu_relax (void)
{
#if defined (__x86_64__)
  __builtin_ia32_pause ();
#elif defined (__aarch64__)
  __asm__ volatile ("yield");
#endif
}

/* Return when the slot, which was seen locked as WORD, may be free. */
void
slot_wait (slot *s, uint64_t word)
{
  unsigned i;

  for (i = 0; i < SPINS; i++) {
    cpu_relax ();
    word = atomic_load_explicit (s, memory_order_relaxed);
    if (!(word & SLOT_LOCK))
      return;
  }

  if (!(word & SLOT_WAITERS)
      && !atomic_compare_exchange_strong_explicit (s, &word,
                                                   word | SLOT_WAITERS,
                                                   memory_order_relaxed,
                                                   memory_order_relaxed))
    return;
  syscall (SYS_futex, futex_of (s), FUTEX_WAIT_PRIVATE,
           (uint32_t) (word | SLOT_WAITERS), NULL, NULL, 0);
}

void
slot_wake (slot *s)
{
  syscall (SYS_futex, futex_of (s), FUTEX_WAKE_PRIVATE, INT_MAX,
           NULL, NULL, 0);
}
