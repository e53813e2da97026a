/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The control socket.  HTTP/1.1 on a Unix domain socket, so that curl
 * and whatever else speaks HTTP can ask, and only those that the file
 * system lets in.
 *
 * The socket is made in two steps, because nbdkit forks in between:
 * control_bind runs while there is still a terminal to complain to, and
 * control_start when threads may be made.  Connections that arrive in
 * between wait in the socket's backlog.
 *
 * libmicrohttpd could bind a socket by itself, but only a TCP one, so we
 * hand it one that is ready.  It has one thread, which sleeps in the
 * kernel until someone asks.  What only reads counters it answers itself:
 * that waits for nothing, neither I/O on the disk nor background work can
 * hold it up, and it holds up neither.  All else becomes a job (jobs.h),
 * and the connection sleeps until that is done.  (A thread for each
 * connection would be simpler here, but nothing should be made, and locked
 * in memory, when the machine has no memory left.)
 *
 * A job goes on if its client goes away.
 *
 * No locks.  What is in struct control is written before the threads start
 * or after they have ended, but for one counter.  An exchange belongs to the
 * HTTP thread, but for the time of its job.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <microhttpd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "control.h"
#include "jobs.h"
#include "requests.h"

/* Statistics are asked for now and then, by a few.  The limits keep a
 * client that opens connections and falls silent from taking more than
 * a little memory, and from shutting out the others for long.
 */
#define CONNECTION_LIMIT 16
#define CONNECTION_TIMEOUT 10   /* seconds */
#define CONNECTION_MEMORY 16384 /* bytes, all headers must fit in */

struct control {
  char *path;
  int sock;                     /* -1: not bound */
  dev_t dev;                    /* which file our socket is */
  ino_t ino;
  struct MHD_Daemon *daemon;    /* NULL: not started */
  struct jobs *jobs;            /* the same */
  _Atomic unsigned pending;     /* jobs of which the answer was not sent */
  struct disk *disk;
};

/* One request and its answer. */
struct exchange {
  struct job job;               /* the first, so that one is the other */
  struct control *control;
  struct MHD_Connection *connection;
  struct request request;
  struct answer answer;
  bool has_body, is_job;
  bool answered;
};

/* ---- The socket ---------------------------------------------------- */

static int
make_address (const char *path, struct sockaddr_un *addr)
{
  size_t len = strlen (path);

  if (len >= sizeof addr->sun_path) {
    nbdkit_error ("control=%s: the path is too long for a socket "
                  "(%zu bytes, the most is %zu)",
                  path, len, sizeof addr->sun_path - 1);
    return -1;
  }
  memset (addr, 0, sizeof *addr);
  addr->sun_family = AF_UNIX;
  memcpy (addr->sun_path, path, len + 1);
  return 0;
}

static int
make_socket (const char *path)
{
  int sock = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

  if (sock == -1)
    nbdkit_error ("control=%s: socket: %m", path);
  return sock;
}

/* There is a file where our socket should be.  Remove it if it is the
 * socket of a server that is gone.
 */
static int
remove_stale_socket (const struct sockaddr_un *addr)
{
  const char *path = addr->sun_path;
  struct stat st;
  int sock, r, err;

  if (lstat (path, &st) == -1) {
    if (errno == ENOENT)
      return 0;
    nbdkit_error ("control=%s: %m", path);
    return -1;
  }
  if (!S_ISSOCK (st.st_mode)) {
    nbdkit_error ("control=%s: the file exists and is not a socket", path);
    return -1;
  }

  sock = make_socket (path);
  if (sock == -1)
    return -1;
  r = connect (sock, (const struct sockaddr *) addr, sizeof *addr);
  err = errno;
  close (sock);

  /* EAGAIN: someone listens, and has more connections than it takes. */
  if (r == 0 || err == EAGAIN) {
    nbdkit_error ("control=%s: another server is using this socket", path);
    return -1;
  }
  if (err != ECONNREFUSED) {
    errno = err;
    nbdkit_error ("control=%s: cannot tell if the socket is in use: %m", path);
    return -1;
  }

  nbdkit_debug ("control=%s: replacing a socket that nobody listens on", path);
  if (unlink (path) == -1 && errno != ENOENT) {
    nbdkit_error ("control=%s: unlink: %m", path);
    return -1;
  }
  return 0;
}

/* bind makes the file, with the mode that umask leaves it: a chmod
 * afterwards would come too late for somebody quick.  umask is of the
 * whole process, but there are no threads yet.
 */
static int
bind_privately (int sock, const struct sockaddr_un *addr)
{
  mode_t mask = umask (0177);
  int r = bind (sock, (const struct sockaddr *) addr, sizeof *addr);
  int err = errno;

  umask (mask);
  errno = err;
  return r;
}

static int
bind_and_listen (struct control *control)
{
  struct sockaddr_un addr;
  struct stat st;
  int sock;

  if (make_address (control->path, &addr) == -1 ||
      remove_stale_socket (&addr) == -1)
    return -1;

  sock = make_socket (control->path);
  if (sock == -1)
    return -1;
  if (bind_privately (sock, &addr) == -1) {
    nbdkit_error ("control=%s: bind: %m", control->path);
    close (sock);
    return -1;
  }

  if (lstat (control->path, &st) == -1 || listen (sock, SOMAXCONN) == -1) {
    nbdkit_error ("control=%s: cannot listen: %m", control->path);
    unlink (control->path);
    close (sock);
    return -1;
  }

  control->sock = sock;
  control->dev = st.st_dev;
  control->ino = st.st_ino;
  return 0;
}

struct control *
control_bind (const char *path)
{
  struct control *control = calloc (1, sizeof *control);

  if (!control || !(control->path = strdup (path))) {
    nbdkit_error ("control=%s: %m", path);
    free (control);
    return NULL;
  }
  control->sock = -1;
  if (bind_and_listen (control) == -1) {
    control_free (control);
    return NULL;
  }
  return control;
}

/* ---- Answers ------------------------------------------------------- */

/* The text now belongs to libmicrohttpd. */
static struct MHD_Response *
make_response (struct answer *answer)
{
  struct MHD_Response *response
    = MHD_create_response_from_buffer (answer->len, answer->text,
                                       MHD_RESPMEM_MUST_FREE);

  if (response)
    answer->text = NULL;
  return response;
}

static enum MHD_Result
send_answer (struct MHD_Connection *connection, struct answer *answer)
{
  struct MHD_Response *response;
  enum MHD_Result r;

  if (answer->text == NULL)
    answer_error (answer, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory");
  response = make_response (answer);
  if (!response)
    return MHD_NO;

  /* The numbers are of this moment. */
  if (!MHD_add_response_header (response, "Content-Type", answer->type) ||
      !MHD_add_response_header (response, "Cache-Control", "no-store") ||
      (answer->allow &&
       !MHD_add_response_header (response, "Allow", answer->allow)))
    r = MHD_NO;
  else
    r = MHD_queue_response (connection, answer->status, response);
  MHD_destroy_response (response);
  return r;
}

/* ---- Requests ------------------------------------------------------ */

static void
run_job (struct job *job, bool cancelled)
{
  struct exchange *exchange = (struct exchange *) job;

  if (cancelled)
    answer_error (&exchange->answer, MHD_HTTP_SERVICE_UNAVAILABLE,
                  "the server is stopping");
  else
    request_run (&exchange->request, &exchange->answer);
  exchange->answered = true;
  MHD_resume_connection (exchange->connection);
}

/* From now on the exchange is the job's.  libmicrohttpd asks us again when
 * it has been resumed.
 */
static void
make_job (struct exchange *exchange)
{
  exchange->job.run = run_job;
  exchange->is_job = true;
  atomic_fetch_add (&exchange->control->pending, 1);
  MHD_suspend_connection (exchange->connection);
  if (jobs_add (exchange->control->jobs, &exchange->job))
    return;
  answer_error (&exchange->answer, MHD_HTTP_SERVICE_UNAVAILABLE,
                "too many requests are waiting, or the server is stopping");
  exchange->answered = true;
  MHD_resume_connection (exchange->connection);
}

static enum MHD_Result
take_parameter (void *opaque, enum MHD_ValueKind kind, const char *key,
                size_t key_length, const char *value, size_t length)
{
  struct exchange *exchange = opaque;

  (void) kind;
  (void) key_length;
  return request_parameter (&exchange->request, key, value ? value : "",
                            length, &exchange->answer) ? MHD_YES : MHD_NO;
}

/* Find out what is wanted.  False if it has been answered. */
static bool
parse_request (struct exchange *exchange, const char *method, const char *url)
{
  struct request *request = &exchange->request;
  struct answer *answer = &exchange->answer;

  if (!request_begin (request, method, url, answer))
    return false;
  if (exchange->has_body && !request_is_quick (request)) {
    answer_error (answer, MHD_HTTP_BAD_REQUEST, "there is a body, but "
                  "parameters belong into the URL (curl --get -X POST)");
    return false;
  }
  MHD_get_connection_values_n (exchange->connection, MHD_GET_ARGUMENT_KIND,
                               take_parameter, exchange);
  return answer->status == 0 && request_complete (request, answer);
}

static enum MHD_Result
begin_exchange (struct control *control, struct MHD_Connection *connection,
                void **opaque)
{
  struct exchange *exchange = calloc (1, sizeof *exchange);

  if (exchange == NULL)
    return MHD_NO;
  exchange->control = control;
  exchange->connection = connection;
  exchange->request.disk = control->disk;
  *opaque = exchange;
  return MHD_YES;
}

static void
end_exchange (void *opaque, struct MHD_Connection *connection,
              void **request, enum MHD_RequestTerminationCode code)
{
  struct exchange *exchange = *request;

  (void) opaque;
  (void) connection;
  (void) code;
  if (exchange == NULL)
    return;
  if (exchange->is_job)
    atomic_fetch_sub (&exchange->control->pending, 1);
  request_free (&exchange->request);
  free (exchange->answer.text);
  free (exchange);
  *request = NULL;
}

/* libmicrohttpd calls this once for the headers of a request, then for
 * each part of its body, and once more when all has arrived.  Only then
 * do we answer.
 */
static enum MHD_Result
answer_request (void *opaque, struct MHD_Connection *connection,
                const char *url, const char *method, const char *version,
                const char *upload_data, size_t *upload_data_size,
                void **request)
{
  struct exchange *exchange = *request;

  (void) version;
  (void) upload_data;

  if (exchange == NULL)
    return begin_exchange (opaque, connection, request);
  if (*upload_data_size > 0) {
    exchange->has_body = true;
    *upload_data_size = 0;
    return MHD_YES;
  }
  if (!exchange->answered && parse_request (exchange, method, url)) {
    if (!request_is_quick (&exchange->request)) {
      make_job (exchange);
      return MHD_YES;
    }
    request_run (&exchange->request, &exchange->answer);
  }
  return send_answer (connection, &exchange->answer);
}

/* ---- The threads --------------------------------------------------- */

/* What libmicrohttpd complains of are the mistakes of clients. */
static void
log_message (void *opaque, const char *format, va_list args)
{
  (void) opaque;
  nbdkit_vdebug (format, args);
}

int
control_start (struct control *control, struct disk *disk)
{
  /* libmicrohttpd closes the socket that it is given, sometimes even if
   * it fails.  We want to know whose it is.
   */
  int sock = fcntl (control->sock, F_DUPFD_CLOEXEC, 0);

  if (sock == -1) {
    nbdkit_error ("control=%s: dup: %m", control->path);
    return -1;
  }

  control->disk = disk;
  control->jobs = jobs_start ();
  if (!control->jobs) {
    nbdkit_error ("control=%s: cannot start a thread: %m", control->path);
    close (sock);
    return -1;
  }
  control->daemon =
    MHD_start_daemon (MHD_USE_AUTO_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME |
                      MHD_USE_ERROR_LOG,
                      0, NULL, NULL, answer_request, control,
                      MHD_OPTION_EXTERNAL_LOGGER, log_message, NULL,
                      MHD_OPTION_NOTIFY_COMPLETED, end_exchange, NULL,
                      MHD_OPTION_LISTEN_SOCKET, sock,
                      MHD_OPTION_CONNECTION_LIMIT,
                      (unsigned) CONNECTION_LIMIT,
                      MHD_OPTION_CONNECTION_TIMEOUT,
                      (unsigned) CONNECTION_TIMEOUT,
                      MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                      (size_t) CONNECTION_MEMORY,
                      MHD_OPTION_END);
  if (!control->daemon) {
    nbdkit_error ("control=%s: cannot start the HTTP server", control->path);
    return -1;
  }
  return 0;
}

/* The file may have been replaced by that of another server, or be gone
 * with its directory.  Neither is ours to worry about.
 */
static void
remove_own_socket (const struct control *control)
{
  struct stat st;

  if (lstat (control->path, &st) == 0 &&
      st.st_dev == control->dev && st.st_ino == control->ino)
    unlink (control->path);
}

/* Have the answers of jobs sent, as far as clients take them. */
static void
wait_for_answers (struct control *control)
{
  const struct timespec pause = { .tv_nsec = 10000000 };
  unsigned tries;

  for (tries = 0; atomic_load (&control->pending) && tries < 100; tries++)
    nanosleep (&pause, NULL);
}

void
control_free (struct control *control)
{
  if (!control)
    return;
  if (control->sock != -1)
    remove_own_socket (control);
  /* Connections must not sleep when the HTTP server stops. */
  jobs_stop (control->jobs);
  if (control->daemon) {
    wait_for_answers (control);
    MHD_stop_daemon (control->daemon);
  }
  jobs_free (control->jobs);
  if (control->sock != -1)
    close (control->sock);
  free (control->path);
  free (control);
}
