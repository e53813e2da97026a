/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* What a process needs so that the machine it runs on can swap to it.
 *
 * The kernel swaps out because it has no memory left, and cannot give us
 * any while we are to take the page.  So whatever we could need is to be
 * in memory before.  The memory that pages are stored in is the library's
 * part (the reserve in zram.h); this is the process around it.
 */

#ifndef SWAP_SAFE_H
#define SWAP_SAFE_H

#include <stdbool.h>

/* What can be had, or was achieved. */
struct swap_safe {
  bool memory_locked;           /* nothing of the process is swapped out */
  bool io_flusher;              /* the kernel will not wait for swapping
                                   when it looks for memory for us */
  bool oom_score_adj;           /* the OOM killer takes somebody else */
  bool preallocated;            /* code, data and heap are in memory */
  _Atomic bool realtime;        /* the kernel has memory left for replies
                                   when it has none for others; statistics
                                   may be read when it turns out */
};

/* Find out what can be had, undo it, and say in a message what cannot and
 * why.  To be called where messages still reach the user.
 */
void swap_safe_probe (struct swap_safe *);

/* Do it, as far as the probe has found it possible.  To be called after
 * the last fork and before threads are made: they inherit it.
 */
void swap_safe_enter (struct swap_safe *);

/* The last step: from now on, threads that are made are there to serve.
 * To be called when all others have been made.
 */
void swap_safe_serve (struct swap_safe *);

/* Have this thread's stack in memory.  To be called at each request;
 * does something at a thread's first one, which takes a tenth of a second.
 */
void swap_safe_thread (void);

#endif /* SWAP_SAFE_H */
