/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* The control socket: HTTP on a Unix domain socket. */

#ifndef CONTROL_H
#define CONTROL_H

#include "disk.h"

struct control;

/* Make and bind the socket.  Starts no thread, so it can be called
 * before a fork, while the user still sees error messages.  A socket
 * that nobody listens on any more is replaced.  NULL after an error
 * message.
 */
struct control *control_bind (const char *path);

/* Start to answer.  The disk must stay until control_free.  -1 after an
 * error message.
 */
int control_start (struct control *, struct disk *);

/* Stop, wait for requests that are being answered, and remove the socket
 * if it is still ours.  NULL is fine.
 */
void control_free (struct control *);

#endif /* CONTROL_H */
