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

eq "MiB that fit" "$(tier_client fill disk 0 24)" 24

# Stopped for three seconds, while one writes and another reads.
kill -STOP "${pid[far]}"
tier_client fill disk 24 40 > "$tmp/filled" &
writer=$!
tier_client lost disk 0 24 64 > "$tmp/lost" &
reader=$!
sleep 3
kill -0 $writer || fail "the writer has not waited"
kill -0 $reader || fail "the reader has not waited"
kill -CONT "${pid[far]}"
wait $writer || fail "the writer"
wait $reader || fail "the reader"
eq "MiB that fit" "$(cat "$tmp/filled")" 16
eq "pages that are lost" "$(cat "$tmp/lost")" ""
eq "pages that are lost" "$(tier_client lost disk 0 40)" ""
eq "failed requests" "$(stat_of disk failed_reads)" 0
eq "failed requests" "$(stat_of disk failed_writes)" 0

# Killed.
kill_server far
lost=$(tier_client lost disk 0 40 1250 | wc -w)
echo "lost while it is gone: $lost of 9"
at_least "pages that are lost" "$lost" 3
at_most "pages that are lost" "$lost" 8
# RAM fills up, as far as it was kept free, and a MiB that was freed within.
# Then what is new finds no room.
free=$((($(stat_of disk mem_limit) - $(stat_of disk resident)) / 1048576))
at_most "MiB that fit" "$(tier_client fill disk 50 60)" $((free + 1))
at_most "MiB that fit when RAM is full" "$(tier_client fill disk 60 70)" 1

# Back again, in the middle of it.  Some seconds may pass until somebody looks
# whether it is.
is_back ()
{
  [ -z "$(tier_client lost disk 0 40 1250)" ]
}

start_nbdkit far file "$tmp/storage"
wait_until 30 is_back || fail "the tier is not back"
eq "pages that are lost" "$(tier_client lost disk 0 40)" ""
eq "MiB that fit" "$(tier_client fill disk 40 48)" 8
eq "pages that are lost" "$(tier_client lost disk 0 48)" ""

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
