/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Jobs that take long, done by a thread of their own, one after the other.
 */

#ifndef JOBS_H
#define JOBS_H

#include <stdbool.h>

/* Part of something larger, which belongs to the thread from jobs_add until
 * it calls RUN, and then to RUN.
 */
struct job {
  /* CANCELLED: do not begin, jobs_stop was called. */
  void (*run) (struct job *, bool cancelled);
  struct job *next;
};

struct jobs;

/* Start the thread.  NULL and errno on failure. */
struct jobs *jobs_start (void);

/* False if too many are waiting, or jobs_stop was called. */
bool jobs_add (struct jobs *, struct job *);

/* Wait for the job that is being done, cancel the others, and end the
 * thread.  jobs_add may still be called afterwards.  NULL is fine.
 */
void jobs_stop (struct jobs *);

/* After jobs_stop. */
void jobs_free (struct jobs *);

#endif /* JOBS_H */
