/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* One JSON object with everything that is known of a disk.
 *
 * Names, meanings and units are those of Linux zram's mm_stat, io_stat
 * and bd_stat, so that who can read those can read these.  The object is
 * flat, but for dictionaries, swapping and tiers, and has one name on each
 * line: it is read by eye and by grep as often as by a JSON parser.  All
 * values are numbers, or names of our own choosing that need no escapes.
 */

#include <config.h>

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "stats-json.h"

static void
put_number (FILE *fp, const char *name, uint64_t value)
{
  fprintf (fp, ",\n  \"%s\": %" PRIu64, name, value);
}

static void
put_name (FILE *fp, const char *name, const char *value)
{
  fprintf (fp, ",\n  \"%s\": \"%s\"", name, value);
}

/* Per mille become a fraction.  No floating point: printf would take
 * the decimal point of whatever locale there is.
 */
static void
put_dictionary (FILE *fp, const struct zram_store_stats *s)
{
  unsigned i;

  fprintf (fp, ",\n  \"dictionary\": {"
           "\n    \"generation\": %u"
           ",\n    \"trained_from\": %u"
           ",\n    \"size_gain\": %u.%03u"
           ",\n    \"time_gain\": %u.%03u"
           ",\n    \"objects\": [",
           s->dictionary_generation, s->dictionary_trained_from,
           s->dictionary_size_gain / 1000, s->dictionary_size_gain % 1000,
           s->dictionary_time_gain / 1000, s->dictionary_time_gain % 1000);
  for (i = 0; i < s->dictionaries; i++)
    fprintf (fp, "%s%" PRIu64, i ? ", " : " ", s->dictionary_objects[i]);
  fprintf (fp, " ]\n  }");
}

static void
put_bool (FILE *fp, const char *name, bool value, const char *end)
{
  fprintf (fp, "\n    \"%s\": %s%s", name, value ? "true" : "false", end);
}

/* One for each thing that swap=true does. */
static void
put_swap_safe (FILE *fp, const struct disk *disk,
               const struct zram_memory_stats *m)
{
  const struct swap_safe *safe = &disk->safe;

  fprintf (fp, ",\n  \"swap_safe\": {");
  put_bool (fp, "memory_locked", safe->memory_locked, ",");
  put_bool (fp, "io_flusher", safe->io_flusher, ",");
  put_bool (fp, "oom_score_adj", safe->oom_score_adj, ",");
  put_bool (fp, "reserve", m->reserve_size > 0, ",");
  put_bool (fp, "preallocated", safe->preallocated, "\n  }");
}

static void
put_tiers (FILE *fp, const struct zram_memory_stats *m)
{
  unsigned i;

  fprintf (fp, ",\n  \"tiers\": [");
  for (i = 0; i < m->nr_tiers; i++) {
    const struct zram_tier_stats *t = &m->tiers[i];

    fprintf (fp, "%s\n    {\n      \"size\": %" PRIu64
             ",\n      \"segments\": %" PRIu64
             ",\n      \"free_segments\": %" PRIu64
             ",\n      \"pages\": %" PRIu64
             ",\n      \"bytes_written\": %" PRIu64
             ",\n      \"reads\": %" PRIu64 ",\n      \"writes\": %" PRIu64
             ",\n      \"read_errors\": %" PRIu64
             ",\n      \"write_errors\": %" PRIu64 "\n    }",
             i ? "," : "", t->size, t->segments, t->free_segments, t->pages,
             t->bytes_written, t->reads, t->writes, t->read_errors,
             t->write_errors);
  }
  fprintf (fp, m->nr_tiers ? "\n  ]" : " ]");
}

char *
stats_json (const struct disk *disk, size_t *len)
{
  struct zram_store_stats s;
  struct zram_memory_stats m;
  char *text = NULL;
  FILE *fp;

  zram_store_stats (disk->store, &s);
  zram_memory_stats (disk->memory, &m);

  fp = open_memstream (&text, len);
  if (!fp)
    return NULL;

  fprintf (fp, "{\n  \"disksize\": %" PRIu64, s.disksize);
  put_name (fp, "instance", disk->instance);
  put_name (fp, "algorithm", zram_algorithm_name (disk->codec.algorithm));
  fprintf (fp, ",\n  \"level\": %d", disk->codec.level);
  put_name (fp, "allocator", zram_allocator_name (disk->allocator));

  /* mm_stat */
  put_number (fp, "orig_data_size", s.orig_data_size);
  put_number (fp, "compr_data_size", s.compr_data_size);
  put_number (fp, "mem_used_total", m.mem_used_total);
  put_number (fp, "mem_limit", m.mem_limit);
  put_number (fp, "mem_used_max", m.mem_used_max);
  put_number (fp, "same_pages", s.same_pages);
  put_number (fp, "pages_compacted", m.pages_compacted);
  put_number (fp, "huge_pages", s.huge_pages);
  put_number (fp, "huge_pages_since", s.huge_pages_since);

  /* io_stat */
  put_number (fp, "failed_reads", s.failed_reads);
  put_number (fp, "failed_writes", s.failed_writes);
  put_number (fp, "invalid_io", s.invalid_io);
  put_number (fp, "notify_free", s.notify_free);

  /* bd_stat: tiers are what zram calls the backing device. */
  put_number (fp, "bd_count", s.bd_count);
  put_number (fp, "bd_reads", s.bd_reads);
  put_number (fp, "bd_writes", s.bd_writes);

  /* What zram has no name for. */
  put_number (fp, "resident", m.resident);
  put_number (fp, "slot_table_size", m.slot_table_size);
  put_number (fp, "grouped_pages", s.grouped_pages);
  put_dictionary (fp, &s);
  put_number (fp, "reserve_size", m.reserve_size);
  put_number (fp, "reserve_low", m.reserve_low);
  put_number (fp, "reserve_waits", m.reserve_waits);
  put_swap_safe (fp, disk, &m);
  put_tiers (fp, &m);
  fputs ("\n}\n", fp);

  if (fclose (fp) == EOF) {
    free (text);
    return NULL;
  }
  return text;
}
