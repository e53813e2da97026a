/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* Run a command with both ends of a wire open, as file descriptors 8 and
 * 9: a socket pair that keeps Ethernet frames apart.  run-vm joins two
 * machines so, and no network of the host is involved.
 */

#include <config.h>

#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

/* Room for frames that the other end has not taken yet. */
#define BUFFER 1048576

int
main (int argc, char *argv[])
{
  int fds[2], size = BUFFER, i;

  if (argc < 2) {
    fputs ("usage: wire COMMAND [ARGUMENT]...\n", stderr);
    return 2;
  }
  if (socketpair (AF_UNIX, SOCK_DGRAM, 0, fds) == -1) {
    perror ("wire: socketpair");
    return 2;
  }
  for (i = 0; i < 2; i++) {
    setsockopt (fds[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    if (dup2 (fds[i], 18 + i) == -1) {
      perror ("wire: dup2");
      return 2;
    }
    close (fds[i]);
  }
  dup2 (18, 8);
  dup2 (19, 9);
  close (18);
  close (19);
  execvp (argv[1], argv + 1);
  perror (argv[1]);
  return 2;
}
