#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# mem: 256M
# timeout: 45
# expect: failure

# What all the precautions are for: nbdkit's own memory plugin, which
# compresses too, as swap of the machine that it runs on.  It needs memory
# to free memory, so this hangs, and the case passes when it does.  `make
# contrast` runs it.

. "$(dirname "$0")/guest-functions.sh"

# As its manual says (--swap), and spared by the kernel's killer.
load_nbd
sock[memory]=$tmp/memory.sock
"$NBDKIT" -P "$tmp/memory.pid" -U "${sock[memory]}" --swap --threads=2 \
          memory 768M allocator=zstd
server=$(cat "$tmp/memory.pid")
echo -1000 > "/proc/$server/oom_score_adj"
attach memory /dev/nbd0
swap_on /dev/nbd0
echo "Swap is on."
pressure_with_bursts 384 4 2
echo "It went through."
