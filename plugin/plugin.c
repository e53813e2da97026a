/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The nbdkit plugin: what nbdkit calls, and nothing else.
 *
 * There is one disk.  It is made in plugin_get_ready, the last place where
 * errors still reach the user, and clients of all exports share it.
 * Threads are made in plugin_after_fork and not earlier, since a fork
 * leaves them behind, and are gone after plugin_cleanup.  Any of these may
 * run without the ones before it (--dump-plugin, an error elsewhere), so
 * each undoes only what was done.
 *
 * No locks: the global variables are written while there is only one
 * thread, and libzram's functions for I/O may be called from any number
 * of threads.  The store is every connection's handle.
 *
 * A failed request says which operation failed, and where, in words that
 * make sense at the far end of a network: newer nbdkits send them to the
 * client.  errno goes there in any case (errno_is_preserved).
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/random.h>

#ifdef HAVE_VALGRIND_VALGRIND_H
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "control.h"
#include "disk.h"
#include "parameters.h"
#include "swap-safe.h"
#include "tiers.h"
#include "zram.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

/* The largest request that nbdkit takes. */
#define MAX_REQUEST (64 << 20)

/* Enough for any test. */
#define VALGRIND_ARENA_SIZE (UINT64_C (2) << 30)

static struct parameters parameters = PARAMETERS_DEFAULT;
static struct disk disk;
static struct control *control;

/* ---- The server ---------------------------------------------------- */

static void
plugin_unload (void)
{
  zram_close (disk.store);
  zram_memory_destroy (disk.memory);
  parameters_free (&parameters);
}

static int
plugin_config (const char *key, const char *value)
{
  return parameters_set (&parameters, key, value);
}

static int
plugin_config_complete (void)
{
  return parameters_complete (&parameters);
}

static void
plugin_dump_plugin (void)
{
  static const struct parameters preset = PARAMETERS_DEFAULT;
  int i, min, max, level;

  printf ("zram_page_size=%d\n", ZRAM_PAGE_SIZE);
  printf ("zram_max_size=%" PRIi64 "\n", (int64_t) ZRAM_SIZE_MAX);
  printf ("zram_algorithms=");
  for (i = 0; i < ZRAM_NR_ALGORITHMS; i++)
    printf ("%s%s", i ? "," : "", zram_algorithm_name (i));
  printf ("\n");
  printf ("zram_default_algorithm=%s,level=%d\n",
          zram_algorithm_name (preset.codec.algorithm), preset.codec.level);
  for (i = 0; i < ZRAM_NR_ALGORITHMS; i++) {
    zram_algorithm_levels (i, &min, &max, &level);
    if (min == max)
      continue;
    printf ("zram_%s_min_level=%d\n", zram_algorithm_name (i), min);
    printf ("zram_%s_max_level=%d\n", zram_algorithm_name (i), max);
    printf ("zram_%s_default_level=%d\n", zram_algorithm_name (i), level);
  }
  printf ("zram_dictionary=auto,none\n");
  printf ("zram_default_recompress=%s,level=%d,age=%u,group=%u\n",
          zram_algorithm_name (preset.recompress.codec.algorithm),
          preset.recompress.codec.level, preset.recompress.age,
          preset.recompress.group);
  printf ("zram_allocators=");
  for (i = 0; i < ZRAM_NR_ALLOCATORS; i++)
    printf ("%s%s", i ? "," : "", zram_allocator_name (i));
  printf ("\n");
  printf ("zram_default_allocator=%s\n",
          zram_allocator_name (preset.allocator));
  printf ("zram_policies=");
  for (i = 0; i < ZRAM_NR_POLICIES; i++)
    printf ("%s%s", i ? "," : "", zram_policy_name (i));
  printf ("\n");
  printf ("zram_default_policy=%s\n", zram_policy_name (preset.policy));
  printf ("zram_max_tiers=%d\n", ZRAM_TIERS_MAX);
  printf ("zram_swap=true,false\n");
  printf ("zram_default_reserve=%" PRIu64 "\n", RESERVE_DEFAULT);
}

/* A name that no other run of a server has. */
static int
name_instance (void)
{
  uint64_t random;

  if (getrandom (&random, sizeof random, 0) != sizeof random) {
    nbdkit_error ("getrandom: %m");
    return -1;
  }
  snprintf (disk.instance, sizeof disk.instance, "zram-%016" PRIx64, random);
  return 0;
}

static int
add_tiers (void)
{
  unsigned i;

  /* A file that may not grow (ulimit -f) is an error of the tier, and not
   * the end of the server.
   */
  if (parameters.nr_tiers)
    signal (SIGXFSZ, SIG_IGN);
  for (i = 0; i < parameters.nr_tiers; i++)
    if (tier_add (disk.memory, &parameters.tiers[i], parameters.swap) == -1)
      return -1;
  return 0;
}

static int
plugin_get_ready (void)
{
  struct zram_memory_config config = parameters_memory_config (&parameters);

  /* The arena is all the address space that a slot can name, and it
   * takes valgrind a minute to write that down.
   */
  if (RUNNING_ON_VALGRIND)
    config.arena_size = VALGRIND_ARENA_SIZE;

  disk.codec = parameters.codec;
  disk.allocator = parameters.allocator;
  disk.policy = parameters.policy;
  disk.writeback_limit = parameters.writeback_limit;
  disk.idle_age = parameters.recompress.age;
  disk.swap = parameters.swap;
  if (name_instance () == -1)
    return -1;
  disk.memory = zram_memory_create (&config);
  if (!disk.memory) {
    nbdkit_error ("cannot set up memory: %m");
    return -1;
  }
  if (add_tiers () == -1)
    return -1;
  disk.store = zram_open (disk.memory, parameters.size, &disk.codec);
  if (!disk.store) {
    nbdkit_error ("cannot make a disk of %" PRIu64 " bytes%s%s: %s",
                  parameters.size,
                  parameters.dictionary ? " with dictionary=" : "",
                  parameters.dictionary ? parameters.dictionary_text : "",
                  errno == ENOSPC ? "mem-limit leaves no room for it"
                  : strerror (errno));
    return -1;
  }

  if (disk.swap)
    swap_safe_probe (&disk.safe);
  if (parameters.control) {
    control = control_bind (parameters.control);
    if (!control)
      return -1;
  }
  return 0;
}

static int
plugin_after_fork (void)
{
  if (disk.swap)
    swap_safe_enter (&disk.safe);
  if (zram_memory_start (disk.memory) == -1) {
    nbdkit_error ("cannot start the background threads: %m");
    return -1;
  }
  if (control && control_start (control, &disk) == -1)
    return -1;
  if (disk.swap)
    swap_safe_serve (&disk.safe);
  return 0;
}

static void
plugin_cleanup (void)
{
  /* A request on the control socket may take long. */
  if (disk.memory)
    zram_interrupt (disk.memory);
  control_free (control);
  control = NULL;
  if (disk.memory)
    zram_memory_stop (disk.memory);
}

/* ---- Connections --------------------------------------------------- */

/* The disk has two names: none, and that of the instance.  A client whose
 * data must not be lost asks for the instance: if the server was started
 * anew meanwhile, and is empty, it is refused, and does not take zeroes
 * for its data.
 */
static void *
plugin_open (int readonly)
{
  const char *name = nbdkit_export_name ();

  (void) readonly;
  if (name && *name && strcmp (name, disk.instance) != 0) {
    nbdkit_error ("export '%s': there is no such disk, or no more: "
                  "this server was started as '%s', and what an earlier one "
                  "had stored is gone", name, disk.instance);
    errno = ENOENT;
    return NULL;
  }
  return disk.store;
}

static int
plugin_list_exports (int readonly, int is_tls, struct nbdkit_exports *exports)
{
  (void) readonly;
  (void) is_tls;
  return nbdkit_add_export (exports, disk.instance,
                            "this run of the server, and no later one");
}

static const char *
plugin_default_export (int readonly, int is_tls)
{
  (void) readonly;
  (void) is_tls;
  return disk.instance;
}

static int64_t
plugin_get_size (void *handle)
{
  return zram_size (handle);
}

static int
plugin_block_size (void *handle,
                   uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
  (void) handle;
  *minimum = 1;
  *preferred = ZRAM_PAGE_SIZE;
  *maximum = MAX_REQUEST;
  return 0;
}

/* What one connection has written, all others see. */
static int
plugin_can_multi_conn (void *handle)
{
  (void) handle;
  return 1;
}

/* Nothing is more permanent than our memory, so everything is as
 * permanent as it can be at once.
 */
static int
plugin_can_fua (void *handle)
{
  (void) handle;
  return NBDKIT_FUA_NATIVE;
}

/* Everything is in memory already, so nbdkit need not call anything. */
static int
plugin_can_cache (void *handle)
{
  (void) handle;
  return NBDKIT_CACHE_NATIVE;
}

static int
plugin_can_fast_zero (void *handle)
{
  (void) handle;
  return 1;
}

/* ---- Requests ------------------------------------------------------ */

static void
enter_thread (void)
{
  if (disk.swap)
    swap_safe_thread ();
}

static int
request_failed (const char *operation, uint32_t count, uint64_t offset)
{
  int err = errno;

  nbdkit_error ("%s of %" PRIu32 " bytes at %" PRIu64 " failed: %m%s",
                operation, count, offset,
                err == ENOSPC && parameters.writeback_limit
                ? ", or writeback-limit is reached" : "");
  errno = err;
  return -1;
}

static int
plugin_pread (void *handle, void *buf, uint32_t count, uint64_t offset,
              uint32_t flags)
{
  (void) flags;
  enter_thread ();
  if (zram_read (handle, buf, count, offset) == -1)
    return request_failed ("read", count, offset);
  return 0;
}

static int
plugin_pwrite (void *handle, const void *buf, uint32_t count, uint64_t offset,
               uint32_t flags)
{
  (void) flags;
  enter_thread ();
  if (zram_write (handle, buf, count, offset) == -1)
    return request_failed ("write", count, offset);
  return 0;
}

static int
plugin_flush (void *handle, uint32_t flags)
{
  (void) handle;
  (void) flags;
  return 0;
}

static int
plugin_trim (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  (void) flags;
  enter_thread ();
  if (zram_trim (handle, count, offset) == -1)
    return request_failed ("trim", count, offset);
  return 0;
}

/* Holes even without NBDKIT_FLAG_MAY_TRIM.  A client that wants none
 * wants to be sure that later writes find room, and no page of ours can
 * promise that: what it takes depends on what is written to it.
 */
static int
plugin_zero (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  (void) flags;
  enter_thread ();
  if (zram_zero (handle, count, offset) == -1)
    return request_failed ("zero", count, offset);
  return 0;
}

struct extents_request {
  struct nbdkit_extents *extents;
  uint32_t flags;
};

/* nbdkit has a limit of 2^20 extents, which it does not tell us of, but
 * that is what a request for 4 GiB has at the most.
 */
static int
add_extent (void *opaque, uint64_t offset, uint64_t count,
            enum zram_extent type)
{
  struct extents_request *request = opaque;
  uint32_t nbd_type = 0;

  switch (type) {
  case ZRAM_EXTENT_DATA:
    nbd_type = 0;
    break;
  case ZRAM_EXTENT_ZERO:
    nbd_type = NBDKIT_EXTENT_ZERO;
    break;
  case ZRAM_EXTENT_HOLE:
    nbd_type = NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO;
    break;
  }

  if (nbdkit_add_extent (request->extents, offset, count, nbd_type) == -1)
    return -1;
  return request->flags & NBDKIT_FLAG_REQ_ONE ? 1 : 0;
}

static int
plugin_extents (void *handle, uint32_t count, uint64_t offset,
                uint32_t flags, struct nbdkit_extents *extents)
{
  struct extents_request request = { extents, flags };

  enter_thread ();
  if (zram_extents (handle, count, offset, add_extent, &request) == -1)
    return request_failed ("extents", count, offset);
  return 0;
}

static struct nbdkit_plugin plugin = {
  .name               = "zram",
  .longname           = "nbdkit zram plugin",
  .version            = PACKAGE_VERSION,
  .description        = "a disk whose pages live compressed in memory",
  .unload             = plugin_unload,
  .config             = plugin_config,
  .config_complete    = plugin_config_complete,
  .config_help        = PARAMETERS_HELP,
  .magic_config_key   = "size",
  .dump_plugin        = plugin_dump_plugin,
  .get_ready          = plugin_get_ready,
  .after_fork         = plugin_after_fork,
  .cleanup            = plugin_cleanup,
  .list_exports       = plugin_list_exports,
  .default_export     = plugin_default_export,
  .open               = plugin_open,
  .get_size           = plugin_get_size,
  .block_size         = plugin_block_size,
  .can_multi_conn     = plugin_can_multi_conn,
  .can_fua            = plugin_can_fua,
  .can_cache          = plugin_can_cache,
  .can_fast_zero      = plugin_can_fast_zero,
  .pread              = plugin_pread,
  .pwrite             = plugin_pwrite,
  .flush              = plugin_flush,
  .trim               = plugin_trim,
  .zero               = plugin_zero,
  .extents            = plugin_extents,
  .errno_is_preserved = 1,
};

NBDKIT_REGISTER_PLUGIN (plugin)
