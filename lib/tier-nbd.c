/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* A tier on an NBD server, by libnbd.
 *
 * A connection serves one request at a time here, so there are several, if
 * the server allows that; they are lent like contexts (lend.c).
 *
 * A server can go away, and a host fall silent.  No request waits for long:
 * libnbd's functions that wait for ever are not used (nbd_pread, and also
 * nbd_shutdown), but those that only begin something, and nbd_poll.  A
 * connection that breaks is made again, a few times; one on which nothing
 * moves for SILENCE is broken.  When that has been of no use the server is
 * *down*: requests fail at once, and one of them tries again now and then.
 * Otherwise each of a thousand readers would wait out the same silence.
 *
 * What is at the end of a new connection need not be what we wrote to, as
 * the server may have been started again with an empty export, or another
 * one.  So each new connection begins with reading the mark.  If that is not
 * ours, the server is down too: what is there may be somebody's.  It is not
 * given up, as the right export may come back.  (That nothing wrong is ever
 * returned does not rest on this but on the checksums of records,
 * tier-record.c.)
 *
 * A request that was sent and not answered may still be carried out, in a
 * second or in an hour, whatever we do on other connections.  For a read that
 * is all the same.  A write or a discard is not tried again, and whoever wanted
 * it is told, so as not to use that place for anything else (EINPROGRESS).
 *
 * Locks: one, for what is known of the server.  It is not held while anybody
 * waits.
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libnbd.h>

#include "clock.h"
#include "lend.h"
#include "memory.h"
#include "tier-mark.h"
#include "tier.h"
#include "zram.h"

#define NR_CONNECTIONS 4

/* Nothing moves for so long: the other end is gone.  And the most that one
 * request may take, however it moves.
 */
#define SILENCE_MS 10000
#define REQUEST_NS (60 * CLOCK_SECOND)

/* How often to try a request, and how long to wait before the second time;
 * before the third, twice as long, and so on.
 */
#define TRIES 4
#define PAUSE_NS 125000000

/* How long a server that is down is left alone; when it is still down then,
 * twice as long, up to a limit.
 */
#define DOWN_NS CLOCK_SECOND
#define DOWN_MAX_NS (8 * CLOCK_SECOND)

/* To say good-bye. */
#define LEAVE_MS 1000

enum health { UP, DOWN, FOREIGN };

struct remote {
  char *uri;
  zram_tier_say_fn *say;
  uint64_t size;
  bool can_trim;
  unsigned nr;
  unsigned char mark[TIER_MARK_SIZE];
  struct lend lent;
  struct nbd_handle *handles[NR_CONNECTIONS];   /* NULL: not connected */

  pthread_mutex_t lock;         /* covers the rest */
  enum health health;
  int err;                      /* why it is not UP */
  uint64_t pause, again;        /* ns: to be left alone for, until */
};

enum operation { READ, WRITE, DISCARD };

/* ---- Waiting, but not for ever ------------------------------------- */

static int
nbd_errno (void)
{
  return nbd_get_errno () ? : EIO;
}

/* Let a connection do what it can.  False and errno if it is broken. */
static bool
make_progress (struct nbd_handle *nbd, int silence, uint64_t deadline)
{
  int r = nbd_poll (nbd, silence);

  if (r == -1 && nbd_get_errno () != EINTR) {
    errno = nbd_errno ();
    return false;
  }
  errno = ETIMEDOUT;
  return r != 0 && clock_ns () < deadline;
}

/* What became of a request.  errno is what the server said if it refused, and
 * otherwise why the connection is of no use any more.
 */
enum outcome { DONE, REFUSED, NOT_SENT, UNANSWERED };

static enum outcome
finish_request (struct nbd_handle *nbd, int64_t cookie)
{
  const uint64_t deadline = clock_ns () + REQUEST_NS;
  int done;

  if (cookie == -1) {
    errno = nbd_errno ();
    return NOT_SENT;
  }
  while ((done = nbd_aio_command_completed (nbd, cookie)) == 0)
    if (!make_progress (nbd, SILENCE_MS, deadline))
      return UNANSWERED;
  if (done == 1)
    return DONE;
  errno = nbd_errno ();
  return nbd_aio_is_ready (nbd) == 1 && errno != ESHUTDOWN ? REFUSED
    : UNANSWERED;
}

static enum outcome
request (struct nbd_handle *nbd, enum operation operation, void *buf,
         uint64_t count, uint64_t offset)
{
  const nbd_completion_callback none = NBD_NULL_COMPLETION;
  int64_t cookie = -1;

  switch (operation) {
  case READ:
    cookie = nbd_aio_pread (nbd, buf, count, offset, none, 0);
    break;
  case WRITE:
    cookie = nbd_aio_pwrite (nbd, buf, count, offset, none, 0);
    break;
  case DISCARD:
    cookie = nbd_aio_trim (nbd, count, offset, none, 0);
    break;
  }
  return finish_request (nbd, cookie);
}

/* ---- Connections --------------------------------------------------- */

static bool
is_connected (struct nbd_handle *nbd)
{
  const uint64_t deadline = clock_ns () + REQUEST_NS;

  while (nbd_aio_is_connecting (nbd) == 1)
    if (!make_progress (nbd, SILENCE_MS, deadline))
      return false;
  errno = nbd_errno ();
  return nbd_aio_is_ready (nbd) == 1;
}

/* NULL and errno on failure. */
static struct nbd_handle *
connect_to (const char *uri)
{
  struct nbd_handle *nbd = nbd_create ();
  int err;

  if (nbd == NULL) {
    errno = nbd_errno ();
    return NULL;
  }
  /* Keys and certificates of nbds: whoever chose the URI chose them. */
  if (nbd_set_uri_allow_local_file (nbd, true) == -1
      || nbd_aio_connect_uri (nbd, uri) == -1)
    err = nbd_errno ();
  else if (is_connected (nbd))
    return nbd;
  else
    err = errno;
  nbd_close (nbd);
  errno = err;
  return NULL;
}

/* Whether the other end is still there, as far as can be seen at once. */
static bool
is_alive (struct nbd_handle *nbd)
{
  return nbd_poll (nbd, 0) != -1 && nbd_aio_is_ready (nbd) == 1;
}

/* Nobody is said good-bye to who has gone: where that cannot be sent libnbd
 * (1.14) reads from memory that it has just freed.
 */
static void
disconnect (struct nbd_handle *nbd)
{
  const uint64_t deadline = clock_ns () + LEAVE_MS * (CLOCK_SECOND / 1000);

  if (is_alive (nbd) && nbd_aio_disconnect (nbd, 0) == 0)
    while (nbd_aio_is_closed (nbd) == 0 && nbd_aio_is_dead (nbd) == 0
           && make_progress (nbd, LEAVE_MS, deadline))
      ;
  nbd_close (nbd);
}

/* Whether the export is the one that it was.  EXDEV if not. */
static bool
is_same (const struct remote *r, struct nbd_handle *nbd)
{
  unsigned char block[TIER_BLOCK];

  if ((uint64_t) nbd_get_size (nbd) >= r->size) {
    if (request (nbd, READ, block, sizeof block, 0) != DONE)
      return false;
    if (memcmp (block, r->mark, sizeof r->mark) == 0)
      return true;
  }
  errno = EXDEV;
  return false;
}

/* The connection of a number, made if there is none.  What is sent on one that
 * has ended is never answered, so look.
 */
static struct nbd_handle *
connection (struct remote *r, unsigned n)
{
  struct nbd_handle *nbd = r->handles[n];
  int err;

  if (nbd && is_alive (nbd))
    return nbd;
  if (nbd)
    nbd_close (nbd);
  nbd = connect_to (r->uri);
  if (nbd && !is_same (r, nbd)) {
    err = errno;
    nbd_close (nbd);
    nbd = NULL;
    errno = err;
  }
  r->handles[n] = nbd;
  return nbd;
}

/* ---- Up and down --------------------------------------------------- */

/* How often a request may try now; 0 and errno: it fails at once. */
static unsigned
may_try (struct remote *r)
{
  const uint64_t now = clock_ns ();
  unsigned tries = TRIES;

  pthread_mutex_lock (&r->lock);
  if (r->health != UP) {
    tries = now < r->again ? 0 : 1;
    errno = r->err;
    if (tries)                  /* and nobody else until this is done */
      r->again = now + 3 * REQUEST_NS;
  }
  pthread_mutex_unlock (&r->lock);
  return tries;
}

static const char *
describe (enum health health)
{
  switch (health) {
  case UP:
    return "the server answers again";
  case DOWN:
    return "the server does not answer, what is there cannot be read "
      "until it does";
  case FOREIGN:
    return "this is not the export that it was (was the server restarted?), "
      "what was there cannot be read";
  }
  return "";
}

/* ERR: what became of a request; 0 if the server has answered.  Of those that
 * were under way when it went down, the first one counts.
 */
static void
note (struct remote *r, int err, bool again)
{
  enum health health = err == 0 ? UP : err == EXDEV ? FOREIGN : DOWN;
  bool changed;

  pthread_mutex_lock (&r->lock);
  changed = health != r->health;
  if (r->health == UP)
    r->pause = DOWN_NS;
  else if (again && r->pause < DOWN_MAX_NS)
    r->pause *= 2;
  r->health = health;
  r->err = err == EXDEV ? EIO : err;
  r->again = clock_ns () + r->pause;
  pthread_mutex_unlock (&r->lock);

  if (changed && r->say)
    r->say (r->uri, describe (health));
}

static bool
is_up (struct remote *r)
{
  bool up;

  pthread_mutex_lock (&r->lock);
  up = r->health == UP;
  pthread_mutex_unlock (&r->lock);
  return up;
}

/* ---- Requests ------------------------------------------------------ */

/* One try. */
static enum outcome
try_request (struct remote *r, unsigned n, enum operation operation,
             void *buf, uint64_t count, uint64_t offset)
{
  struct nbd_handle *nbd = connection (r, n);
  enum outcome outcome;
  int err;

  if (nbd == NULL)
    return NOT_SENT;
  outcome = request (nbd, operation, buf, count, offset);
  if (outcome >= NOT_SENT) {
    err = errno;
    nbd_close (nbd);
    r->handles[n] = NULL;
    errno = err;
  }
  return outcome;
}

static bool
is_final (enum outcome outcome, enum operation operation, int err)
{
  return outcome < NOT_SENT || (outcome == UNANSWERED && operation != READ)
    || err == ETIMEDOUT || err == EXDEV;
}

/* So many tries, or fewer where more are of no use. */
static enum outcome
try_requests (struct remote *r, unsigned n, unsigned tries,
              enum operation operation, void *buf, uint64_t count,
              uint64_t offset)
{
  struct timespec pause = { .tv_nsec = PAUSE_NS };
  bool again = tries == 1;
  enum outcome outcome;
  int err;

  for (;;) {
    outcome = try_request (r, n, operation, buf, count, offset);
    err = errno;
    if (is_final (outcome, operation, err) || --tries == 0)
      break;
    nanosleep (&pause, NULL);
    pause.tv_nsec *= 2;
  }
  note (r, outcome >= NOT_SENT ? err : 0, again);
  errno = err == EXDEV ? EIO : err;
  if (outcome == UNANSWERED && operation != READ)
    errno = EINPROGRESS;
  return outcome;
}

static int
do_request (struct remote *r, enum operation operation, void *buf,
            uint64_t count, uint64_t offset)
{
  unsigned n = lend_take (&r->lent);
  unsigned tries = may_try (r);
  enum outcome outcome = tries
    ? try_requests (r, n, tries, operation, buf, count, offset) : NOT_SENT;
  int err = errno;

  lend_return (&r->lent, n);
  errno = err;
  return outcome == DONE ? 0 : -1;
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

/* It is only a favour, and there may be thousands: not worth to try again, nor
 * to try at all where the server is down.
 */
static int
remote_discard (void *opaque, uint64_t count, uint64_t offset)
{
  struct remote *r = opaque;
  enum outcome outcome;
  unsigned n;

  if (!r->can_trim || !is_up (r))
    return 0;
  n = lend_take (&r->lent);
  outcome = try_requests (r, n, 1, DISCARD, NULL, count, offset);
  lend_return (&r->lent, n);
  errno = EINPROGRESS;
  return outcome == UNANSWERED ? -1 : 0;
}

static void
remote_close (void *opaque)
{
  struct remote *r = opaque;
  unsigned i;

  for (i = 0; i < NR_CONNECTIONS; i++)
    if (r->handles[i])
      disconnect (r->handles[i]);
  lend_destroy (&r->lent);
  pthread_mutex_destroy (&r->lock);
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

/* Whether it takes requests of all sizes that there will be. */
static bool
fits_requests (struct nbd_handle *nbd)
{
  int64_t least = nbd_get_block_size (nbd, LIBNBD_SIZE_MINIMUM);
  int64_t most = nbd_get_block_size (nbd, LIBNBD_SIZE_MAXIMUM);

  errno = EMSGSIZE;             /* 0: it does not say */
  return least <= TIER_BLOCK && (most <= 0 || most >= TIER_SEGMENT_MAX);
}

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
  if (!fits_requests (nbd))
    return -1;
  r->size = size;
  r->can_trim = nbd_can_trim (nbd) == 1;
  r->nr = nbd_can_multi_conn (nbd) == 1 ? NR_CONNECTIONS : 1;
  return lend_init (&r->lent, r->nr);
}

/* Whether a tier of the memory begins like that. */
static bool
is_used (struct zram_memory *memory, const unsigned char *start)
{
  struct tiers *tiers = &memory->tiers;
  bool used = false;
  unsigned i;

  pthread_mutex_lock (&tiers->lock);
  for (i = 0; i < tiers->nr; i++) {
    const struct zram_tier *storage = &tiers->order[i]->storage;

    used |= storage->ops == &remote_ops
      && memcmp (((const struct remote *) storage->opaque)->mark, start,
                 TIER_MARK_SIZE) == 0;
  }
  pthread_mutex_unlock (&tiers->lock);
  return used;
}

/* Whether what is there is ours, or nothing.  EEXIST if not.  BUF has what is
 * at the beginning.
 */
static bool
is_ours (const struct remote *r, unsigned char *buf)
{
  uint64_t end = (r->size - TIER_MARK_LOOK) / TIER_BLOCK * TIER_BLOCK;

  errno = EEXIST;
  if (tier_mark_is_ours (buf, TIER_MARK_LOOK))
    return true;
  if (!tier_mark_is_nothing (buf, TIER_MARK_LOOK)
      || request (r->handles[0], READ, buf, TIER_MARK_LOOK, end) != DONE)
    return false;
  errno = EEXIST;
  return tier_mark_is_nothing (buf, TIER_MARK_LOOK);
}

/* Leave alone what is not ours; then say that it is.  All by the first
 * connection: there is no mark yet that others could look for.
 */
static int
claim (struct remote *r, struct zram_memory *memory, bool force)
{
  struct nbd_handle *nbd = r->handles[0];
  unsigned char *buf = malloc (TIER_MARK_LOOK);
  int result = -1;

  if (buf == NULL)
    return -1;
  if (r->size < ZRAM_TIER_SIZE_MIN)
    errno = EINVAL;
  else if (request (nbd, READ, buf, TIER_MARK_LOOK, 0) == DONE) {
    bool used = is_used (memory, buf);

    errno = EBUSY;
    if (!used && (force || is_ours (r, buf))
        && tier_mark_fill (buf)
        && request (nbd, WRITE, buf, TIER_MARK_AREA, 0) == DONE) {
      memcpy (r->mark, buf, sizeof r->mark);
      result = 0;
    }
  }
  free (buf);
  return result;
}

int
zram_tier_nbd (struct zram_memory *memory, const char *uri, bool force,
               zram_tier_say_fn *say, struct zram_tier *tier)
{
  struct remote *r = calloc (1, sizeof *r);
  int err;

  if (r == NULL)
    return -1;
  pthread_mutex_init (&r->lock, NULL);
  r->say = say;
  r->uri = strdup (uri);
  if (r->uri && look_at (r) == 0 && claim (r, memory, force) == 0) {
    *tier = (struct zram_tier) { &remote_ops, r, r->size };
    return 0;
  }
  err = errno;
  remote_close (r);
  errno = err;
  return -1;
}
