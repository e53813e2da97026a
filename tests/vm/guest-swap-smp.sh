#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# mem: 256M
# timeout: 3600
# silence: 600
# kernel: qemu

# guest-swap.sh on two processors.

export VM_CYCLES=${VM_CYCLES-3} VM_ROUNDS=${VM_ROUNDS-5} VM_MIB=${VM_MIB-384}
# This kernel leaves less memory than user-mode-linux does.
export VM_NEIGHBOUR=${VM_NEIGHBOUR-40}
# shellcheck source=guest-swap.sh
. "$(dirname "$0")/guest-swap.sh"
