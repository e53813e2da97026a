/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* A tier on a file or a block device.
 *
 * Direct I/O where the file system has it: what goes through the page
 * cache takes as much memory as it frees.  Where it has not, pages are
 * dropped from the cache once they are written or read, and none is read
 * ahead.  (On tmpfs that is of no use: the cache is the storage.)
 *
 * What belongs to somebody is refused: a device that is mounted or in use
 * otherwise by the kernel (O_EXCL), a file that another server uses by its
 * lock, and the rest by the mark (tier-mark.c).
 *
 * When the machine swaps to us (ZRAM_TIER_SWAP), the kernel must be able to
 * write without asking for memory, as it does to a swap file, and the rules
 * are those of swapon: direct I/O, all blocks allocated and initialised, on
 * a file system that writes them where they are.  Nothing is discarded, since
 * that changes the file system's records.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <linux/fs.h>

#include "tier-mark.h"
#include "tier.h"

/* Extents that the kernel is asked for at a time. */
#define NR_EXTENTS 32

struct file {
  int fd;
  bool direct, device;
};

/* How it is to be opened. */
struct request {
  const char *path;
  uint64_t wanted;              /* 0: what it has */
  unsigned flags;
  bool device;
  bool created;                 /* it was not there */
};

/* ---- I/O ----------------------------------------------------------- */

/* Have nothing in the page cache that is not in use. */
static void
drop (const struct file *file, uint64_t count, uint64_t offset)
{
  if (!file->direct)
    posix_fadvise (file->fd, offset, count, POSIX_FADV_DONTNEED);
}

static int
file_read (void *opaque, void *buf, size_t count, uint64_t offset)
{
  const struct file *file = opaque;
  const uint64_t start = offset;
  const size_t all = count;
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
  drop (file, all, start);
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
    drop (file, all, start);
  }
  return 0;
}

/* Whatever is there afterwards, no checksum fits it.  (To punch a hole into a
 * device would have it write zeroes, if that is what it can do.)
 */
static int
file_discard (void *opaque, uint64_t count, uint64_t offset)
{
  const struct file *file = opaque;
  uint64_t range[2] = { offset, count };

  if (file->device)
    return ioctl (file->fd, BLKDISCARD, range);
  return fallocate (file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                    offset, count);
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

static const struct zram_tier_ops file_ops_swap = {
  .read = file_read,
  .write = file_write,
  .close = file_close,
};

/* ---- The mark ------------------------------------------------------ */

static bool
has_nothing_at_its_end (const struct file *file, unsigned char *buf)
{
  off_t end = lseek (file->fd, 0, SEEK_END);
  off_t from = end > TIER_MARK_LOOK ? end - TIER_MARK_LOOK : 0;
  ssize_t n = pread (file->fd, buf, TIER_MARK_LOOK,
                     (from + TIER_BLOCK - 1) / TIER_BLOCK * TIER_BLOCK);

  if (end == -1 || n == -1)
    return false;
  errno = EEXIST;
  return tier_mark_is_nothing (buf, n);
}

/* Whether what is there is ours, or nothing.  EEXIST if not. */
static bool
is_ours (const struct file *file, unsigned char *buf)
{
  ssize_t n = pread (file->fd, buf, TIER_MARK_LOOK, 0);

  if (n == -1)
    return false;
  errno = EEXIST;
  return tier_mark_is_ours (buf, n)
    || (tier_mark_is_nothing (buf, n) && has_nothing_at_its_end (file, buf));
}

static bool
write_mark (const struct file *file, unsigned char *buf)
{
  return tier_mark_fill (buf)
    && file_write ((void *) file, buf, TIER_MARK_AREA, 0) == 0;
}

/* ---- Files that can be written without memory ---------------------- */

/* Whether a file system writes blocks where they are.  Of others we know
 * these that can tell which blocks a file has.
 */
static bool
writes_in_place (const struct file *file)
{
  struct statfs fs;

  if (fstatfs (file->fd, &fs) == -1)
    return false;
  errno = EOPNOTSUPP;
  switch ((uint32_t) fs.f_type) {
  case 0x9123683e:              /* btrfs */
  case 0xca451a4e:              /* bcachefs */
  case 0xf2f52010:              /* f2fs */
    return false;
  }
  return true;
}

struct extents {
  struct fiemap map;
  struct fiemap_extent extents[NR_EXTENTS];
};

/* The extents of a file from OFFSET on.  EOPNOTSUPP if it is not known. */
static bool
get_extents (const struct file *file, uint64_t offset, uint64_t end,
             struct extents *e)
{
  memset (e, 0, sizeof *e);
  e->map.fm_start = offset;
  e->map.fm_length = end - offset;
  e->map.fm_flags = FIEMAP_FLAG_SYNC;
  e->map.fm_extent_count = NR_EXTENTS;
  if (ioctl (file->fd, FS_IOC_FIEMAP, &e->map) == 0)
    return true;
  if (errno == ENOTTY || errno == EINVAL)
    errno = EOPNOTSUPP;
  return false;
}

/* What the kernel would have to change, or to copy, in order to write. */
#define NOT_READY (FIEMAP_EXTENT_UNKNOWN | FIEMAP_EXTENT_DELALLOC       \
                   | FIEMAP_EXTENT_ENCODED | FIEMAP_EXTENT_DATA_ENCRYPTED \
                   | FIEMAP_EXTENT_NOT_ALIGNED | FIEMAP_EXTENT_DATA_INLINE \
                   | FIEMAP_EXTENT_DATA_TAIL | FIEMAP_EXTENT_UNWRITTEN  \
                   | FIEMAP_EXTENT_SHARED)

/* Whether all blocks are there: no holes, and nothing only reserved.
 * ENODATA if not.
 */
static bool
is_initialised (const struct file *file, uint64_t size)
{
  struct extents e;
  uint64_t offset = 0;
  unsigned i;

  while (offset < size) {
    if (!get_extents (file, offset, size, &e))
      return false;
    errno = ENODATA;
    if (e.map.fm_mapped_extents == 0)
      return false;
    for (i = 0; i < e.map.fm_mapped_extents; i++) {
      if (e.extents[i].fe_logical > offset
          || e.extents[i].fe_flags & NOT_READY)
        return false;
      offset = e.extents[i].fe_logical + e.extents[i].fe_length;
    }
  }
  return true;
}

static bool
write_zeroes (const struct file *file, uint64_t size, unsigned char *buf)
{
  uint64_t offset, count;

  memset (buf, 0, TIER_MARK_LOOK);
  for (offset = 0; offset < size; offset += count) {
    count = size - offset < TIER_MARK_LOOK ? size - offset
      : TIER_MARK_LOOK;
    if (file_write ((void *) file, buf, count, offset) == -1)
      return false;
  }
  return fsync (file->fd) == 0;
}

/* Have it so.  The file has its size; whoever has said what that is to be
 * has its blocks written.
 */
static bool
initialise (const struct file *file, const struct request *request,
            uint64_t size, unsigned char *buf)
{
  if (is_initialised (file, size))
    return true;
  return errno == ENODATA && request->wanted
    && write_zeroes (file, size, buf) && is_initialised (file, size);
}

/* Before anything is changed. */
static bool
can_swap (const struct file *file)
{
  struct extents e;

  return writes_in_place (file) && get_extents (file, 0, TIER_BLOCK, &e);
}

/* ---- Opening ------------------------------------------------------- */

/* A file that cannot be opened with O_DIRECT would be made all the same. */
static bool
create (const char *path)
{
  int fd = open (path, O_RDWR | O_CLOEXEC | O_CREAT | O_EXCL, 0600);

  if (fd >= 0)
    close (fd);
  return fd >= 0;
}

static int
open_file (const struct request *request, bool *direct)
{
  int flags = O_RDWR | O_CLOEXEC | (request->device ? O_EXCL : 0);
  int fd = open (request->path, flags | O_DIRECT);

  *direct = fd >= 0;
  if (fd >= 0 || errno != EINVAL)
    return fd;
  if (request->flags & ZRAM_TIER_SWAP) {
    errno = EOPNOTSUPP;
    return -1;
  }
  fd = open (request->path, flags);
  if (fd >= 0)
    posix_fadvise (fd, 0, 0, POSIX_FADV_RANDOM);
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
size_of (const struct file *file, const struct request *request)
{
  uint64_t size = 0;

  if (!(request->device ? device_size (file->fd, &size)
        : file_size (file->fd, request->wanted, &size)))
    return 0;
  if (size < ZRAM_TIER_SIZE_MIN) {
    errno = EINVAL;
    return 0;
  }
  return request->wanted && request->wanted < size ? request->wanted : size;
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

/* Whether it can be read in blocks of our size, which direct I/O allows only
 * where the storage has no larger ones.  EMSGSIZE if not.
 */
static bool
has_small_blocks (const struct file *file, unsigned char *buf)
{
  if (pread (file->fd, buf, TIER_BLOCK, TIER_BLOCK) != -1)
    return true;
  if (errno == EINVAL)
    errno = EMSGSIZE;
  return false;
}

/* Whether the file may be used. */
static bool
may_use (const struct file *file, const struct request *request,
         unsigned char *buf)
{
  bool regular = !request->device;

  return (!regular || lock_file (file))
    && (request->flags & ZRAM_TIER_FORCE || is_ours (file, buf))
    && (!regular || !(request->flags & ZRAM_TIER_SWAP) || can_swap (file));
}

/* Nothing is changed before it is known that it may be.  Returns the size,
 * or 0 and errno.
 */
static uint64_t
claim (const struct file *file, const struct request *request)
{
  unsigned char *buf = aligned_alloc (TIER_BLOCK, TIER_MARK_LOOK);
  uint64_t size = 0;
  int err;

  if (buf && may_use (file, request, buf))
    size = size_of (file, request);
  if (size && !request->device && request->flags & ZRAM_TIER_SWAP
      && !initialise (file, request, size, buf))
    size = 0;
  if (size && !has_small_blocks (file, buf))
    size = 0;
  if (size && !write_mark (file, buf))
    size = 0;
  err = errno;
  drop (file, 0, 0);            /* what it was looked at for */
  free (buf);
  errno = err;
  return size;
}

/* NULL and errno on failure. */
static struct file *
open_claimed (const struct request *request, uint64_t *size)
{
  struct file *file = malloc (sizeof *file);
  int err;

  if (file == NULL)
    return NULL;
  file->device = request->device;
  file->fd = open_file (request, &file->direct);
  *size = file->fd >= 0 ? claim (file, request) : 0;
  if (*size)
    return file;
  err = errno;
  if (file->fd >= 0)
    close (file->fd);
  free (file);
  errno = err;
  return NULL;
}

int
zram_tier_file (const char *path, uint64_t wanted, unsigned flags,
                struct zram_tier *tier)
{
  struct request request = {
    .path = path, .wanted = wanted / TIER_BLOCK * TIER_BLOCK, .flags = flags,
  };
  struct stat st;
  struct file *file;
  uint64_t size;
  int err;

  if (wanted && wanted < ZRAM_TIER_SIZE_MIN) {
    errno = EINVAL;
    return -1;
  }
  request.device = stat (path, &st) == 0 && S_ISBLK (st.st_mode);
  request.created = wanted && !request.device && create (path);
  file = open_claimed (&request, &size);
  if (file) {
    *tier = (struct zram_tier) {
      flags & ZRAM_TIER_SWAP ? &file_ops_swap : &file_ops, file, size,
    };
    return 0;
  }
  err = errno;
  if (request.created && err != EBUSY)  /* then it is somebody else's now */
    unlink (path);
  errno = err;
  return -1;
}
