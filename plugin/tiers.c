/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Tiers as they are asked for.  See tiers.h.
 *
 * nbdkit changes its directory when it has started, and a connection to an
 * NBD server may have to be made again later.  So the path of a socket that
 * a URI has in it is made absolute, as the path of a file is.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <sys/stat.h>
#include <sys/vfs.h>

#include <linux/magic.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "complain.h"
#include "tiers.h"
#include "values.h"

/* A file as large as this takes its time to be written. */
#define LARGE_SIZE (UINT64_C (1) << 30)

/* ---- Paths --------------------------------------------------------- */

static bool
is_uri (const char *text)
{
  return strstr (text, "://") != NULL;
}

/* Where the path of a socket begins in a URI; NULL if it has none. */
static const char *
find_socket (const char *uri)
{
  const char *p = strchr (uri, '?');

  while (p && strncmp (p + 1, "socket=", 7) != 0)
    p = strchr (p + 1, '&');
  return p ? p + 8 : NULL;
}

bool
tier_is_relative (const char *text)
{
  const char *path = is_uri (text) ? find_socket (text) : text;

  return path && *path != '/' && strncasecmp (path, "%2f", 3) != 0;
}

/* PATH as a part of a URI. */
static void
put_escaped (FILE *fp, const char *path)
{
  static const char plain[] =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/-._~";

  for (; *path; path++)
    if (strchr (plain, *path))
      fputc (*path, fp);
    else
      fprintf (fp, "%%%02X", (unsigned char) *path);
}

/* The URI with the directory that we are in before the path of its socket.
 */
static char *
absolute_uri (const char *uri)
{
  const char *path = find_socket (uri);
  char *directory, *result = NULL;
  size_t len;
  FILE *fp;

  if (!tier_is_relative (uri))
    return strdup (uri);
  directory = nbdkit_realpath (".");
  fp = directory ? open_memstream (&result, &len) : NULL;
  if (fp) {
    fprintf (fp, "%.*s", (int) (path - uri), uri);
    put_escaped (fp, directory);
    fprintf (fp, "/%s", path);
    if (fclose (fp) == EOF) {
      free (result);
      result = NULL;
    }
  }
  free (directory);
  return result;
}

/* ---- What is asked for --------------------------------------------- */

int
tier_place (struct tier_parameters *tier, const char *key, const char *text)
{
  if (*text == '\0') {
    complain ("%s=: the path of the tier is empty", key);
    return -1;
  }
  tier->text = text;
  tier->uri = is_uri (text);
  tier->place = tier->uri ? absolute_uri (text) : nbdkit_absolute_path (text);
  if (tier->place)
    return 0;
  complain ("%s=%s: %m", key, text);
  return -1;
}

int
tier_size (struct tier_parameters *tier, const char *key, const char *text)
{
  tier->size_text = text;
  if (value_size (key, text, &tier->size) == -1)
    return -1;
  if (tier->size >= ZRAM_TIER_SIZE_MIN)
    return 0;
  complain ("%s=%s: a tier must have at least %dM", key, text,
            ZRAM_TIER_SIZE_MIN >> 20);
  return -1;
}

void
tier_free (struct tier_parameters *tier)
{
  free (tier->place);
  tier->place = NULL;
}

/* Without a limit nothing would ever leave RAM. */
int
tier_check (const struct tier_parameters *tier, uint64_t mem_limit, bool swap)
{
  if (mem_limit == 0)
    complain ("tier=%s: a tier is used when mem-limit is reached, and there "
              "is no mem-limit", tier->text);
  else if (swap && tier->uri)
    complain ("tier=%s: with swap=true a tier cannot be on an NBD server: "
              "a connection needs memory", tier->text);
  else if (tier->uri && tier->size_text)
    complain ("tier-size=%s: of tier=%s the whole export is used",
              tier->size_text, tier->text);
  else
    return 0;
  return -1;
}

/* ---- Opening ------------------------------------------------------- */

/* Called for tiers that are in use. */
static void
say (const char *uri, const char *sentence)
{
  nbdkit_error ("tier=%s: %s", uri, sentence);
}

static int
open_tier (struct zram_memory *memory, const struct tier_parameters *p,
           bool swap, struct zram_tier *tier)
{
  unsigned flags = (p->force ? ZRAM_TIER_FORCE : 0)
    | (swap ? ZRAM_TIER_SWAP : 0);

  return p->uri ? zram_tier_nbd (memory, p->place, p->force, say, tier)
    : zram_tier_file (p->place, p->size, flags, tier);
}

static void
complain_of_uri (const char *text)
{
  switch (errno) {
  case EEXIST:
    complain ("tier=%s: there is something on it, which tier-force=true "
              "would overwrite", text);
    break;
  case EBUSY:
    complain ("tier=%s: this server uses that export already", text);
    break;
  case EMSGSIZE:
    complain ("tier=%s: the NBD server must take requests of 4K, and of up to "
              "1M", text);
    break;
  case EINVAL:
    complain ("tier=%s: this is no URI that libnbd understands, or the export "
              "has less than %dM", text, ZRAM_TIER_SIZE_MIN >> 20);
    break;
  default:
    complain ("tier=%s: the NBD server cannot be used: %m", text);
  }
}

static void
complain_of_file (const struct tier_parameters *p)
{
  const char *text = p->text;

  switch (errno) {
  case EBUSY:
    complain ("tier=%s: it is in use: mounted, swapped to, below another "
              "device, or the tier of a server", text);
    break;
  case EEXIST:
    complain ("tier=%s: there is something on it, which tier-force=true "
              "would overwrite", text);
    break;
  case EINVAL:
    complain ("tier=%s: it must have at least %dM (tier-size=SIZE gives "
              "a file its size)", text, ZRAM_TIER_SIZE_MIN >> 20);
    break;
  case ENOENT:
    complain ("tier=%s: %m%s", text, p->size_text ? ""
              : " (tier-size=SIZE makes it)");
    break;
  case EMSGSIZE:
    complain ("tier=%s: its blocks are larger than 4K", text);
    break;
  case ENODATA:
    complain ("tier=%s: with swap=true all of the file must have been "
              "written (tier-size=SIZE does that)", text);
    break;
  case EOPNOTSUPP:
    complain ("tier=%s: with swap=true the file system must be one that can "
              "swap to a file, with direct I/O (such as ext4 or XFS), or it "
              "must be a block device", text);
    break;
  default:
    complain ("tier=%s: %m", text);
  }
}

/* With swap=true, a file that is made is written once; it will be asked why
 * that takes so long.
 */
static void
announce (const struct tier_parameters *p, bool swap)
{
  if (swap && !p->uri && p->size >= LARGE_SIZE
      && access (p->place, F_OK) == -1)
    nbdkit_error ("tier=%s: writing zeroes, once (this may take a while)",
                  p->text);
}

/* It is allowed, for whoever tries things out. */
static void
warn_of_memory (const struct tier_parameters *p)
{
  struct statfs fs;
  struct stat st;

  if (!p->uri && stat (p->place, &st) == 0 && S_ISREG (st.st_mode)
      && statfs (p->place, &fs) == 0
      && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC))
    nbdkit_error ("tier=%s: this file is in memory itself, and takes as much "
                  "as it frees", p->text);
}

int
tier_add (struct zram_memory *memory, const struct tier_parameters *p,
          bool swap)
{
  struct zram_memory_stats stats;
  struct zram_tier tier;

  zram_memory_stats (memory, &stats);
  if (stats.nr_tiers == ZRAM_TIERS_MAX) {
    complain ("tier=%s: there are %d tiers already, and there may be no more",
              p->text, ZRAM_TIERS_MAX);
    errno = EBUSY;
    return -1;
  }
  announce (p, swap);
  if (open_tier (memory, p, swap, &tier) == -1) {
    if (p->uri)
      complain_of_uri (p->text);
    else
      complain_of_file (p);
    return -1;
  }
  if (zram_add_tier (memory, &tier) == 0) {
    warn_of_memory (p);
    return 0;
  }
  complain ("tier=%s: %s", p->text, errno == ENOSPC
            ? "mem-limit leaves no room for what it takes" : strerror (errno));
  return -1;
}
