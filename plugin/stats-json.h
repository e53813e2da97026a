/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The statistics of a disk as a JSON text. */

#ifndef STATS_JSON_H
#define STATS_JSON_H

#include <stddef.h>

#include "disk.h"

/* Returns the text, which the caller must free, and its length in *len
 * (without the NUL).  NULL and errno if there is no memory.  Can be
 * called from any thread.
 */
char *stats_json (const struct disk *, size_t *len);

#endif /* STATS_JSON_H */
