/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Reading traces.  See trace.h. */

#include <config.h>

#include <ctype.h>
#include <err.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trace.h"

struct reader {
  const char *filename;
  unsigned long line;
  struct trace trace;
  size_t room;                  /* for so many events */
  uint8_t *stored;              /* a byte for each page, and... */
  uint64_t nr_stored, stored_room;      /* ...how many are not 0; of all */
};

__attribute__ ((format (printf, 2, 3), noreturn)) static void
bad_line (const struct reader *r, const char *format, ...)
{
  va_list args;

  fprintf (stderr, "%s:%lu: ", r->filename, r->line);
  va_start (args, format);
  vfprintf (stderr, format, args);
  va_end (args);
  fputc ('\n', stderr);
  exit (EXIT_FAILURE);
}

/* ---- Events -------------------------------------------------------- */

static void *
grow (void *old, size_t bytes)
{
  void *new = realloc (old, bytes);

  if (new == NULL)
    err (EXIT_FAILURE, "realloc: %zu bytes", bytes);
  return new;
}

static void
add_event (struct reader *r, enum event_kind kind, uint32_t page)
{
  struct trace *t = &r->trace;

  if (t->nr == r->room) {
    r->room = r->room ? 2 * r->room : 4096;
    t->events = grow (t->events, r->room * sizeof *t->events);
  }
  t->events[t->nr++] = (struct event) { .page = page, .kind = kind };
}

/* Have a place where it says whether the pages below END are stored. */
static void
know_pages (struct reader *r, uint64_t end)
{
  uint64_t room = r->stored_room ? r->stored_room : 4096;

  if (end > r->trace.nr_pages)
    r->trace.nr_pages = end;
  if (end <= r->stored_room)
    return;
  while (room < end)
    room *= 2;
  r->stored = grow (r->stored, room);
  memset (r->stored + r->stored_room, 0, room - r->stored_room);
  r->stored_room = room;
}

static void
add_page (struct reader *r, enum event_kind kind, uint64_t page)
{
  struct trace *t = &r->trace;
  bool stored = r->stored[page];

  if (kind != EVENT_WRITE && !stored)
    return;
  r->stored[page] = kind != EVENT_TRIM;
  r->nr_stored += r->stored[page] - stored;
  if (r->nr_stored > t->peak)
    t->peak = r->nr_stored;
  t->reads += kind == EVENT_READ;
  t->writes += kind == EVENT_WRITE;
  add_event (r, kind, page);
}

/* ---- Lines --------------------------------------------------------- */

static char *
skip_blanks (char *p)
{
  while (isspace ((unsigned char) *p))
    p++;
  return p;
}

/* The number at *P, which moves behind it. */
static uint64_t
parse_number (const struct reader *r, char **p, const char *what,
              uint64_t max)
{
  unsigned long long n;
  char *end;

  if (!isdigit ((unsigned char) **p))
    bad_line (r, "%s is not a number: '%s'", what, *p);
  errno = 0;
  n = strtoull (*p, &end, 10);
  if (errno || n > max)
    bad_line (r, "%s is more than %llu", what, (unsigned long long) max);
  if (*end && !isspace ((unsigned char) *end))
    bad_line (r, "%s is not a number: '%s'", what, *p);
  *p = skip_blanks (end);
  return n;
}

static void
parse_pages (struct reader *r, enum event_kind kind, char *p)
{
  uint64_t page = parse_number (r, &p, "the page", TRACE_PAGES_MAX - 1);
  uint64_t count = 1, i;

  if (*p)
    count = parse_number (r, &p, "the count", TRACE_PAGES_MAX - page);
  if (*p)
    bad_line (r, "more than a page and a count: '%s'", p);
  know_pages (r, page + count);
  for (i = 0; i < count; i++)
    add_page (r, kind, page + i);
}

static void
parse_seconds (struct reader *r, char *p)
{
  uint64_t n = parse_number (r, &p, "the time", UINT32_MAX);

  if (*p)
    bad_line (r, "more than a time: '%s'", p);
  add_event (r, EVENT_SECONDS, n);
}

static void
parse_line (struct reader *r, char *p)
{
  static const char letters[] = "rwt";
  const char *letter;

  p[strcspn (p, "#\n")] = '\0';
  p = skip_blanks (p);
  if (*p == '\0')
    return;
  letter = strchr (letters, *p);
  if ((letter == NULL && *p != 's') || !isspace ((unsigned char) p[1]))
    bad_line (r, "not 'r', 'w', 't' or 's' and a number: '%s'", p);
  if (letter)
    parse_pages (r, letter - letters, skip_blanks (p + 1));
  else
    parse_seconds (r, skip_blanks (p + 1));
}

struct trace
trace_load (const char *filename)
{
  bool is_stdin = strcmp (filename, "-") == 0;
  struct reader r = { .filename = is_stdin ? "standard input" : filename };
  FILE *file = is_stdin ? stdin : fopen (filename, "r");
  char *line = NULL;
  size_t size = 0;

  if (file == NULL)
    err (EXIT_FAILURE, "%s", filename);
  while (getline (&line, &size, file) != -1) {
    r.line++;
    parse_line (&r, line);
  }
  if (ferror (file))
    err (EXIT_FAILURE, "%s", r.filename);
  if (r.trace.writes == 0)
    errx (EXIT_FAILURE, "%s: nothing is written", r.filename);
  free (line);
  free (r.stored);
  if (!is_stdin)
    fclose (file);
  return r.trace;
}

void
trace_free (struct trace *t)
{
  free (t->events);
}
