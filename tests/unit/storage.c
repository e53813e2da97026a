/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pages.h"
#include "storage.h"

static bool
fails (struct storage *s, _Atomic unsigned *wanted, unsigned chance)
{
  struct rng rng = { atomic_fetch_add (&s->random, 1) };
  unsigned n = atomic_load (wanted);

  while (n && !atomic_compare_exchange_weak (wanted, &n, n - 1))
    ;
  if (n == 0 && (chance == 0 || rng_below (&rng, chance)))
    return false;
  errno = EIO;
  return true;
}

/* A byte changes on the way. */
static void
damage (struct storage *s, unsigned char *buf, size_t count)
{
  struct rng rng = { atomic_fetch_add (&s->random, 1) };

  if (s->read_chance && rng_below (&rng, s->read_chance) == 0)
    buf[rng_below (&rng, count)] ^= 1 << rng_below (&rng, 8);
}

/* Whether this is one that will be carried out at any time, or never. */
static bool
stays_unanswered (struct storage *s, unsigned *wanted, uint64_t offset)
{
  if (*wanted == 0)
    return false;
  --*wanted;
  s->late = offset;
  errno = EINPROGRESS;
  return true;
}

static int
storage_read (void *opaque, void *buf, size_t count, uint64_t offset)
{
  struct storage *s = opaque;

  atomic_fetch_add (&s->reads, 1);
  if (offset % 4096 || count % 4096 || offset + count > s->size
      || (uintptr_t) buf % 4096)
    abort ();
  if (s->on_read)
    s->on_read (count);
  if (s->delay)
    usleep (s->delay);
  if (fails (s, &s->fail_reads, s->read_chance))
    return -1;
  memcpy (buf, s->bytes + offset, count);
  damage (s, buf, count);
  return 0;
}

static int
storage_write (void *opaque, const void *buf, size_t count, uint64_t offset)
{
  struct storage *s = opaque;
  void (*on_write) (void) = s->on_write;

  s->on_write = NULL;
  if (on_write)
    on_write ();
  atomic_fetch_add (&s->writes, 1);
  if (offset % 4096 || count % 4096 || offset + count > s->size
      || (uintptr_t) buf % 4096)
    abort ();
  if (s->bad && offset >= s->bad && (s->bad_end == 0 || offset < s->bad_end)) {
    errno = EIO;
    return -1;
  }
  if (stays_unanswered (s, &s->late_writes, offset))
    return -1;
  if (fails (s, &s->fail_writes, s->chance)) {
    memset (s->bytes + offset, 0x55, count / 2);        /* a torn write */
    return -1;
  }
  memcpy (s->bytes + offset, buf, count);
  return 0;
}

/* What nobody needs any more must not be read: make it garbage. */
static int
storage_discard (void *opaque, uint64_t count, uint64_t offset)
{
  struct storage *s = opaque;

  atomic_fetch_add (&s->discards, 1);
  if (stays_unanswered (s, &s->late_discards, offset))
    return -1;
  memset (s->bytes + offset, 0xaa, count);
  return 0;
}

static void
storage_close (void *opaque)
{
  struct storage *s = opaque;

  s->closed++;
  if (s->on_close)
    s->on_close ();
}

static const struct zram_tier_ops ops = {
  .read = storage_read,
  .write = storage_write,
  .discard = storage_discard,
  .close = storage_close,
};

struct zram_tier
storage_init (struct storage *s, uint64_t size)
{
  memset (s, 0, sizeof *s);
  s->size = size;
  s->bytes = calloc (1, size);
  s->random = 1;
  if (s->bytes == NULL)
    abort ();
  return (struct zram_tier) { &ops, s, size };
}

void
storage_destroy (struct storage *s)
{
  free (s->bytes);
}
