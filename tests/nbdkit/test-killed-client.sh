#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# Clients that are killed in the middle of their requests harm nobody
# else, and leave no page that is partly one write and partly another.

. "$(dirname "$0")/functions.sh"
require curl jq
require_nbdsh

# Before 1.34, nbdkit ends with a failed assertion when a client goes
# away while several threads have answers for it.  Only one thread for
# each connection keeps it alive, whatever the plugin.
version=$("$NBDKIT" --version)
echo "$version"
if [[ $version =~ \ 1\.([0-9]+)\. ]] && [ "${BASH_REMATCH[1]}" -lt 34 ]
then
  nbdkit_options=(--threads=1)
fi

start_server disk 64M
"$python" - "${uri[disk]}" <<'END'
import os
import signal
import sys
from pages import *

h = connect(sys.argv[1])
bystander = text(8 * MiB)
h.pwrite(bystander, 32 * MiB)

for turn in range(10):
    pid = os.fork()
    if pid == 0:
        # Fill pages with one byte each, many requests in flight, and die
        # without reading the answers; every other time with a request
        # only partly sent.
        c = connect(sys.argv[1])
        if turn % 2:
            bufs = [nbd.Buffer.from_bytearray(
                bytearray([turn * 16 + i]) * MiB) for i in range(16)]
            for i, buf in enumerate(bufs):
                c.aio_pwrite(buf, i * MiB)
        else:
            for i in range(2000):
                c.aio_pwrite(nbd.Buffer.from_bytearray(
                    bytearray([i % 256]) * (2 * PAGE)), i * 2 * PAGE)
                c.aio_pread(nbd.Buffer(PAGE), i * PAGE)
        os.kill(os.getpid(), signal.SIGKILL)
    # Meanwhile the bystander goes on.
    check("bystander", h.pread(len(bystander), 32 * MiB) == bystander, True)
    bystander = text(8 * MiB, turn)
    h.pwrite(bystander, 32 * MiB)
    _, status = os.waitpid(pid, 0)
    check("end of the client", os.WTERMSIG(status), signal.SIGKILL)

new = connect(sys.argv[1])
check("bystander", new.pread(len(bystander), 32 * MiB) == bystander, True)
got = new.pread(32 * MiB, 0)
for at in range(0, len(got), PAGE):
    page = got[at:at + PAGE]
    if page != page[:1] * PAGE:
        sys.exit(f"FAIL: the page at {at} is a mixture")
END
stats disk | jq -e .disksize
stop_server disk
