#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# mem: 256M
# timeout: 3600
# silence: 600
# kernel: qemu
# host-processors: 1

# guest-swap.sh on two processors that have only one to run on.  Each
# stands still half of the time, at any instruction, so what seldom meets
# does meet.  Without a real-time priority this hung in two of five cycles.
# On a host that is busy, qemu itself can stand still for minutes here
# (then there is no lack of memory): do not blame the server at once.

export VM_CYCLES=${VM_CYCLES-10} VM_ROUNDS=${VM_ROUNDS-1} VM_MIB=${VM_MIB-288}
# This kernel leaves less memory than user-mode-linux does.
export VM_NEIGHBOUR=${VM_NEIGHBOUR-40}
# shellcheck source=guest-swap.sh
. "$(dirname "$0")/guest-swap.sh"
