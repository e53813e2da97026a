#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# The map of a disk: one hole when it is fresh, and afterwards what was
# done to it, to the page.

. "$(dirname "$0")/functions.sh"
require nbdinfo curl jq
require_nbdsh

# A fresh disk of any size is one hole.
for size in 1 4097 1G 1T; do
  bytes=$("$NBDKIT" -U - zram "$size" --run 'nbdinfo --size "$uri"')
  "$NBDKIT" -U - zram "$size" --run 'nbdinfo --map --json "$uri"' > "$tmp/map"
  eq "kinds on a fresh disk of $size" \
     "$(jq -r '[.[].type] | unique | join (" ")' "$tmp/map")" 3
  eq "map of a fresh disk of $size" \
     "$(jq -r '[.[].length] | add' "$tmp/map")" "$bytes"
done
eq "extents of a fresh disk" \
   "$("$NBDKIT" -U - zram 1G --run 'nbdinfo --map --json "$uri"' |
      jq length)" 1

start_server disk 16G
"$python" - "${uri[disk]}" <<'END'
import sys
from pages import *

h = connect(sys.argv[1])
size = h.get_size()
DATA, ZERO, HOLE = 0, 2, 3

# Two pages of data, a page of same-filled data, a page of zeroes.
h.pwrite(noise(2 * PAGE), 10 * PAGE)
h.pwrite(same(PAGE), 12 * PAGE)
h.pwrite(bytes(PAGE), 13 * PAGE)
check("map", extents(h, size, 0),
      [[10 * PAGE, HOLE], [3 * PAGE, DATA], [PAGE, ZERO],
       [size - 14 * PAGE, HOLE]])

# A range cuts the first and the last extent, within a page too.
check("map of a part", extents(h, 3 * PAGE, 9 * PAGE + 512),
      [[PAGE - 512, HOLE], [2 * PAGE + 512, DATA]])

# One byte makes a page of data.
h.pwrite(b"x", 4 * PAGE + 100)
check("map after one byte", extents(h, 10 * PAGE, 0),
      [[4 * PAGE, HOLE], [PAGE, DATA], [5 * PAGE, HOLE]])

# Trim and zero of whole pages make holes.
h.trim(PAGE, 10 * PAGE)
h.zero(PAGE, 12 * PAGE)
check("map after trim and zero", extents(h, 6 * PAGE, 9 * PAGE),
      [[2 * PAGE, HOLE], [PAGE, DATA], [PAGE, HOLE], [PAGE, ZERO],
       [PAGE, HOLE]])
h.trim(PAGE, 13 * PAGE)

# Trim of part of a page leaves the rest.
h.trim(100, 4 * PAGE)
check("map after trim of a part", extents(h, 6 * PAGE, 0),
      [[4 * PAGE, HOLE], [PAGE, DATA], [PAGE, HOLE]])
check("the byte", h.pread(1, 4 * PAGE + 100), b"x")

# Far away, alone, and the last page.
h.pwrite(noise(PAGE), 9 * GiB)
h.pwrite(noise(PAGE), size - PAGE)
check("map far away", extents(h, size - 8 * GiB, 8 * GiB),
      [[GiB, HOLE], [PAGE, DATA], [size - 9 * GiB - 2 * PAGE, HOLE],
       [PAGE, DATA]])

# Alternate pages: as many extents as pages, none lost where the server
# cuts its answer.
for i in range(0, 4096, 2):
    h.pwrite(same(PAGE), GiB + i * PAGE)
check("map of alternate pages", extents(h, 4096 * PAGE, GiB),
      [[PAGE, HOLE if i % 2 else DATA] for i in range(4096)])

# Whoever asks for one extent gets one, and it may not be wrong.
got = []
h.block_status(GiB, 10 * PAGE, lambda c, o, e, err: got.extend(e),
               nbd.CMD_FLAG_REQ_ONE)
check("one extent", got, [PAGE, HOLE])

# All of it trimmed is all of it a hole again.
h.trim((1 << 32) - PAGE, 0)
for at in range(0, size, GiB):
    h.trim(GiB, at)
check("map after trimming everything", extents(h, size, 0), [[size, HOLE]])
END
stop_server disk
