/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* What can be asked for, as a table; how its parameters are taken apart, as
 * another; and what is done then.
 *
 * The words are those of Linux zram (writeback, idle, huge, compact).
 * Parameters are taken apart before anything is done: who mistypes one is
 * told so at once, though a job that takes long is being done.  What depends
 * on the state of the disk (is there such a tier?) is seen when its turn has
 * come.
 *
 * Answers are JSON objects: what was done, or one field `error', a sentence
 * that names the parameter and its value where it is about one.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/stat.h>

#include "complain.h"
#include "requests.h"
#include "stats-json.h"
#include "swap-safe.h"
#include "values.h"

#define JSON_TYPE "application/json"

/* The most of a value and of a complaint, in bytes: there may be two values in
 * one.
 */
#define VALUE_MAX 2048
#define COMPLAINT_MAX (2 * VALUE_MAX + 1024)

enum {
  HTTP_OK = 200,
  HTTP_BAD_REQUEST = 400,
  HTTP_NOT_FOUND = 404,
  HTTP_METHOD_NOT_ALLOWED = 405,
  HTTP_CONFLICT = 409,
  HTTP_INTERNAL_SERVER_ERROR = 500,
  HTTP_BAD_GATEWAY = 502,
  HTTP_SERVICE_UNAVAILABLE = 503,
  HTTP_INSUFFICIENT_STORAGE = 507,
};

/* ---- Answers ------------------------------------------------------- */

static __attribute__ ((format (printf, 3, 4))) void
answer_json (struct answer *answer, unsigned status, const char *format, ...)
{
  va_list args;
  int len;

  va_start (args, format);
  len = vasprintf (&answer->text, format, args);
  va_end (args);
  if (len == -1)
    answer->text = NULL;
  answer->len = len;
  answer->status = status;
  answer->type = JSON_TYPE;
}

/* TEXT as it can stand in a JSON string.  It may have in it whatever
 * somebody has sent us.  What is not ASCII need not be UTF-8, and is not
 * worth finding out.
 */
static void
escape (char *out, const char *text)
{
  for (; *text; text++) {
    unsigned char c = *text;

    if (c == '"' || c == '\\')
      *out++ = '\\';
    *out++ = c >= ' ' && c < 127 ? c : '?';
  }
  *out = '\0';
}

/* And how far it came. */
static void
answer_error_moved (struct answer *answer, unsigned status,
                    const char *message, const uint64_t *moved)
{
  char text[2 * COMPLAINT_MAX], number[64] = "", cut[COMPLAINT_MAX];

  snprintf (cut, sizeof cut, "%s", message);
  escape (text, cut);
  if (moved)
    snprintf (number, sizeof number, ",\n  \"moved_pages\": %" PRIu64,
              *moved);
  answer_json (answer, status, "{\n  \"error\": \"%s\"%s\n}\n", text, number);
}

void
answer_error (struct answer *answer, unsigned status, const char *message)
{
  answer_error_moved (answer, status, message, NULL);
}

/* Whose fault it is. */
static unsigned
status_of (int err)
{
  switch (err) {
  case EACCES:
  case EFBIG:
  case EINVAL:
  case EISDIR:
  case EMSGSIZE:
  case ENAMETOOLONG:
  case ENOENT:
  case ENODATA:
  case ENOTDIR:
  case EOPNOTSUPP:
  case EPERM:
  case EROFS:
    return HTTP_BAD_REQUEST;
  case EBUSY:
  case EEXIST:
    return HTTP_CONFLICT;
  case EIO:
  case ECONNREFUSED:
  case EHOSTUNREACH:
  case ENETUNREACH:
  case ETIMEDOUT:
    return HTTP_BAD_GATEWAY;
  case ENOSPC:
    return HTTP_INSUFFICIENT_STORAGE;
  case EINTR:
    return HTTP_SERVICE_UNAVAILABLE;
  }
  return HTTP_INTERNAL_SERVER_ERROR;
}

/* ---- Reading ------------------------------------------------------- */

static char *index_text (size_t *len);

static void
run_index (struct request *request, struct answer *answer)
{
  (void) request;
  answer->status = HTTP_OK;
  answer->type = "text/plain; charset=utf-8";
  answer->text = index_text (&answer->len);
}

static void
run_stats (struct request *request, struct answer *answer)
{
  answer->status = HTTP_OK;
  answer->type = JSON_TYPE;
  answer->text = stats_json (request->disk, &answer->len);
}

/* ---- Moving pages -------------------------------------------------- */

static bool
has_level (const struct zram_memory_stats *stats, int level)
{
  unsigned i;

  for (i = 0; i < stats->nr_tiers; i++)
    if ((int) stats->tiers[i].number == level)
      return true;
  return level == ZRAM_LEVEL_RAM
    || (level == ZRAM_LEVEL_TIERS && stats->nr_tiers);
}

static bool
check_level (const struct zram_memory_stats *stats, const char *key,
             int level, struct answer *answer)
{
  char message[128];

  if (has_level (stats, level))
    return true;
  if (level == ZRAM_LEVEL_TIERS)
    answer_error (answer, HTTP_CONFLICT, "there is no tier");
  else {
    snprintf (message, sizeof message, "%s=%d: there is no such tier", key,
              level);
    answer_error (answer, HTTP_BAD_REQUEST, message);
  }
  return false;
}

static const char *
reason_of_move (int err, int to)
{
  switch (err) {
  case EINVAL:
    return "there is no such tier any more";
  case EIO:
    return "some pages could not be read or written, and are where they were";
  case ENOSPC:
    return to == ZRAM_LEVEL_RAM ? "there is no more room in RAM"
      : "there is no more room, or writeback-limit is reached";
  case EINTR:
    return "the server is stopping";
  }
  return strerror (err);
}

static void
run_move (struct request *request, struct answer *answer)
{
  const struct zram_move *move = &request->move;
  struct zram_memory_stats stats;
  uint64_t moved = 0;
  int err;

  zram_memory_stats (request->disk->memory, &stats);
  if (!check_level (&stats, "from", move->from, answer)
      || !check_level (&stats, "to", move->to, answer))
    return;
  if (zram_move (request->disk->store, move, &moved) == 0) {
    answer_json (answer, HTTP_OK, "{\n  \"moved_pages\": %" PRIu64 "\n}\n",
                 moved);
    return;
  }
  err = errno;
  answer_error_moved (answer, status_of (err),
                      reason_of_move (err, move->to), &moved);
}

static void
run_writeback (struct request *request, struct answer *answer)
{
  request->move.from = ZRAM_LEVEL_RAM;
  request->move.to = ZRAM_LEVEL_TIERS;
  run_move (request, answer);
}

static void
run_promote (struct request *request, struct answer *answer)
{
  request->move.from = ZRAM_LEVEL_TIERS;
  request->move.to = ZRAM_LEVEL_RAM;
  run_move (request, answer);
}

/* ---- What else can be done ----------------------------------------- */

static void
run_idle (struct request *request, struct answer *answer)
{
  zram_mark_idle (request->disk->store, request->age);
  answer_json (answer, HTTP_OK, "{\n  \"age\": %d\n}\n", request->age);
}

static void
run_compact (struct request *request, struct answer *answer)
{
  struct zram_memory_stats before, after;

  zram_memory_stats (request->disk->memory, &before);
  zram_compact (request->disk->memory);
  zram_memory_stats (request->disk->memory, &after);
  answer_json (answer, HTTP_OK, "{\n  \"pages_compacted\": %" PRIu64 "\n}\n",
               after.pages_compacted - before.pages_compacted);
}

static const char *
reason_of_remove (int err)
{
  switch (err) {
  case EBUSY:
    return "it is being removed already";
  case EIO:
    return "a part of it cannot be read (force=true gives that up)";
  case ENOSPC:
    return "there is not enough room elsewhere for what is on it";
  case EINTR:
    return "the server is stopping";
  }
  return strerror (err);
}

static void
run_remove (struct request *request, struct answer *answer)
{
  struct zram_memory_stats stats;
  char message[128];
  uint64_t lost = 0;
  int err;

  zram_memory_stats (request->disk->memory, &stats);
  if (!check_level (&stats, "tier", request->tier, answer))
    return;
  if (zram_remove_tier (request->disk->memory, request->tier,
                        request->force ? &lost : NULL) == 0) {
    answer_json (answer, HTTP_OK, "{\n  \"removed_tier\": %d,\n"
                 "  \"lost_pages\": %" PRIu64 "\n}\n", request->tier, lost);
    return;
  }
  err = errno;
  snprintf (message, sizeof message, "tier=%d: %s", request->tier,
            reason_of_remove (err));
  answer_error (answer, status_of (err), message);
}

static void
run_add (struct request *request, struct answer *answer)
{
  struct disk *disk = request->disk;
  struct zram_memory_stats stats;
  char message[COMPLAINT_MAX] = "";
  int r;

  complain_into (message, sizeof message);
  errno = 0;
  r = tier_add (disk->memory, &request->place, disk->swap);
  complain_into (NULL, 0);
  if (r == -1) {
    answer_error (answer, status_of (errno), message);
    return;
  }
  zram_memory_stats (disk->memory, &stats);
  answer_json (answer, HTTP_OK, "{\n  \"added_tier\": %u\n}\n",
               stats.tiers[stats.nr_tiers - 1].number);
}

/* ---- Parameters, one by one ---------------------------------------- */

/* Of older pages it is not known how old they are, and whoever asks for those
 * does not mean all that are idle.
 */
static int
set_age (struct request *request, const char *key, const char *value)
{
  unsigned most = request->disk->idle_age;

  if (value_number (key, value, "age in seconds", value, 0, AGE_MAX,
                    &request->age) == -1)
    return -1;
  if ((unsigned) request->age <= most)
    return 0;
  complain ("%s=%s: ages are known up to %u seconds, by age= of recompress=",
            key, value, most);
  return -1;
}

static int
set_type (struct request *request, const char *key, const char *value)
{
  if (zram_pages_find (value, &request->move.pages))
    return 0;
  complain ("%s=%s: there is no such type of pages (use idle, huge, "
            "huge_idle, incompressible or all)", key, value);
  return -1;
}

static int
set_limit (struct request *request, const char *key, const char *value)
{
  return value_count (key, value, &request->move.limit);
}

/* OFFSET-END, of which END is the first byte that is not meant.  Without
 * END, to the end of the disk.
 */
static int
set_range (struct request *request, const char *key, const char *value)
{
  uint64_t size = zram_size (request->disk->store), end = size;
  struct zram_move *move = &request->move;
  const char *dash = strchr (value, '-');
  char *offset = dash > value ? strndup (value, dash - value) : NULL;
  int r = -1;

  if (offset == NULL)
    complain ("%s=%s: this is not a range (as in 1G-2G, or 1G- for all that "
              "follows)", key, value);
  else if (value_size (key, offset, &move->offset) == 0
           && (dash[1] == '\0' || value_size (key, dash + 1, &end) == 0)) {
    if (end > size || move->offset >= end)
      complain ("%s=%s: there is no such range, the disk has %" PRIu64
                " bytes", key, value, size);
    else
      r = 0;
  }
  move->count = end - move->offset;
  free (offset);
  return r;
}

static int
set_number (const char *key, const char *value, int *number)
{
  return value_number (key, value, "tier", value, 0, INT32_MAX,
                       number);
}

static int
set_level (const char *key, const char *value, int *level)
{
  if (strcmp (value, "ram") == 0) {
    *level = ZRAM_LEVEL_RAM;
    return 0;
  }
  if (*value >= '0' && *value <= '9')
    return set_number (key, value, level);
  complain ("%s=%s: there is no such level (use ram, or the number of a tier "
            "in /stats)", key, value);
  return -1;
}

static int
set_from (struct request *request, const char *key, const char *value)
{
  return set_level (key, value, &request->move.from);
}

static int
set_to (struct request *request, const char *key, const char *value)
{
  return set_level (key, value, &request->move.to);
}

static int
set_tier (struct request *request, const char *key, const char *value)
{
  return set_number (key, value, &request->tier);
}

static int
set_force (struct request *request, const char *key, const char *value)
{
  return value_bool (key, value, &request->force);
}

/* The server has changed its directory since somebody could know it. */
static int
set_place (struct request *request, const char *key, const char *value)
{
  if (*value && tier_is_relative (value)) {
    complain ("%s=%s: the path must be absolute", key, value);
    return -1;
  }
  request->place_text = strdup (value);
  if (request->place_text)
    return tier_place (&request->place, key, request->place_text);
  complain ("%s=%s: %m", key, value);
  return -1;
}

static int
set_tier_size (struct request *request, const char *key, const char *value)
{
  request->size_text = strdup (value);
  if (request->size_text)
    return tier_size (&request->place, key, request->size_text);
  complain ("%s=%s: %m", key, value);
  return -1;
}

static int
set_tier_force (struct request *request, const char *key, const char *value)
{
  return value_bool (key, value, &request->place.force);
}

enum {
  AGE = 1 << 0,
  TYPE = 1 << 1,
  LIMIT = 1 << 2,
  RANGE = 1 << 3,
  FROM = 1 << 4,
  TO = 1 << 5,
  TIER = 1 << 6,
  PLACE = 1 << 7,
  TIER_SIZE = 1 << 8,
  TIER_FORCE = 1 << 9,
  FORCE = 1 << 10,
};

static const struct parameter {
  const char *key;
  unsigned bit;
  int (*set) (struct request *, const char *key, const char *value);
} parameters[] = {
  { "age", AGE, set_age },
  { "type", TYPE, set_type },
  { "limit", LIMIT, set_limit },
  { "range", RANGE, set_range },
  { "from", FROM, set_from },
  { "to", TO, set_to },
  { "tier", TIER, set_tier },
  { "tier", PLACE, set_place },
  { "tier-size", TIER_SIZE, set_tier_size },
  { "tier-force", TIER_FORCE, set_tier_force },
  { "force", FORCE, set_force },
};
#define NR_PARAMETERS (sizeof parameters / sizeof parameters[0])

/* ---- Parameters, together ------------------------------------------ */

static int
check_migrate (struct request *request)
{
  const struct zram_move *move = &request->move;

  if (move->from == ZRAM_LEVEL_RAM && move->to == ZRAM_LEVEL_RAM)
    complain ("from=ram&to=ram: these are the same level");
  else if (move->from == move->to)
    complain ("from=%d&to=%d: these are the same level", move->from, move->to);
  else if (request->given & TYPE && move->from != ZRAM_LEVEL_RAM)
    complain ("type=%s: there are types only of pages in RAM (from=ram)",
              zram_pages_name (move->pages));
  else
    return 0;
  return -1;
}

/* With swap=true, to make a file means to write to all of it.  That may take
 * many minutes, and could not be interrupted.
 */
static bool
is_to_be_written (const struct tier_parameters *place)
{
  struct stat st;

  return place->size_text && !place->uri
    && (stat (place->place, &st) == -1 || !S_ISBLK (st.st_mode));
}

static int
check_add (struct request *request)
{
  const struct tier_parameters *place = &request->place;
  struct zram_memory_stats stats;

  if (request->disk->swap && is_to_be_written (place)) {
    complain ("tier-size=%s: with swap=true, write zeroes to all of the file "
              "before it is added (dd if=/dev/zero of=%s bs=1M count=...)",
              place->size_text, place->text);
    return -1;
  }
  zram_memory_stats (request->disk->memory, &stats);
  return tier_check (place, stats.mem_limit, request->disk->swap);
}

/* ---- What there is ------------------------------------------------- */

static const struct action {
  const char *method, *url;
  const char *usage;            /* of parameters */
  const char *summary;
  unsigned required, optional;  /* parameters */
  int (*check) (struct request *);      /* or NULL */
  void (*run) (struct request *, struct answer *);
} actions[] = {
  { .method = "GET", .url = "/",
    .usage = "", .summary = "this list",
    .run = run_index },
  { .method = "GET", .url = "/stats",
    .usage = "", .summary = "statistics of the disk, in JSON",
    .run = run_stats },
  { .method = "POST", .url = "/idle",
    .usage = "[?age=SECONDS]",
    .summary = "take pages for idle that were not used for so long, or all",
    .optional = AGE, .run = run_idle },
  { .method = "POST", .url = "/writeback",
    .usage = "?type=idle|huge|huge_idle|incompressible|all"
             "[&range=OFFSET-END][&limit=PAGES]",
    .summary = "write pages to the tiers",
    .required = TYPE, .optional = RANGE | LIMIT, .run = run_writeback },
  { .method = "POST", .url = "/promote",
    .usage = "[?range=OFFSET-END][&limit=PAGES]",
    .summary = "bring pages back to RAM",
    .optional = RANGE | LIMIT, .run = run_promote },
  { .method = "POST", .url = "/migrate",
    .usage = "?from=ram|TIER&to=ram|TIER[&type=TYPE][&range=OFFSET-END]"
             "[&limit=PAGES]",
    .summary = "move pages from one level to another",
    .required = FROM | TO, .optional = TYPE | RANGE | LIMIT,
    .check = check_migrate, .run = run_move },
  { .method = "POST", .url = "/compact",
    .usage = "", .summary = "compact the pool",
    .run = run_compact },
  { .method = "POST", .url = "/tier/add",
    .usage = "?tier=PATH|URI[&tier-size=SIZE][&tier-force=true]",
    .summary = "use another tier, below the others",
    .required = PLACE, .optional = TIER_SIZE | TIER_FORCE,
    .check = check_add, .run = run_add },
  { .method = "POST", .url = "/tier/remove",
    .usage = "?tier=TIER[&force=true]",
    .summary = "move away what is on a tier, and use it no more",
    .required = TIER, .optional = FORCE, .run = run_remove },
};
#define NR_ACTIONS (sizeof actions / sizeof actions[0])

static char *
index_text (size_t *len)
{
  char *text = NULL;
  FILE *fp = open_memstream (&text, len);
  unsigned i;

  if (fp == NULL)
    return NULL;
  fprintf (fp, "nbdkit-zram-plugin " PACKAGE_VERSION "\n");
  for (i = 0; i < NR_ACTIONS; i++)
    fprintf (fp, "\n%s %s%s\n    %s\n", actions[i].method, actions[i].url,
             actions[i].usage, actions[i].summary);
  if (fclose (fp) == EOF) {
    free (text);
    return NULL;
  }
  return text;
}

/* ---- A request from beginning to end ------------------------------- */

static bool
is_get (const struct action *action)
{
  return strcmp (action->method, "GET") == 0;
}

bool
request_begin (struct request *request, const char *method, const char *url,
               struct answer *answer)
{
  const struct action *action = NULL;
  unsigned i;

  for (i = 0; i < NR_ACTIONS; i++)
    if (strcmp (url, actions[i].url) == 0)
      action = &actions[i];
  if (action == NULL)
    answer_error (answer, HTTP_NOT_FOUND,
                  "not found, GET / lists what there is");
  else if (strcmp (method, action->method) == 0
           || (is_get (action) && strcmp (method, "HEAD") == 0))
    request->action = action;
  else {
    answer->allow = is_get (action) ? "GET, HEAD" : action->method;
    answer_error (answer, HTTP_METHOD_NOT_ALLOWED, is_get (action)
                  ? "method not allowed, use GET"
                  : "method not allowed, use POST");
  }
  return request->action != NULL;
}

/* The parameter of that name that the request can have. */
static const struct parameter *
find_parameter (const struct action *action, const char *key)
{
  unsigned i;

  for (i = 0; i < NR_PARAMETERS; i++)
    if (strcmp (key, parameters[i].key) == 0
        && (action->required | action->optional) & parameters[i].bit)
      return &parameters[i];
  return NULL;
}

static int
set_parameter (struct request *request, const char *key, const char *value,
               size_t length)
{
  const struct parameter *p = find_parameter (request->action, key);

  if (length > VALUE_MAX) {
    complain ("%s=: the value has %zu bytes, the most is %d", key, length,
              VALUE_MAX);
    return -1;
  }
  if (strlen (value) != length) {
    complain ("%s=%s: there is a zero byte in the value", key, value);
    return -1;
  }
  if (p && !(request->given & p->bit)) {
    request->given |= p->bit;
    return p->set (request, key, value);
  }
  complain ("%s=%s: %s", key, value, p ? "it was given already"
            : "there is no such parameter here, GET / lists what there is");
  return -1;
}

/* GET ignores what it does not know, as is the custom. */
bool
request_parameter (struct request *request, const char *key,
                   const char *value, size_t length, struct answer *answer)
{
  char message[COMPLAINT_MAX] = "";
  int r;

  if (is_get (request->action))
    return true;
  complain_into (message, sizeof message);
  r = set_parameter (request, key, value, length);
  complain_into (NULL, 0);
  if (r == -1)
    answer_error (answer, HTTP_BAD_REQUEST, message);
  return r == 0;
}

static int
check_all (struct request *request)
{
  const struct action *action = request->action;
  unsigned i;

  for (i = 0; i < NR_PARAMETERS; i++)
    if (action->required & ~request->given & parameters[i].bit) {
      complain ("%s= is missing (%s %s%s)", parameters[i].key, action->method,
                action->url, action->usage);
      return -1;
    }
  return action->check ? action->check (request) : 0;
}

bool
request_complete (struct request *request, struct answer *answer)
{
  char message[COMPLAINT_MAX] = "";
  int r;

  complain_into (message, sizeof message);
  r = check_all (request);
  complain_into (NULL, 0);
  if (r == -1)
    answer_error (answer, HTTP_BAD_REQUEST, message);
  return r == 0;
}

bool
request_is_quick (const struct request *request)
{
  return is_get (request->action);
}

void
request_run (struct request *request, struct answer *answer)
{
  if (request->disk->swap)
    swap_safe_thread ();
  request->action->run (request, answer);
}

void
request_free (struct request *request)
{
  tier_free (&request->place);
  free (request->place_text);
  free (request->size_text);
}
