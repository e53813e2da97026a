/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* A client that keeps an NBD server busy, and says how long it took.
 *
 *   bench-nbd SOCKET CORPUS PAGES fill
 *       write a page of the corpus to each page of the disk, and check
 *       some of them
 *   bench-nbd SOCKET CORPUS PAGES read|write REQUESTS SEED
 *       as many requests of 4096 bytes at random places
 *   bench-nbd SOCKET CORPUS PAGES sequential REQUESTS SEED
 *       write as many times 128 KiB, one after the other
 *   bench-nbd SOCKET CORPUS PAGES zipf|zipf-runs|zipf-mixed REQUESTS SEED
 *       read 4096 bytes where the Nth of all pages is read N^-0.99 times
 *       as often as the first; which is the Nth is by chance (but always
 *       the same), with -runs for 16 neighbours at once; with -mixed one
 *       in ten requests is a write
 *   bench-nbd SOCKET CORPUS PAGES reader REQUESTS SEED
 *       read pages of a small part of the disk, on one connection, one
 *       after the other
 *   bench-nbd --version
 *       print the version of libnbd
 *
 * PAGES are those of the disk.  If the corpus has fewer, it is repeated.
 *
 * There are two connections with 16 requests in flight on each, so up
 * to 32 in all.  A request that completes is replaced at once.  Contents
 * come from the corpus, since what a page costs depends on what is in
 * it.  The number of requests is fixed, and not the time, so that all
 * servers do the same work.
 *
 * It shares the machine with the server, so it must cost little: one
 * thread polls both sockets, and every number that it needs by chance
 * was drawn before the clock started.
 *
 * Latency is from the call that issues a request to the call that
 * learns of its completion.  With 32 in flight it is mostly queueing.
 */

#include <config.h>

#include <stdio.h>
#include <stdlib.h>
#include <stdint.h>
#include <inttypes.h>
#include <string.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <err.h>
#include <sys/mman.h>

#include <libnbd.h>

#include "bench.h"
#include "zipf.h"

#define NR_CONNECTIONS 2
#define QUEUE_DEPTH 16
#define NR_CHECKED 1000
#define LARGE_PAGES 32          /* of a large request: 128 KiB */
#define READER_PAGES 16         /* that a single reader reads */
#define ZIPF_SEED 1
#define RUN_PAGES 16            /* neighbours that are read as often */
#define MIXED_WRITES 10         /* one in so many */

struct connection;

/* A request that may be in flight. */
struct request {
  struct connection *connection;
  uint64_t start;
  uint8_t page[BENCH_PAGE];
};

struct connection {
  struct run *run;
  struct nbd_handle *nbd;
  struct request requests[QUEUE_DEPTH];
  /* Those not in flight. */
  struct request *idle[QUEUE_DEPTH];
  unsigned nr_idle;
};

struct run {
  const struct corpus *corpus;
  size_t nr_pages;              /* of the disk */
  unsigned nr_connections, depth;
  unsigned writes;              /* one request in so many; 0: none */
  size_t nr_requests;           /* to make */
  size_t count;                 /* bytes of each */
  size_t issued, completed;
  uint32_t *page;               /* where on the disk, for each request */
  uint32_t *contents;           /* what to write there */
  double *latency;              /* in microseconds, as they complete */
  struct connection connections[NR_CONNECTIONS];
};

static void
die_nbd (const char *what)
{
  errx (EXIT_FAILURE, "%s: %s", what, nbd_get_error ());
}

/* libnbd calls this when the server has answered.  It may not make
 * requests here, so it only notes what happened.
 */
static int
completed (void *rp, int *error)
{
  struct request *request = rp;
  struct connection *connection = request->connection;
  struct run *run = connection->run;

  if (*error)
    errx (EXIT_FAILURE, "request failed: %s", strerror (*error));
  run->latency[run->completed++] = (now_ns () - request->start) / 1000.0;
  connection->idle[connection->nr_idle++] = request;
  return 1;                     /* nothing more to ask about it */
}

static void
issue (struct connection *connection)
{
  struct run *run = connection->run;
  struct request *request = connection->idle[--connection->nr_idle];
  size_t i = run->issued++;
  uint64_t offset = (uint64_t) run->page[i] * BENCH_PAGE;
  nbd_completion_callback callback = {
    .callback = completed, .user_data = request,
  };
  int64_t cookie;

  request->start = now_ns ();
  if (run->writes && i % run->writes == 0)
    cookie = nbd_aio_pwrite (connection->nbd,
                             corpus_page (run->corpus, run->contents[i]),
                             run->count, offset, callback, 0);
  else
    cookie = nbd_aio_pread (connection->nbd, request->page,
                            run->count, offset, callback, 0);
  if (cookie == -1)
    die_nbd ("nbd_aio_pread/pwrite");
}

static volatile sig_atomic_t stopped;

static void
stop (int signal)
{
  (void) signal;
  stopped = 1;
}

/* Those in flight are waited for when it was stopped: some versions of nbdkit
 * end when a client just goes away.
 */
static void
refill (struct run *run)
{
  if (stopped)
    run->nr_requests = run->issued;
  for (unsigned c = 0; c < run->nr_connections; ++c)
    while (run->connections[c].nr_idle > 0 &&
           run->issued < run->nr_requests)
      issue (&run->connections[c]);
}

/* Tell libnbd what has become possible on a socket. */
static void
notify (struct connection *connection, short events)
{
  unsigned direction = nbd_aio_get_direction (connection->nbd);
  int r = 0;

  if ((events & (POLLIN|POLLHUP)) &&
      (direction & LIBNBD_AIO_DIRECTION_READ))
    r = nbd_aio_notify_read (connection->nbd);
  else if ((events & POLLOUT) && (direction & LIBNBD_AIO_DIRECTION_WRITE))
    r = nbd_aio_notify_write (connection->nbd);
  else if (events & (POLLERR|POLLNVAL))
    errx (EXIT_FAILURE, "the server closed the connection");
  if (r == -1)
    die_nbd ("nbd_aio_notify");
}

static void
wait_events (struct run *run)
{
  struct pollfd fds[NR_CONNECTIONS];

  for (unsigned c = 0; c < run->nr_connections; ++c) {
    struct nbd_handle *nbd = run->connections[c].nbd;
    unsigned direction = nbd_aio_get_direction (nbd);

    fds[c].fd = nbd_aio_get_fd (nbd);
    fds[c].events = fds[c].revents = 0;
    if (direction & LIBNBD_AIO_DIRECTION_READ)
      fds[c].events |= POLLIN;
    if (direction & LIBNBD_AIO_DIRECTION_WRITE)
      fds[c].events |= POLLOUT;
  }
  if (poll (fds, run->nr_connections, -1) == -1 && errno != EINTR)
    err (EXIT_FAILURE, "poll");
  for (unsigned c = 0; c < run->nr_connections; ++c)
    if (fds[c].revents)
      notify (&run->connections[c], fds[c].revents);
}

/* Make all requests.  Returns nanoseconds. */
static uint64_t
run_requests (struct run *run)
{
  uint64_t start = now_ns ();

  refill (run);
  while (run->completed < run->nr_requests) {
    wait_events (run);
    refill (run);
  }
  return now_ns () - start;
}

/* ---- Around it ----------------------------------------------------- */

static void
connect_all (struct run *run, const char *socket)
{
  for (unsigned c = 0; c < run->nr_connections; ++c) {
    struct connection *connection = &run->connections[c];
    int64_t size;

    connection->run = run;
    connection->nbd = nbd_create ();
    if (!connection->nbd)
      die_nbd ("nbd_create");
    if (nbd_connect_unix (connection->nbd, socket) == -1)
      die_nbd (socket);
    size = nbd_get_size (connection->nbd);
    if (size < (int64_t) (run->nr_pages * BENCH_PAGE))
      errx (EXIT_FAILURE, "the disk is too small (%" PRIi64 " bytes)", size);
    for (unsigned i = 0; i < run->depth; ++i) {
      connection->requests[i].connection = connection;
      connection->idle[connection->nr_idle++] = &connection->requests[i];
    }
  }
}

static void
disconnect_all (struct run *run)
{
  for (unsigned c = 0; c < run->nr_connections; ++c) {
    nbd_shutdown (run->connections[c].nbd, 0);
    nbd_close (run->connections[c].nbd);
  }
}

static void
allocate (struct run *run, size_t nr_requests)
{
  run->nr_requests = nr_requests;
  run->count = BENCH_PAGE;
  run->page = calloc (nr_requests, sizeof *run->page);
  run->contents = calloc (nr_requests, sizeof *run->contents);
  run->latency = calloc (nr_requests, sizeof *run->latency);
  if (!run->page || !run->contents || !run->latency)
    err (EXIT_FAILURE, "calloc");
}

static void
release (struct run *run)
{
  free (run->page);
  free (run->contents);
  free (run->latency);
}

static void
check (struct run *run)
{
  static uint8_t page[BENCH_PAGE];
  uint64_t state = 1;

  for (unsigned i = 0; i < NR_CHECKED; ++i) {
    size_t n = random_next (&state) % run->nr_pages;

    if (nbd_pread (run->connections[i % NR_CONNECTIONS].nbd, page,
                   BENCH_PAGE, (uint64_t) n * BENCH_PAGE, 0) == -1)
      die_nbd ("nbd_pread");
    if (memcmp (page, corpus_page (run->corpus, n % run->corpus->nr_pages),
                BENCH_PAGE) != 0)
      errx (EXIT_FAILURE, "page %zu: wrong contents", n);
  }
}

static void
fill (struct run *run)
{
  allocate (run, run->nr_pages);
  run->writes = 1;
  for (size_t i = 0; i < run->nr_requests; ++i) {
    run->page[i] = i;
    run->contents[i] = i % run->corpus->nr_pages;
  }
  run_requests (run);
  check (run);
}

static void
random_requests (struct run *run, unsigned writes, size_t nr_pages,
                 size_t nr_requests, uint64_t seed)
{
  uint64_t state = seed;

  allocate (run, nr_requests);
  run->writes = writes;
  for (size_t i = 0; i < nr_requests; ++i) {
    run->page[i] = random_next (&state) % nr_pages;
    run->contents[i] = random_next (&state) % run->corpus->nr_pages;
  }
}

/* SPAN neighbours are used as often. */
static void
zipf_requests (struct run *run, unsigned writes, size_t span,
               size_t nr_requests, uint64_t seed)
{
  size_t nr_places = run->nr_pages / span, n;
  uint32_t *order = small_pages (nr_places * sizeof *order);
  struct zipf zipf = zipf_create (nr_places * span);

  random_order (order, nr_places, ZIPF_SEED);
  random_requests (run, writes, run->nr_pages, nr_requests, seed);
  for (size_t i = 0; i < nr_requests; ++i) {
    n = zipf_next (&zipf, &seed);
    run->page[i] = order[n / span] * span + n % span;
  }
  munmap (order, nr_places * sizeof *order);
  zipf_destroy (&zipf);
}

/* From the beginning of the disk, with the contents of another place. */
static void
sequential_writes (struct run *run, size_t nr_requests, uint64_t seed)
{
  size_t nr_places = run->corpus->nr_pages / LARGE_PAGES;
  size_t shift = random_next (&seed);

  if (nr_places == 0)
    errx (EXIT_FAILURE, "at least %d pages", LARGE_PAGES);
  allocate (run, nr_requests);
  run->writes = 1;
  run->count = LARGE_PAGES * BENCH_PAGE;
  for (size_t i = 0; i < nr_requests; ++i) {
    run->page[i] = i % nr_places * LARGE_PAGES;
    run->contents[i] = (i + shift) % nr_places * LARGE_PAGES;
  }
}

static void
measure (struct run *run)
{
  uint64_t ns = run_requests (run);
  size_t nr_requests = run->nr_requests;

  median (run->latency, nr_requests);   /* sorts them */
  printf ("nbd requests=%zu seconds=%.6f per_second=%.1f p50_us=%.1f "
          "p99_us=%.1f\n", nr_requests, ns / 1e9, nr_requests * 1e9 / ns,
          run->latency[nr_requests / 2],
          run->latency[nr_requests - 1 - nr_requests / 100]);
}

static void
usage (void)
{
  fprintf (stderr,
           "usage: bench-nbd SOCKET CORPUS PAGES fill\n"
           "       bench-nbd SOCKET CORPUS PAGES read|write|sequential|zipf|"
           "zipf-runs|zipf-mixed|reader REQUESTS SEED\n"
           "       bench-nbd --version\n");
  exit (EXIT_FAILURE);
}

static void
prepare (struct run *run, const char *what, size_t nr_requests,
         uint64_t seed)
{
  if (strcmp (what, "read") == 0)
    random_requests (run, 0, run->nr_pages, nr_requests, seed);
  else if (strcmp (what, "write") == 0)
    random_requests (run, 1, run->nr_pages, nr_requests, seed);
  else if (strcmp (what, "zipf") == 0)
    zipf_requests (run, 0, 1, nr_requests, seed);
  else if (strcmp (what, "zipf-runs") == 0)
    zipf_requests (run, 0, RUN_PAGES, nr_requests, seed);
  else if (strcmp (what, "zipf-mixed") == 0)
    zipf_requests (run, MIXED_WRITES, 1, nr_requests, seed);
  else if (strcmp (what, "reader") == 0)
    random_requests (run, 0, READER_PAGES, nr_requests, seed);
  else if (strcmp (what, "sequential") == 0)
    sequential_writes (run, nr_requests, seed);
  else
    usage ();
}

int
main (int argc, char *argv[])
{
  static struct run run;
  struct corpus corpus;

  if (argc == 2 && strcmp (argv[1], "--version") == 0) {
    struct nbd_handle *nbd = nbd_create ();

    if (!nbd)
      die_nbd ("nbd_create");
    puts (nbd_get_version (nbd));
    nbd_close (nbd);
    return EXIT_SUCCESS;
  }
  if (argc != 7 && (argc != 5 || strcmp (argv[4], "fill") != 0))
    usage ();
  run.nr_pages = parse_count ("PAGES", argv[3]);
  corpus = corpus_map (argv[2], run.nr_pages);
  run.corpus = &corpus;
  run.nr_connections = NR_CONNECTIONS;
  run.depth = QUEUE_DEPTH;
  if (strcmp (argv[4], "reader") == 0)
    run.nr_connections = run.depth = 1;
  connect_all (&run, argv[1]);
  signal (SIGTERM, stop);
  if (argc == 5)
    fill (&run);
  else {
    prepare (&run, argv[4], parse_count ("REQUESTS", argv[5]),
             parse_count ("SEED", argv[6]));
    measure (&run);
  }
  disconnect_all (&run);
  release (&run);
  return EXIT_SUCCESS;
}
