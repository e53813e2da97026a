/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* What can be asked for on the control socket, whoever speaks HTTP for it.
 *
 *     struct request r = { .disk = disk };
 *     if (request_begin (&r, "POST", "/idle", &answer)
 *         && request_parameter (&r, "age", "60", 2, &answer)
 *         && request_complete (&r, &answer))
 *       request_run (&r, &answer);
 *     request_free (&r);
 *
 * A function that returns false has filled in the answer.
 */

#ifndef REQUESTS_H
#define REQUESTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "disk.h"
#include "tiers.h"
#include "zram.h"

struct answer {
  unsigned status;              /* of HTTP */
  const char *type;             /* of the text */
  const char *allow;            /* the methods that there are, or NULL */
  char *text;                   /* the caller frees it; NULL: no memory */
  size_t len;
};

struct request {
  struct disk *disk;
  const struct action *action;

  unsigned given;               /* parameters */
  int age;
  struct zram_move move;
  int tier;                     /* a number */
  bool force;
  struct tier_parameters place;
  char *place_text, *size_text; /* what PLACE points to */
};

/* What is asked for: by which method, at which URL. */
bool request_begin (struct request *, const char *method, const char *url,
                    struct answer *);

/* One parameter.  LENGTH bytes of VALUE were sent; a zero byte follows. */
bool request_parameter (struct request *, const char *key,
                        const char *value, size_t length, struct answer *);

/* There are no more. */
bool request_complete (struct request *, struct answer *);

/* Whether request_run reads and waits for nothing.  All others are to be run
 * one after the other.
 */
bool request_is_quick (const struct request *);

void request_run (struct request *, struct answer *);

void request_free (struct request *);

/* An answer that is an error. */
void answer_error (struct answer *, unsigned status, const char *message);

#endif /* REQUESTS_H */
