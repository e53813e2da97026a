/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* What bench-memory does to a store, done to a zram device of the
 * kernel, for comparison.
 *
 * The device belongs to the machine and not to us.  It is taken only if
 * nobody has set its size, which is the one step that only one can
 * succeed in; from then on it is ours, and it is reset and given its
 * old algorithm back however this program ends, short of SIGKILL.  If
 * it cannot be had, the program says why and exits with status 77.
 *
 * mem_used_total leaves out the slot table, so it is printed beside it:
 * 16 bytes for each page of the disk's size, allocated when the size is
 * set.  (Records of the allocator, such as 8 bytes per object in a slab
 * of their own, are left out by both.  That is to the kernel's favour.)
 */

#include <config.h>

#include <stdio.h>
#include <stdlib.h>
#include <stdint.h>
#include <stdbool.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>
#include <err.h>
#include <sys/prctl.h>

#include "bench.h"

#define EXIT_SKIP 77
#define SLOT_SIZE 16

/* What cleaning up needs, prepared before, so that a signal handler can
 * do it.
 */
static volatile sig_atomic_t ours;
static volatile sig_atomic_t device_fd = -1;
static char reset_filename[128], algorithm_filename[128];
static char old_algorithm[32];

/* Write a string to a file of sysfs.  Async-signal-safe. */
static int
sysfs_write (const char *filename, const char *value)
{
  int fd = open (filename, O_WRONLY|O_CLOEXEC), saved;
  ssize_t r;

  if (fd == -1)
    return -1;
  r = write (fd, value, strlen (value));
  saved = errno;
  close (fd);
  errno = saved;
  return r == -1 ? -1 : 0;
}

/* Give the device back.  Async-signal-safe. */
static void
give_back (void)
{
  static const char complaint[] = "bench-kernel: could not reset the device\n";
  const struct timespec pause = { .tv_nsec = 50 * 1000 * 1000 };

  if (!ours)
    return;
  if (device_fd != -1)
    close (device_fd);
  /* Something like udev may have it open for a moment. */
  for (int i = 0; i < 40; ++i) {
    if (sysfs_write (reset_filename, "1") == 0) {
      ours = 0;
      sysfs_write (algorithm_filename, old_algorithm);
      return;
    }
    nanosleep (&pause, NULL);
  }
  if (write (STDERR_FILENO, complaint, sizeof complaint - 1) == -1)
    return;
}

static void
interrupted (int sig)
{
  give_back ();
  signal (sig, SIG_DFL);
  raise (sig);
}

static void skip (const char *fs, ...)
  __attribute__ ((format (printf, 1, 2), noreturn));

static void
skip (const char *fs, ...)
{
  va_list args;

  va_start (args, fs);
  vwarnx (fs, args);
  va_end (args);
  exit (EXIT_SKIP);
}

static void
sysfs_name (char *out, size_t size, const char *device, const char *file)
{
  if (snprintf (out, size, "/sys/block/%s/%s", device, file) >= (int) size)
    errx (EXIT_FAILURE, "%s: the name is too long", device);
}

/* The first line of a file of sysfs. */
static void
sysfs_read (const char *device, const char *file, char *out, size_t size)
{
  char filename[128];
  int fd;
  ssize_t r;

  sysfs_name (filename, sizeof filename, device, file);
  fd = open (filename, O_RDONLY|O_CLOEXEC);
  if (fd == -1)
    skip ("%s: %s", filename, strerror (errno));
  r = read (fd, out, size - 1);
  if (r == -1)
    err (EXIT_FAILURE, "%s", filename);
  close (fd);
  out[r] = '\0';
  out[strcspn (out, "\n")] = '\0';
}

/* The file lists all algorithms, with brackets around the chosen one. */
static void
remember_algorithm (const char *device)
{
  char list[512];
  const char *start, *end;

  sysfs_read (device, "comp_algorithm", list, sizeof list);
  start = strchr (list, '[');
  end = start ? strchr (start, ']') : NULL;
  if (!end || end - start > (ptrdiff_t) sizeof old_algorithm)
    skip ("%s: cannot tell its algorithm from '%s'", device, list);
  memcpy (old_algorithm, start + 1, end - start - 1);
}

/* Make the device ours. */
static void
take (const char *device, const char *algorithm, uint64_t size)
{
  char filename[128], value[32];
  sigset_t all, old;

  sysfs_name (reset_filename, sizeof reset_filename, device, "reset");
  sysfs_name (algorithm_filename, sizeof algorithm_filename, device,
              "comp_algorithm");
  sysfs_name (filename, sizeof filename, device, "disksize");
  sysfs_read (device, "disksize", value, sizeof value);
  if (strcmp (value, "0") != 0)
    skip ("%s is in use", device);
  remember_algorithm (device);

  sigfillset (&all);
  sigprocmask (SIG_BLOCK, &all, &old);
  if (sysfs_write (algorithm_filename, algorithm) == -1)
    skip ("%s: could not choose %s: %s", device, algorithm,
          strerror (errno));
  snprintf (value, sizeof value, "%" PRIu64, size);
  if (sysfs_write (filename, value) == -1) {
    int saved = errno;

    if (saved != EBUSY)
      sysfs_write (algorithm_filename, old_algorithm);
    skip ("%s: could not set its size: %s", device, strerror (saved));
  }
  ours = 1;
  sigprocmask (SIG_SETMASK, &old, NULL);
}

static void
open_device (const char *device)
{
  char filename[128];

  if (snprintf (filename, sizeof filename, "/dev/%s", device)
      >= (int) sizeof filename)
    errx (EXIT_FAILURE, "%s: the name is too long", device);
  device_fd = open (filename, O_RDWR|O_DIRECT|O_EXCL|O_CLOEXEC);
  if (device_fd == -1)
    skip ("%s: %s", filename, strerror (errno));
}

/* Both return the processor time that a page took, in microseconds, with
 * the system call.
 */
static double
write_all (const struct corpus *corpus, uint32_t *order, unsigned round)
{
  size_t n = corpus->nr_pages;
  uint64_t start;

  random_order (order, n, round);
  start = cpu_ns ();
  for (size_t i = 0; i < n; ++i) {
    const uint8_t *page = corpus_page (corpus, churned (order[i], round, n));

    if (pwrite (device_fd, page, BENCH_PAGE,
                (off_t) order[i] * BENCH_PAGE) != BENCH_PAGE)
      err (EXIT_FAILURE, "pwrite");
  }
  return (cpu_ns () - start) / 1000.0 / n;
}

static double
read_all (const struct corpus *corpus, uint32_t *order)
{
  static _Alignas (BENCH_PAGE) uint8_t page[BENCH_PAGE];
  size_t n = corpus->nr_pages;
  uint64_t start;

  random_order (order, n, 0);
  start = cpu_ns ();
  for (size_t i = 0; i < n; ++i)
    if (pread (device_fd, page, BENCH_PAGE, (off_t) order[i] * BENCH_PAGE)
        != BENCH_PAGE)
      err (EXIT_FAILURE, "pread");
  return (cpu_ns () - start) / 1000.0 / n;
}

static void
report (const char *device, const char *algorithm, const char *step,
        size_t nr_pages)
{
  char filename[128], text[256];
  uint64_t orig, compr, used, limit, max, same, compacted, huge;

  sysfs_name (filename, sizeof filename, device, "compact");
  if (sysfs_write (filename, "1") == -1)
    err (EXIT_FAILURE, "%s", filename);
  sysfs_read (device, "mm_stat", text, sizeof text);
  if (sscanf (text, "%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
              " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64, &orig, &compr,
              &used, &limit, &max, &same, &compacted, &huge) != 8)
    errx (EXIT_FAILURE, "%s: mm_stat: '%s'", device, text);
  printf ("kernel algorithm=%s step=%s orig=%" PRIu64 " compr=%" PRIu64
          " mem_used=%" PRIu64 " slots=%" PRIu64 " same=%" PRIu64
          " huge=%" PRIu64 " compacted=%" PRIu64 "\n",
          algorithm, step, orig, compr, used,
          (uint64_t) nr_pages * SLOT_SIZE, same, huge, compacted);
  fflush (stdout);
}

int
main (int argc, char *argv[])
{
  struct corpus corpus;
  size_t overwrites;
  uint32_t *order;
  double write_us = 0;
  const int signals[] = { SIGHUP, SIGINT, SIGPIPE, SIGTERM };

  if (argc != 6) {
    fprintf (stderr, "usage: bench-kernel CORPUS PAGES OVERWRITES "
             "DEVICE ALGORITHM\n");
    return EXIT_FAILURE;
  }
  if (sysconf (_SC_PAGESIZE) != BENCH_PAGE)
    skip ("the kernel's pages are not %d bytes", BENCH_PAGE);
  overwrites = parse_count ("OVERWRITES", argv[3]);
  corpus = corpus_load (argv[1], parse_count ("PAGES", argv[2]),
                        CORPUS_KEEP_SAME);
  order = small_pages (corpus.nr_pages * sizeof *order);

  /* Whoever started us may be killed; we have something to give back. */
  prctl (PR_SET_PDEATHSIG, SIGTERM);
  atexit (give_back);
  for (size_t i = 0; i < sizeof signals / sizeof signals[0]; ++i)
    signal (signals[i], interrupted);
  take (argv[4], argv[5], (uint64_t) corpus.nr_pages * BENCH_PAGE);
  open_device (argv[4]);

  write_all (&corpus, order, 0);
  report (argv[4], argv[5], "fill", corpus.nr_pages);
  for (unsigned round = 1; round <= overwrites; ++round)
    write_us = write_all (&corpus, order, round);
  report (argv[4], argv[5], "overwritten", corpus.nr_pages);
  printf ("kernel-time algorithm=%s write_us=%.3f read_us=%.3f\n", argv[5],
          write_us, read_all (&corpus, order));
  return EXIT_SUCCESS;
}
