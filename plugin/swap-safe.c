/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Everything that makes the process safe to swap to, but for the reserve.
 *
 * mlockall with MCL_ONFAULT: without that flag the kernel would fault in
 * all that is mapped, and the arena is a terabyte.  With it, what is in
 * memory stays, and what comes stays too.  So what we want to have before
 * the first request is faulted in here, mapping by mapping: whatever we
 * may write to (heap, data, stacks), and the code of those libraries that
 * requests run through.  Left out are reservations of address space, which
 * the kernel marks `nr' (MAP_NORESERVE), and libraries that only serve
 * other purposes, TLS for one, which would triple what an idle server
 * takes.
 *
 * It is done after the fork: a fork leaves all pages shared, so that the
 * first write to each one is a fault again.
 *
 * Stacks of nbdkit's threads do not exist yet by then, and are not ours.
 * A thread faults in what it will need of its own at its first request, so
 * a few requests on each connection have to come before the swapping.  The
 * same is true of nbdkit's buffers, which grow with the largest request.
 * So that those few reach all threads, the first request of each takes a
 * while, and the others that come meanwhile meet other threads.  (With a
 * real-time priority one thread likes to serve them all.)
 *
 * What cannot be there before is the kernel's: each reply goes through a
 * socket, in a buffer that the kernel makes for it.  We get none while
 * less memory is free than the watermark "min", like everybody.  But
 * whoever swaps out may take what lies below, and does, to send us the
 * pages.  So a little is missing up to "min", nothing is freed until we
 * reply, and we cannot reply: seen with less than a hundredth missing.
 * For threads with a real-time priority, the kernel's watermark is lower
 * by a quarter (by a half since Linux 6.4).  Those that serve have one
 * therefore, the lowest there is, and nobody else: what the keeper takes
 * must not be what they need.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include <lz4.h>
#include <zstd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "swap-safe.h"

/* Linux 5.6 and 5.14; the headers may be older. */
#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

/* What a request may need of a thread's stack: zstd some 20 KiB, error
 * messages some more.
 */
#define STACK_SIZE (96 * 1024)
#define SYSTEM_PAGE 4096

/* A mapping without a name and larger than this is not faulted in as a
 * whole.  All that the store allocates at once is much smaller.
 */
#define SPARSE_SIZE (64 << 20)

/* How long a thread's first request takes at least. */
#define FIRST_NS 100000000

#define OOM_SCORE_ADJ "/proc/self/oom_score_adj"

static void
cannot (const char *what, const char *call)
{
  nbdkit_error ("swap=true: %s: %s: %m: "
                "do not swap to this on the same machine", what, call);
}

/* ---- Memory that stays --------------------------------------------- */

static bool
lock_memory (int flags)
{
  if (mlockall (flags | MCL_ONFAULT) == 0)
    return true;
  cannot ("memory cannot be locked (it takes CAP_IPC_LOCK, or "
          "LimitMEMLOCK=infinity)", "mlockall");
  return false;
}

static bool
set_io_flusher (int on)
{
  if (prctl (PR_SET_IO_FLUSHER, on, 0, 0, 0) == 0)
    return true;
  cannot ("the kernel may wait for swapping on our behalf (it takes "
          "CAP_SYS_RESOURCE and Linux 5.6)", "PR_SET_IO_FLUSHER");
  return false;
}

/* ---- The OOM killer ------------------------------------------------ */

static bool
write_oom_score_adj (const char *text)
{
  ssize_t n = strlen (text);
  int fd = open (OOM_SCORE_ADJ, O_WRONLY | O_CLOEXEC);
  bool ok = fd >= 0 && write (fd, text, n) == n;
  int err = errno;

  if (fd >= 0)
    close (fd);
  errno = err;
  if (!ok)
    cannot ("the OOM killer may choose the server (it takes "
            "CAP_SYS_RESOURCE, or OOMScoreAdjust=-1000)", OOM_SCORE_ADJ);
  return ok;
}

/* The text of it; false if it cannot be read. */
static bool
read_oom_score_adj (char *text, size_t size)
{
  FILE *fp = fopen (OOM_SCORE_ADJ, "re");
  bool ok = fp && fgets (text, size, fp);

  if (fp)
    fclose (fp);
  return ok;
}

/* It may have been given to us (OOMScoreAdjust= of systemd). */
static bool
protect_from_oom (void)
{
  char text[16];

  return (read_oom_score_adj (text, sizeof text) && atoi (text) == -1000)
    || write_oom_score_adj ("-1000");
}

static bool
probe_oom_score_adj (void)
{
  char old[16];

  return read_oom_score_adj (old, sizeof old) && protect_from_oom ()
    && write_oom_score_adj (old);
}

/* ---- Real-time priority -------------------------------------------- */

static bool
set_scheduler (int policy, const struct sched_param *param)
{
  if (sched_setscheduler (0, policy, param) == 0)
    return true;
  cannot ("no real-time priority, so the kernel may have no memory for "
          "replies (it takes CAP_SYS_NICE, or LimitRTPRIO=1)",
          "sched_setscheduler");
  return false;
}

static bool
enter_realtime (void)
{
  const struct sched_param lowest = {
    .sched_priority = sched_get_priority_min (SCHED_RR),
  };

  return set_scheduler (SCHED_RR, &lowest);
}

static bool
probe_realtime (void)
{
  int policy = sched_getscheduler (0);
  struct sched_param param;

  return policy != -1 && sched_getparam (0, &param) == 0
    && enter_realtime () && set_scheduler (policy, &param);
}

/* ---- Mappings ------------------------------------------------------ */

/* A mapping as /proc/self/smaps tells of it. */
struct mapping {
  uintptr_t start, end;
  char permissions[8];          /* as in "rw-p" */
  char path[512];               /* "" if it has none */
  bool reserved;                /* MAP_NORESERVE */
};

/* The first line of those about a mapping; false if it is another. */
static bool
parse_mapping (char *line, struct mapping *m)
{
  struct mapping parsed;
  int path = 0;

  if (sscanf (line, "%" SCNxPTR "-%" SCNxPTR " %7s %*s %*s %*s %n",
              &parsed.start, &parsed.end, parsed.permissions, &path) != 3)
    return false;
  line[strcspn (line, "\n")] = '\0';
  snprintf (parsed.path, sizeof parsed.path, "%s", line + path);
  *m = parsed;
  return true;
}

/* The next one; false at the end. */
static bool
read_mapping (FILE *smaps, struct mapping *m)
{
  char line[1024];
  bool found = false;

  while (fgets (line, sizeof line, smaps)) {
    if (parse_mapping (line, m))
      found = true;
    else if (found && strncmp (line, "VmFlags:", 8) == 0) {
      m->reserved = strstr (line, " nr") != NULL;
      return true;
    }
  }
  return false;
}

typedef void mapping_fn (const struct mapping *, void *opaque);

static bool
for_each_mapping (mapping_fn *fn, void *opaque)
{
  FILE *smaps = fopen ("/proc/self/smaps", "re");
  struct mapping m;

  if (smaps == NULL)
    return false;
  while (read_mapping (smaps, &m))
    fn (&m, opaque);
  fclose (smaps);
  return true;
}

/* ---- The files whose code requests run through --------------------- */

#define NR_FILES 6

struct files {
  uintptr_t anchors[NR_FILES];  /* an address in each of them */
  char paths[NR_FILES][512];
};

static const struct files no_files = { .anchors = { 0 } };

static void
find_anchors (struct files *files)
{
  *files = no_files;
  files->anchors[0] = (uintptr_t) nbdkit_error;         /* nbdkit */
  files->anchors[1] = (uintptr_t) swap_safe_enter;      /* the plugin */
  files->anchors[2] = (uintptr_t) ZSTD_compress2;
  files->anchors[3] = (uintptr_t) LZ4_compress_default;
  files->anchors[4] = (uintptr_t) fopen;                /* libc */
  files->anchors[5] = getauxval (AT_BASE);              /* ld.so */
}

static void
find_path (const struct mapping *m, void *opaque)
{
  struct files *files = opaque;
  unsigned i;

  for (i = 0; i < NR_FILES; i++)
    if (m->start <= files->anchors[i] && files->anchors[i] < m->end)
      snprintf (files->paths[i], sizeof files->paths[i], "%s", m->path);
}

static bool
is_needed (const struct files *files, const struct mapping *m)
{
  unsigned i;

  for (i = 0; m->path[0] && i < NR_FILES; i++)
    if (strcmp (files->paths[i], m->path) == 0)
      return true;
  return false;
}

/* ---- Faulting in --------------------------------------------------- */

/* Before Linux 5.14, locking is the way to do it. */
static bool
populate (const struct mapping *m, int advice)
{
  void *start = (void *) m->start;
  size_t size = m->end - m->start;

  return madvise (start, size, advice) == 0
    || (errno == EINVAL && mlock (start, size) == 0);
}

/* nbdkit has an array of 192 MiB, of which it uses little. */
static bool
is_sparse (const struct mapping *m)
{
  return m->path[0] == '\0' && m->end - m->start > SPARSE_SIZE;
}

/* Write to those pages that are in memory, so that they are not shared
 * any more with the process that forked us.  (Some are a sanitizer's own,
 * which it thinks nobody has business with.)
 */
static __attribute__ ((no_sanitize_address, no_sanitize_thread)) bool
unshare_resident (const struct mapping *m)
{
  unsigned char in_core;
  uintptr_t page;

  for (page = m->start; page < m->end; page += SYSTEM_PAGE)
    if (mincore ((void *) page, SYSTEM_PAGE, &in_core) == 0 && in_core)
      __atomic_fetch_or ((char *) page, 0, __ATOMIC_RELAXED);
  return true;
}

struct populating {
  struct files files;
  struct mapping failed;        /* one that could not be had */
};

static void
populate_mapping (const struct mapping *m, void *opaque)
{
  struct populating *p = opaque;
  bool ours = strchr (m->permissions, 'p') && !m->reserved;
  bool ok = true;

  if (ours && strncmp (m->permissions, "rw", 2) == 0)
    ok = is_sparse (m) ? unshare_resident (m)
      : populate (m, MADV_POPULATE_WRITE);
  else if (ours && m->permissions[0] == 'r' && is_needed (&p->files, m))
    ok = populate (m, MADV_POPULATE_READ);
  if (!ok)
    p->failed = *m;
}

static bool
preallocate (void)
{
  struct populating p = { .failed = { .end = 0 } };

  find_anchors (&p.files);
  if (!for_each_mapping (find_path, &p.files)
      || !for_each_mapping (populate_mapping, &p))
    cannot ("it is not known what must be in memory", "/proc/self/smaps");
  else if (p.failed.end)
    nbdkit_error ("swap=true: %" PRIxPTR "-%" PRIxPTR " %s cannot be read "
                  "into memory: do not swap to this on the same machine",
                  p.failed.start, p.failed.end, p.failed.path);
  else
    return true;
  return false;
}

static __thread bool stack_is_there
  __attribute__ ((tls_model ("initial-exec")));

/* A page a time, downwards, as stacks grow. */
static __attribute__ ((noinline)) void
touch_stack (void)
{
  volatile char stack[STACK_SIZE];
  size_t i;

  for (i = sizeof stack; i >= SYSTEM_PAGE; i -= SYSTEM_PAGE)
    stack[i - 1] = 0;
}

/* ---- All of it ----------------------------------------------------- */

void
swap_safe_probe (struct swap_safe *safe)
{
  safe->memory_locked = lock_memory (MCL_CURRENT);
  if (safe->memory_locked)
    munlockall ();
  safe->io_flusher = set_io_flusher (1) && set_io_flusher (0);
  safe->oom_score_adj = probe_oom_score_adj ();
  safe->realtime = probe_realtime ();
}

void
swap_safe_enter (struct swap_safe *safe)
{
  safe->io_flusher = safe->io_flusher && set_io_flusher (1);
  safe->oom_score_adj = safe->oom_score_adj && protect_from_oom ();
  safe->memory_locked = safe->memory_locked
    && lock_memory (MCL_CURRENT | MCL_FUTURE);
  safe->preallocated = preallocate ();
}

void
swap_safe_serve (struct swap_safe *safe)
{
  if (safe->realtime && !enter_realtime ())
    safe->realtime = false;
}

void
swap_safe_thread (void)
{
  const struct timespec a_while = { .tv_nsec = FIRST_NS };

  if (__builtin_expect (!stack_is_there, 0)) {
    touch_stack ();
    stack_is_there = true;
    nanosleep (&a_while, NULL);
  }
}
