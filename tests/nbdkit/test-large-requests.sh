#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# The largest requests there are: 64 MiB of data, and 4 GiB - 1 of
# anything that carries none.  On a sparse disk the latter are instant,
# however much address space they cover.

. "$(dirname "$0")/functions.sh"
require curl jq
require_nbdsh

start_server disk 1E
"$python" - "${uri[disk]}" <<'END'
import sys
import time
from pages import *

h = connect(sys.argv[1])
size = h.get_size()
check("size", size, EiB)
MOST = (1 << 32) - 1
DATA, ZERO, HOLE = 0, 2, 3


def soon(what, call, *args):
    """A call that may not take as long as walking the range would."""
    begin = time.monotonic()
    result = call(*args)
    took = time.monotonic() - begin
    if took > 10:
        sys.exit(f"FAIL: {what} took {took:.1f} seconds")
    return result


# 64 MiB at once, at an odd place.
data = text(8 * MiB) * 4 + noise(16 * MiB) + bytes(8 * MiB) + same(8 * MiB)
at = 3 * TiB + 12345
h.pwrite(data, at)
check("64 MiB", h.pread(len(data), at) == data, True)
check("the byte before", h.pread(1, at - 1), b"\0")
check("the byte after", h.pread(1, at + len(data)), b"\0")

# One page near each end of 4 GiB - 1, and one inside.
base = 5 * TiB
places = [base + 100 * PAGE, base + 2 * GiB, base + 4 * GiB - 2 * PAGE]
edge = base + 4 * GiB - PAGE
for i, place in enumerate(places + [edge]):
    h.pwrite(noise(PAGE, i), place)
check("map", soon("the map", extents, h, 8 * GiB, base),
      [[100 * PAGE, HOLE], [PAGE, DATA], [2 * GiB - 101 * PAGE, HOLE],
       [PAGE, DATA], [2 * GiB - 3 * PAGE, HOLE], [2 * PAGE, DATA],
       [4 * GiB, HOLE]])

# Zero all of it but the last byte of the last page.
soon("zero", h.zero, MOST, base)
for place in places:
    check(f"page at {place}", h.pread(PAGE, place), bytes(PAGE))
check("last page", h.pread(PAGE, edge),
      bytes(PAGE - 1) + noise(PAGE, 3)[-1:])
soon("trim", h.trim, MOST, base + 1)
check("last byte", h.pread(1, edge + PAGE - 1), b"\0")

# The disk's two ends, and cache, which is given too.
soon("trim at 0", h.trim, MOST, 0)
soon("zero at the end", h.zero, MOST, size - MOST)
soon("cache", h.cache, MOST, size - MOST)
h.pwrite(b"z", size - 1)
soon("map at the end", extents, h, MOST, size - MOST)

# A thousand such requests are quick too.
def many():
    for i in range(1000):
        h.zero(MOST, 100 * TiB + i * GiB)
soon("a thousand zero requests", many)
END
at_most "slot_table_size" "$(stat_of disk slot_table_size)" 2097152
stop_server disk
