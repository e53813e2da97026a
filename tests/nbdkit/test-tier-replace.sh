#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# A tier that is damaged, and one that is dead, are removed by force while the
# disk is in use, after another one was added.  Only what could not be read is
# lost, until it is written again, and it is counted.

. "$(dirname "$0")/functions.sh"
require curl jq nbdcopy
require_nbdsh

# compare: prints how many pages are EIO.  All others are as they were written.
compare ()
{
  "$python" -c '
import sys
from pages import *
h = connect(sys.argv[1])
data = open(sys.argv[2], "rb").read()
print(len(lost(h, range(len(data) // PAGE),
               lambda page: data[page * PAGE:][:PAGE])))' \
      "${uri[disk]}" "$tmp/data"
}

# not_removed TIER: not without force, and who asks is told of it.
not_removed ()
{
  post "/tier/remove?tier=$1" > "$tmp/status"
  jq -c . "$tmp/body"
  [ "$(cat "$tmp/status")" != 200 ] || fail "tier $1 was removed"
  eq "lost pages" "$(stat_of disk lost_pages)" 0
}

# lost_with TIER: that many pages, the same by all accounts.
lost_with ()
{
  local lost

  done_by "/tier/remove?tier=$1&force=true"
  lost=$(jq .lost_pages "$tmp/body")
  eq "lost pages" "$(stat_of disk lost_pages)" "$lost"
  eq "pages that cannot be read" "$(compare)" "$lost"
  echo "$lost"
}

head -c 32M /dev/urandom > "$tmp/data"

# A byte has changed in the middle of a segment: one page.
start_server disk 256M mem-limit=16M tier="$tmp/a" tier-size=64M
nbdcopy "$tmp/data" "${uri[disk]}"
"$python" -c '
import os, sys
from pages import *
data = open(sys.argv[2], "rb").read()
f = os.open(sys.argv[1], os.O_RDWR)
whole = os.pread(f, 64 * MiB, 0)
there = [at for at in (whole.find(data[page * PAGE:][:PAGE])
                       for page in range(0, 8192, 100)) if at >= 0]
at = there[len(there) // 2] + 500
os.pwrite(f, bytes([whole[at] ^ 1]), at)' "$tmp/a" "$tmp/data"
done_by "/tier/add?tier=$tmp/b&tier-size=64M"
not_removed 0
grep -q force "$tmp/body" || fail "nobody is told of force"
lost=$(lost_with 0)
eq "lost pages" "$lost" 1
eq "tiers" "$(stats disk | jq -c '[.tiers[].number]')" '[1]'

# Part of a page does not bring it back; all of it does.
"$python" -c '
import sys
from pages import *
h = connect(sys.argv[1])
data = open(sys.argv[2], "rb").read()
for page in lost(h, range(8192), lambda page: data[page * PAGE:][:PAGE]):
    try:
        h.pwrite(b"x", page * PAGE + 17)
        sys.exit("a lost page was changed in part")
    except nbd.Error as e:
        check("the error", e.errno, "EIO")
    check("the map", extents(h, PAGE, page * PAGE), [[PAGE, 0]])
    h.pwrite(data[page * PAGE:][:PAGE], page * PAGE)' \
    "${uri[disk]}" "$tmp/data"
stat_is disk lost_pages 0
eq "pages that cannot be read" "$(compare)" 0
stop_server disk

# An NBD server is killed and never comes back.
rm -f "$tmp/far.pid"
"$NBDKIT" -f -P "$tmp/far.pid" -U "$tmp/far.sock" memory 64M \
          2>> "$tmp/far.log" &
job[far]=$!
wait_until 60 test -s "$tmp/far.pid" || fail "the far server does not start"
start_server disk 256M mem-limit=16M tier="nbd+unix:///?socket=$tmp/far.sock"
nbdcopy "$tmp/data" "${uri[disk]}"
kill -KILL "$(cat "$tmp/far.pid")"
wait "${job[far]}" || :
unset "job[far]"
not_removed 0
on_far=$(stat_of disk bd_count) # now that no more can go there
at_least "pages on the tier" "$on_far" $((16 << 8))
done_by "/tier/add?tier=$tmp/c&tier-size=64M"
lost=$(lost_with 0)
at_least "lost pages" "$lost" $((15 << 8))
at_most "lost pages" "$lost" "$on_far"
nbdcopy "$tmp/data" "${uri[disk]}"
stat_is disk lost_pages 0
eq "pages that cannot be read" "$(compare)" 0
eq "tiers" "$(stats disk | jq -c '[.tiers[].number]')" '[1]'
stop_server disk
