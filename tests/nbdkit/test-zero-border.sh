#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# Zeroing and trimming across the borders of whatever tables lie below
# must not touch what lies beside the range.

. "$(dirname "$0")/functions.sh"
require curl jq
require_nbdsh

start_server disk 4T
"$python" - "${uri[disk]}" <<'END'
import sys
from pages import *

h = connect(sys.argv[1])
around = 256 * KiB
kinds = {"zero": h.zero, "trim": h.trim,
         "zero, no hole": lambda n, at: h.zero(n, at, nbd.CMD_FLAG_NO_HOLE),
         "write": lambda n, at: h.pwrite(bytes(n), at)}
seed = 0

# 128 MiB is where another plugin for nbdkit loses data; the others are
# likely sizes of tables, and of sums that no longer fit 32 bits.
for border in (64 * KiB, MiB, 2 * MiB, 4 * MiB, 128 * MiB, 256 * MiB, GiB,
               2 * GiB, 4 * GiB, 512 * GiB, TiB, 2 * TiB):
    start = max(border - around, 0)
    for name, call in kinds.items():
        for before, after in ((PAGE, PAGE), (64 * KiB, 64 * KiB),
                              (513, 4095), (1, 1), (30000, 70000)):
            seed += 1
            data = bytearray(text(border + around - start, seed))
            h.pwrite(data, start)
            call(before + after, border - before)
            at = border - before - start
            data[at:at + before + after] = bytes(before + after)
            check(f"{name} of {before}+{after} at {border}",
                  h.pread(len(data), start), data)
    h.trim(border + around - start, start)
check("map at the end", extents(h, 8 * GiB, 0), [[8 * GiB, 3]])
END
stop_server disk
