/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* A queue and a thread.  See jobs.h.
 *
 * Why one thread?  What is asked for on the control socket works on the
 * whole disk, and the library wants it from one thread at a time.  The
 * thread exists from the beginning, as with swap=true nothing should have
 * to be made later.
 *
 * Lock: one, for the queue.  It is not held while a job is done.
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "jobs.h"

/* More than this that wait are refused: each holds a connection, and there
 * must be some left for others.
 */
#define WAITING_MAX 8

struct jobs {
  pthread_t thread;
  pthread_mutex_t lock;
  pthread_cond_t wake;          /* a job came, or the end */
  struct job *first;
  struct job **last;            /* where the next one is put */
  unsigned nr;
  bool stopping;
};

/* The next one, waiting for it; NULL when there will be none. */
static struct job *
take (struct jobs *jobs, bool *cancelled)
{
  struct job *job;

  pthread_mutex_lock (&jobs->lock);
  while (jobs->first == NULL && !jobs->stopping)
    pthread_cond_wait (&jobs->wake, &jobs->lock);
  job = jobs->first;
  if (job) {
    jobs->first = job->next;
    if (jobs->first == NULL)
      jobs->last = &jobs->first;
    jobs->nr--;
  }
  *cancelled = jobs->stopping;
  pthread_mutex_unlock (&jobs->lock);
  return job;
}

static void *
work (void *opaque)
{
  struct job *job;
  bool cancelled;

  while ((job = take (opaque, &cancelled)))
    job->run (job, cancelled);
  return NULL;
}

/* Signals are for nbdkit's own threads. */
static int
start_thread (struct jobs *jobs)
{
  sigset_t all, old;
  int err;

  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  err = pthread_create (&jobs->thread, NULL, work, jobs);
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  return err;
}

struct jobs *
jobs_start (void)
{
  struct jobs *jobs = calloc (1, sizeof *jobs);
  int err;

  if (jobs == NULL)
    return NULL;
  jobs->last = &jobs->first;
  pthread_mutex_init (&jobs->lock, NULL);
  pthread_cond_init (&jobs->wake, NULL);
  err = start_thread (jobs);
  if (err) {
    jobs_free (jobs);
    errno = err;
    return NULL;
  }
  pthread_setname_np (jobs->thread, "zram-jobs");
  return jobs;
}

bool
jobs_add (struct jobs *jobs, struct job *job)
{
  bool added;

  pthread_mutex_lock (&jobs->lock);
  added = !jobs->stopping && jobs->nr < WAITING_MAX;
  if (added) {
    job->next = NULL;
    *jobs->last = job;
    jobs->last = &job->next;
    jobs->nr++;
    pthread_cond_signal (&jobs->wake);
  }
  pthread_mutex_unlock (&jobs->lock);
  return added;
}

void
jobs_stop (struct jobs *jobs)
{
  if (jobs == NULL)
    return;
  pthread_mutex_lock (&jobs->lock);
  jobs->stopping = true;
  pthread_cond_signal (&jobs->wake);
  pthread_mutex_unlock (&jobs->lock);
  pthread_join (jobs->thread, NULL);
}

void
jobs_free (struct jobs *jobs)
{
  if (jobs == NULL)
    return;
  pthread_cond_destroy (&jobs->wake);
  pthread_mutex_destroy (&jobs->lock);
  free (jobs);
}
