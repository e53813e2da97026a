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
  put_bool (fp, "preallocated", safe->preallocated, ",");
  put_bool (fp, "realtime", safe->realtime, "\n  }");
}

static void
put_field (FILE *fp, const char *name, uint64_t value)
{
  fprintf (fp, ",\n      \"%s\": %" PRIu64, name, value);
}

/* A ratio with three decimals; 0 if there is nothing to divide by. */
static void
put_ratio (FILE *fp, const char *name, uint64_t a, uint64_t b)
{
  uint64_t mille = b ? (unsigned __int128) a * 1000 / b : 0;

  fprintf (fp, ",\n      \"%s\": %" PRIu64 ".%03" PRIu64, name, mille / 1000,
           mille % 1000);
}

/* Nanoseconds become microseconds. */
static void
put_latency (FILE *fp, const char *name, const struct zram_latency *latency)
{
  const uint64_t ns[] = { latency->p50, latency->p99, latency->max };
  unsigned i;

  fprintf (fp, ",\n      \"%s\": {", name);
  for (i = 0; i < 3; i++)
    fprintf (fp, "%s \"%s\": %" PRIu64 ".%03" PRIu64, i ? "," : "",
             i == 0 ? "p50" : i == 1 ? "p99" : "max", ns[i] / 1000,
             ns[i] % 1000);
  fprintf (fp, " }");
}

static void
put_tier (FILE *fp, const struct zram_tier_stats *t)
{
  fprintf (fp, "\n    {\n      \"number\": %u", t->number);
  put_field (fp, "size", t->size);
  put_field (fp, "segment_size", t->segment_size);
  put_field (fp, "segments", t->segments);
  put_field (fp, "free_segments", t->free_segments);
  put_field (fp, "abandoned_segments", t->abandoned_segments);
  put_field (fp, "pages", t->pages);
  put_field (fp, "clean_pages", t->clean_pages);
  put_field (fp, "bytes_stored", t->bytes_stored);
  put_field (fp, "bytes_live", t->bytes_live);
  put_field (fp, "bytes_in", t->bytes_in);
  put_field (fp, "bytes_written", t->bytes_written);
  put_ratio (fp, "write_amplification", t->bytes_written, t->bytes_in);
  put_field (fp, "reads", t->reads);
  put_field (fp, "writes", t->writes);
  put_field (fp, "read_errors", t->read_errors);
  put_field (fp, "write_errors", t->write_errors);
  put_field (fp, "corrected_errors", t->corrected_errors);
  put_latency (fp, "read_latency_us", &t->read_latency);
  put_latency (fp, "write_latency_us", &t->write_latency);
  fprintf (fp, "\n    }");
}

static void
put_tiers (FILE *fp, const struct zram_memory_stats *m)
{
  unsigned i;

  fprintf (fp, ",\n  \"tiers\": [");
  for (i = 0; i < m->nr_tiers; i++) {
    fputs (i ? "," : "", fp);
    put_tier (fp, &m->tiers[i]);
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
  put_number (fp, "lost_pages", s.lost_pages);
  put_dictionary (fp, &s);
  put_number (fp, "reserve_size", m.reserve_size);
  put_number (fp, "reserve_low", m.reserve_low);
  put_number (fp, "reserve_waits", m.reserve_waits);
  put_swap_safe (fp, disk, &m);
  put_name (fp, "policy", zram_policy_name (disk->policy));
  put_number (fp, "writeback_limit", disk->writeback_limit);
  put_number (fp, "writeback_left", m.writeback_left);
  put_tiers (fp, &m);
  fputs ("\n}\n", fp);

  if (fclose (fp) == EOF) {
    free (text);
    return NULL;
  }
  return text;
}
