#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# A tier's server that falls silent, is killed, and comes back with what it
# had: pages on it cannot be read meanwhile, which is said at once and not
# after minutes, pages in RAM can, and afterwards all is there.

. "$(dirname "$0")/functions.sh"
require curl jq nbdcopy
require_nbdsh

# serve FILE
serve ()
{
  rm -f "$tmp/far.pid" "$tmp/far.sock"
  "$NBDKIT" -f -P "$tmp/far.pid" -U "$tmp/far.sock" file "$1" \
            2>> "$tmp/far.log" &
  job[far]=$!
  wait_until 60 test -s "$tmp/far.pid" || fail "the far server does not start"
  pid[far]=$(cat "$tmp/far.pid")
}

kill_far ()
{
  kill -KILL "${pid[far]}"
  wait "${job[far]}" || :
  unset "job[far]"
}

# look: every 64th page is as it was, or EIO; prints how many are EIO.  Which
# pages that are changes when they were all read: read again, they would come
# back to RAM.
round=0
look ()
{
  "$python" -c '
import sys
from pages import *
h = connect(sys.argv[1])
data = open(sys.argv[2], "rb")
bad = 0
for i in range(int(sys.argv[3]), 8192, 64):
    data.seek(i * PAGE)
    want = data.read(PAGE)
    try:
        if h.pread(PAGE, i * PAGE) != want:
            sys.exit("page %d is wrong" % i)
    except nbd.Error as e:
        check("the error", e.errno, "EIO")
        bad += 1
print(bad)' "${uri[disk]}" "$tmp/data" "$round"
}

# some_lost SECONDS: some are, and all are looked at within so many.
some_lost ()
{
  local start=$SECONDS lost

  lost=$(look)
  echo "lost: $lost of 128, in $((SECONDS - start)) seconds"
  at_least "pages that are lost" "$lost" 64
  at_most "pages that are lost" "$lost" 127
  at_most "seconds that it took" $((SECONDS - start)) "$1"
}

none_lost ()
{
  [ "$(look)" = 0 ] && round=$((round + 1))
}

# said COUNT WORDS: how often so far.
said ()
{
  eq "how often '$2' was said" "$(grep -c "$2" "$tmp/disk.log")" "$1"
}

head -c 32M /dev/urandom > "$tmp/data"
truncate -s 64M "$tmp/export"
truncate -s 64M "$tmp/empty"
serve "$tmp/export"
start_server disk 256M mem-limit=16M \
             tier="nbd+unix:///?socket=$tmp/far.sock"
nbdcopy "$tmp/data" "${uri[disk]}"
at_least "pages on the tier" "$(stat_of disk bd_count)" $((16 << 8))
none_lost || fail "pages are lost while all is well"

# The host is silent.  One request waits for ten seconds, and a second one
# that wants to know if it is back; no other does.
kill -STOP "${pid[far]}"
some_lost 40
said 1 "does not answer"
kill -CONT "${pid[far]}"
wait_until 40 none_lost || fail "pages are lost for good"
said 1 "answers again"

# Killed, and the same again.
kill_far
some_lost 10
said 2 "does not answer"
serve "$tmp/export"
wait_until 40 none_lost || fail "pages are lost for good"
said 2 "answers again"

# Another export in its place is left alone.  (What asks if it is back may
# do so while there is no server.)
kill_far
serve "$tmp/empty"
some_lost 10
wait_until 40 grep -q 'not the export' "$tmp/disk.log" ||
  fail "it is not said that the export is another"
cmp -n $((64 << 20)) "$tmp/empty" /dev/zero
kill_far
serve "$tmp/export"
wait_until 40 none_lost || fail "pages are lost for good"
said 3 "answers again"

# The server ends soon, though the host is silent.
kill -STOP "${pid[far]}"
stop_server disk
kill -CONT "${pid[far]}"
kill_far

# A relative path still means the same when the server has gone to its own
# directory and connects again.
serve "$tmp/export"
(
  cd "$tmp"
  "$NBDKIT" -P "$tmp/daemon.pid" -U "$tmp/daemon.sock" zram 256M \
            mem-limit=16M tier='nbd+unix:///?socket=far.sock'
)
wait_until 60 test -s "$tmp/daemon.pid" || fail "the daemon does not start"
on_exit+=('kill -KILL "$(cat "$tmp/daemon.pid")" 2>/dev/null')
eq "directory of the server" \
   "$(readlink "/proc/$(cat "$tmp/daemon.pid")/cwd")" /
uri[disk]="nbd+unix:///?socket=$tmp/daemon.sock"
nbdcopy "$tmp/data" "${uri[disk]}"
kill_far
some_lost 10
serve "$tmp/export"
wait_until 40 none_lost || fail "the server is not found any more"
kill "$(cat "$tmp/daemon.pid")"
wait_until 30 is_gone "$(cat "$tmp/daemon.pid")" || fail "it does not end"
kill_far
