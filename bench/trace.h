/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Traces: what somebody asked of a disk, as text.
 *
 *     # a comment, to the end of the line
 *     w 100 16       pages 100 to 115 are written
 *     r 100          page 100 is read
 *     t 100 4        pages 100 to 103 are trimmed, or zeroed
 *     s 5            five seconds pass
 *
 * Pages are of 4096 bytes and numbered from 0.  Words are separated by
 * blanks or tabs; empty lines mean nothing.
 */

#ifndef BENCH_TRACE_H
#define BENCH_TRACE_H

#include <stddef.h>
#include <stdint.h>

/* Pages below this.  (4 TiB; there is an array of 8 bytes for each.) */
#define TRACE_PAGES_MAX (UINT64_C (1) << 30)

enum event_kind { EVENT_READ, EVENT_WRITE, EVENT_TRIM, EVENT_SECONDS };

/* What happens to one page.  Reads and trims of what is not stored are left
 * out.
 */
struct event {
  uint32_t page;                /* or seconds */
  uint32_t kind;
};

struct trace {
  struct event *events;
  size_t nr;
  uint64_t nr_pages;            /* the last that is used, and one */
  uint64_t reads, writes;       /* events */
  uint64_t peak;                /* pages that are stored at once, at most */
};

/* Read a trace from a file, or from standard input ("-").  Does not return
 * if it cannot; the message names the file and the line.
 */
struct trace trace_load (const char *filename);
void trace_free (struct trace *);

#endif /* BENCH_TRACE_H */
