#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# mem: 256M
# timeout: 14400

# guest-swap.sh, a hundred times.

export VM_CYCLES=${VM_CYCLES-100}
# shellcheck source=guest-swap.sh
. "$(dirname "$0")/guest-swap.sh"
