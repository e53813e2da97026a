/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* A tier on an NBD server, by libnbd.
 *
 * A connection serves one request at a time here, so there are several, if
 * the server allows that; they are lent like contexts (lend.c).
 *
 * A connection that breaks is made again, a few times.  What the server
 * then has need not be what we wrote, as it may have been restarted and be
 * empty: the checksums of records tell (tier.c).  One that has become
 * smaller is refused.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libnbd.h>

#include "lend.h"
#include "tier-mark.h"
#include "tier.h"
#include "zram.h"

#define NR_CONNECTIONS 4

/* How often to try a request, and how long to wait before trying again. */
#define TRIES 4
#define PAUSE_NS 250000000

struct remote {
  char *uri;
  uint64_t size;
  bool can_trim;
  unsigned nr;
  struct lend lent;
  struct nbd_handle *handles[NR_CONNECTIONS];   /* NULL: not connected */
};

enum operation { READ, WRITE, DISCARD };

/* ---- Connections --------------------------------------------------- */

static int
nbd_errno (void)
{
  return nbd_get_errno () ? : EIO;
}

static struct nbd_handle *
connect_to (const char *uri)
{
  struct nbd_handle *nbd = nbd_create ();

  if (nbd && nbd_connect_uri (nbd, uri) == 0)
    return nbd;
  errno = nbd_errno ();
  if (nbd)
    nbd_close (nbd);
  return NULL;
}

/* The connection of a number, made if there is none. */
static struct nbd_handle *
connection (struct remote *r, unsigned n)
{
  struct nbd_handle *nbd = r->handles[n];

  if (nbd)
    return nbd;
  nbd = connect_to (r->uri);
  if (nbd && (uint64_t) nbd_get_size (nbd) < r->size) {
    nbd_close (nbd);
    nbd = NULL;
    errno = EIO;
  }
  r->handles[n] = nbd;
  return nbd;
}

/* ---- Requests ------------------------------------------------------ */

static int
request (struct nbd_handle *nbd, enum operation operation, void *buf,
         uint64_t count, uint64_t offset)
{
  switch (operation) {
  case READ:
    return nbd_pread (nbd, buf, count, offset, 0);
  case WRITE:
    return nbd_pwrite (nbd, buf, count, offset, 0);
  case DISCARD:
    break;
  }
  return nbd_trim (nbd, count, offset, 0);
}

/* One try.  After an error the connection is made anew: whether it is
 * still good is not worth asking.
 */
static int
try_request (struct remote *r, unsigned n, enum operation operation,
             void *buf, uint64_t count, uint64_t offset)
{
  struct nbd_handle *nbd = connection (r, n);

  if (nbd == NULL)
    return -1;
  if (request (nbd, operation, buf, count, offset) == 0)
    return 0;
  errno = nbd_errno ();
  nbd_close (nbd);
  r->handles[n] = NULL;
  return -1;
}

static int
do_request (struct remote *r, enum operation operation, void *buf,
            uint64_t count, uint64_t offset)
{
  const struct timespec pause = { .tv_nsec = PAUSE_NS };
  unsigned n = lend_take (&r->lent), tries;
  int result, err;

  for (tries = 1; ; tries++) {
    result = try_request (r, n, operation, buf, count, offset);
    err = errno;
    /* A full server stays full for now. */
    if (result == 0 || tries == TRIES || err == ENOSPC)
      break;
    nanosleep (&pause, NULL);
  }
  lend_return (&r->lent, n);
  errno = err;
  return result;
}

static int
remote_read (void *opaque, void *buf, size_t count, uint64_t offset)
{
  return do_request (opaque, READ, buf, count, offset);
}

static int
remote_write (void *opaque, const void *buf, size_t count, uint64_t offset)
{
  return do_request (opaque, WRITE, (void *) buf, count, offset);
}

/* It is only a favour, and there may be thousands: not worth to connect or
 * to wait for.
 */
static void
remote_discard (void *opaque, uint64_t count, uint64_t offset)
{
  struct remote *r = opaque;
  unsigned n;

  if (!r->can_trim)
    return;
  n = lend_take (&r->lent);
  if (r->handles[n])
    try_request (r, n, DISCARD, NULL, count, offset);
  lend_return (&r->lent, n);
}

static void
remote_close (void *opaque)
{
  struct remote *r = opaque;
  unsigned i;

  for (i = 0; i < NR_CONNECTIONS; i++)
    if (r->handles[i]) {
      nbd_shutdown (r->handles[i], 0);
      nbd_close (r->handles[i]);
    }
  lend_destroy (&r->lent);
  free (r->uri);
  free (r);
}

static const struct zram_tier_ops remote_ops = {
  .read = remote_read,
  .write = remote_write,
  .discard = remote_discard,
  .close = remote_close,
};

/* ---- Opening ------------------------------------------------------- */

static int
look_at (struct remote *r)
{
  struct nbd_handle *nbd = connect_to (r->uri);
  int64_t size = nbd ? nbd_get_size (nbd) : -1;

  r->handles[0] = nbd;
  if (size == -1)
    return -1;
  if (nbd_is_read_only (nbd) == 1) {
    errno = EROFS;
    return -1;
  }
  r->size = size;
  r->can_trim = nbd_can_trim (nbd) == 1;
  r->nr = nbd_can_multi_conn (nbd) == 1 ? NR_CONNECTIONS : 1;
  return lend_init (&r->lent, r->nr);
}

/* Leave alone what is not ours; then say that it is. */
static int
claim (struct remote *r, bool force)
{
  unsigned char *buf = malloc (TIER_SEGMENT_SIZE);
  int result = -1;

  if (buf == NULL)
    return -1;
  if (r->size < 2 * TIER_SEGMENT_SIZE)
    errno = EINVAL;
  else if (remote_read (r, buf, TIER_SEGMENT_SIZE, 0) == 0) {
    errno = EEXIST;
    if (force || tier_mark_allows (buf, TIER_SEGMENT_SIZE)) {
      tier_mark_fill (buf);
      result = remote_write (r, buf, TIER_SEGMENT_SIZE, 0);
    }
  }
  free (buf);
  return result;
}

int
zram_tier_nbd (const char *uri, bool force, struct zram_tier *tier)
{
  struct remote *r = calloc (1, sizeof *r);
  int err;

  if (r == NULL)
    return -1;
  r->uri = strdup (uri);
  if (r->uri && look_at (r) == 0 && claim (r, force) == 0) {
    *tier = (struct zram_tier) { &remote_ops, r, r->size };
    return 0;
  }
  err = errno;
  remote_close (r);
  errno = err;
  return -1;
}
