#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# The server of a tier stands still and goes on: requests wait, and nothing
# is lost.  It is killed: EIO for what was there, and only for that.  It is
# started again with what it had: everything is right.  (Started again and
# empty: see test-tier-nbd.sh.)

. "$(dirname "$0")/functions.sh"
require curl jq
require_nbdsh

truncate -s 64M "$tmp/storage"
start_nbdkit far file "$tmp/storage"
start_server disk 256M mem-limit=16M tier="${uri[far]}"

cat > "$tmp/fill.py" <<'END'
import sys
from pages import *

h = connect(sys.argv[1])
for i in range(int(sys.argv[2]), int(sys.argv[3])):
    h.pwrite(noise(MiB, i), i * MiB)
END

# look FIRST MIB STEP: how many of the pages are EIO; the others are right.
look ()
{
  "$python" -c '
import sys
from pages import *

h = connect(sys.argv[1])
first, end, step = (int(s) for s in sys.argv[2:])
cache = {}

def content(page):
    if page // 256 not in cache:
        cache.clear()
        cache[page // 256] = noise(MiB, page // 256)
    return cache[page // 256][page % 256 * PAGE:][:PAGE]

print(len(lost(h, range(first, end * 256, step), content)))
' "${uri[disk]}" "$@"
}

"$python" "$tmp/fill.py" "${uri[disk]}" 0 24

# Stopped for three seconds, while one writes and another reads.
kill -STOP "${pid[far]}"
"$python" "$tmp/fill.py" "${uri[disk]}" 24 40 &
writer=$!
look 0 24 64 > "$tmp/lost" &
reader=$!
sleep 3
kill -0 $writer || fail "the writer has not waited"
kill -0 $reader || fail "the reader has not waited"
kill -CONT "${pid[far]}"
wait $writer || fail "the writer"
wait $reader || fail "the reader"
eq "pages that are lost" "$(cat "$tmp/lost")" 0
eq "pages that are lost" "$(look 0 40 1)" 0
eq "failed requests" "$(stat_of disk failed_reads)" 0
eq "failed requests" "$(stat_of disk failed_writes)" 0

# Killed.  (Each page that is not there takes three quarters of a second of
# tries to connect.)
kill_server far
lost=$(look 64 40 1250)
echo "lost while it is gone: $lost of 9"
at_least "pages that are lost" "$lost" 3
at_most "pages that are lost" "$lost" 8
# RAM is full, and what is new finds no room.
"$python" -c '
import sys
from pages import *

h = connect(sys.argv[1])
try:
    h.pwrite(noise(8 * MiB, 1), 50 * MiB)
    sys.exit("there was room")
except nbd.Error as e:
    check("the error", e.errno, "ENOSPC")
h.trim(8 * MiB, 50 * MiB)
' "${uri[disk]}"

# Back again, in the middle of it.
start_nbdkit far file "$tmp/storage"
eq "pages that are lost" "$(look 0 40 1)" 0
"$python" "$tmp/fill.py" "${uri[disk]}" 40 48
eq "pages that are lost" "$(look 0 48 1)" 0

# And when both have ended, it is free for the next disk, which is empty.
stop_server disk
start_server disk 256M mem-limit=16M tier="${uri[far]}"
"$python" -c '
import sys
from pages import *

check("what a new disk holds", connect(sys.argv[1]).pread(MiB, 0), bytes(MiB))
' "${uri[disk]}"
stop_server disk
stop_server far
