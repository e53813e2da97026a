/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* What is wrong with a value, said to whoever wrote it: on the command
 * line that is nbdkit's log, for a request on the control socket its
 * answer.  So the same code takes both apart.
 */

#ifndef COMPLAIN_H
#define COMPLAIN_H

#include <stddef.h>

/* One sentence, without the newline.  errno stays. */
void complain (const char *format, ...)
  __attribute__ ((format (printf, 1, 2)));

/* Have what this thread complains of in BUF, cut to SIZE bytes; NULL: in
 * nbdkit's log again.
 */
void complain_into (char *buf, size_t size);

#endif /* COMPLAIN_H */
