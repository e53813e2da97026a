/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* A tier on a file or a block device.
 *
 * Direct I/O where the file system has it: what goes through the page
 * cache takes as much memory as it frees.  Where it has not (tmpfs, for
 * one) the pages are dropped from the cache once they are written.
 *
 * What belongs to somebody is refused: a device that is mounted or in use
 * otherwise by the kernel (O_EXCL), a file that another server uses by its
 * lock, and the rest by the mark (tier-mark.c).
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/falloc.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <linux/fs.h>

#include "tier-mark.h"
#include "tier.h"

struct file {
  int fd;
  bool direct;
};

/* ---- I/O ----------------------------------------------------------- */

static int
file_read (void *opaque, void *buf, size_t count, uint64_t offset)
{
  const struct file *file = opaque;
  char *p = buf;

  while (count) {
    ssize_t r = pread (file->fd, p, count, offset);

    if (r == -1 && errno == EINTR)
      continue;
    if (r <= 0) {
      if (r == 0)               /* it was made shorter by somebody */
        errno = EIO;
      return -1;
    }
    p += r;
    offset += r;
    count -= r;
  }
  return 0;
}

static int
file_write (void *opaque, const void *buf, size_t count, uint64_t offset)
{
  const struct file *file = opaque;
  const uint64_t start = offset;
  const size_t all = count;
  const char *p = buf;

  while (count) {
    ssize_t r = pwrite (file->fd, p, count, offset);

    if (r == -1 && errno == EINTR)
      continue;
    if (r <= 0) {
      if (r == 0)
        errno = EIO;
      return -1;
    }
    p += r;
    offset += r;
    count -= r;
  }
  if (!file->direct) {
    if (sync_file_range (file->fd, start, all, SYNC_FILE_RANGE_WAIT_BEFORE
                         | SYNC_FILE_RANGE_WRITE
                         | SYNC_FILE_RANGE_WAIT_AFTER) == -1
        && errno != ESPIPE && errno != EINVAL && errno != ENOSYS)
      return -1;
    posix_fadvise (file->fd, start, all, POSIX_FADV_DONTNEED);
  }
  return 0;
}

/* A hole reads as zeroes, which no checksum fits. */
static void
file_discard (void *opaque, uint64_t count, uint64_t offset)
{
  const struct file *file = opaque;

  if (fallocate (file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                 offset, count) == -1)
    return;                     /* it is only a favour */
}

static void
file_close (void *opaque)
{
  struct file *file = opaque;

  close (file->fd);
  free (file);
}

static const struct zram_tier_ops file_ops = {
  .read = file_read,
  .write = file_write,
  .discard = file_discard,
  .close = file_close,
};

/* ---- The mark ------------------------------------------------------ */

/* Whether what is there is ours, or nothing.  EEXIST if not. */
static bool
is_ours (const struct file *file, unsigned char *buf)
{
  ssize_t n = pread (file->fd, buf, TIER_SEGMENT_SIZE, 0);

  if (n == -1)
    return false;
  errno = EEXIST;
  return tier_mark_allows (buf, n);
}

static bool
write_mark (const struct file *file, unsigned char *buf)
{
  return tier_mark_fill (buf)
    && file_write ((void *) file, buf, TIER_SEGMENT_SIZE, 0) == 0;
}

/* ---- Opening ------------------------------------------------------- */

static int
open_with (const char *path, int flags, bool *direct)
{
  int fd = open (path, O_RDWR | O_CLOEXEC | O_DIRECT | flags, 0600);

  *direct = fd >= 0;
  if (fd == -1 && errno == EINVAL)
    fd = open (path, O_RDWR | O_CLOEXEC | flags, 0600);
  return fd;
}

/* The size of a device in bytes; false if it cannot be told. */
static bool
device_size (int fd, uint64_t *size)
{
  return ioctl (fd, BLKGETSIZE64, size) == 0;
}

/* Give a file its size.  0: keep what it has. */
static bool
file_size (int fd, uint64_t wanted, uint64_t *size)
{
  struct stat st;

  if (wanted && ftruncate (fd, wanted) == -1)
    return false;
  if (fstat (fd, &st) == -1)
    return false;
  *size = st.st_size;
  return true;
}

/* The usable size, or 0 and errno. */
static uint64_t
size_of (const struct file *file, bool device, uint64_t wanted)
{
  uint64_t size = 0;

  if (!(device ? device_size (file->fd, &size)
        : file_size (file->fd, wanted, &size)))
    return 0;
  if (size < 2 * TIER_SEGMENT_SIZE) {
    errno = EINVAL;
    return 0;
  }
  return wanted && wanted < size ? wanted : size;
}

/* Two servers must not take one file for theirs.  (Of a device, the kernel
 * sees to that, by O_EXCL.)  The lock is the open file's, so it stays after
 * a fork.  False and EBUSY if somebody has it; some file systems have none.
 */
static bool
lock_file (const struct file *file)
{
  if (flock (file->fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
    return true;
  errno = EBUSY;
  return false;
}

/* Nothing is changed before it is known that it may be.  Returns the size,
 * or 0 and errno.
 */
static uint64_t
claim (const struct file *file, bool device, uint64_t wanted, bool force)
{
  unsigned char *buf = aligned_alloc (TIER_BLOCK, TIER_SEGMENT_SIZE);
  uint64_t size = 0;
  int err;

  if (buf && (device || lock_file (file)) && (force || is_ours (file, buf)))
    size = size_of (file, device, wanted);
  if (size && !write_mark (file, buf))
    size = 0;
  err = errno;
  free (buf);
  errno = err;
  return size;
}

int
zram_tier_file (const char *path, uint64_t wanted, bool force,
                struct zram_tier *tier)
{
  struct stat st;
  bool device = stat (path, &st) == 0 && S_ISBLK (st.st_mode);
  struct file *file;
  int err;

  if (wanted && wanted < 2 * TIER_SEGMENT_SIZE) {
    errno = EINVAL;
    return -1;
  }
  file = malloc (sizeof *file);
  if (file == NULL)
    return -1;
  file->fd = open_with (path, device ? O_EXCL : wanted ? O_CREAT : 0,
                        &file->direct);
  if (file->fd >= 0) {
    *tier = (struct zram_tier) {
      &file_ops, file, claim (file, device, wanted, force),
    };
    if (tier->size)
      return 0;
  }
  err = errno;
  if (file->fd >= 0)
    close (file->fd);
  free (file);
  errno = err;
  return -1;
}
