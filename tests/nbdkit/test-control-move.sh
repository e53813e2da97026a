#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# Pages are moved between RAM and tiers by requests on the control socket, and
# tiers come and go, while the disk is in use.  The numbers that are answered
# are true, and every byte stays what it was.

. "$(dirname "$0")/functions.sh"
require curl jq nbdcopy
require_nbdsh

# moved PAGES PATH: as many were moved.
moved ()
{
  done_by "$2"
  eq "pages moved by $2" "$(jq .moved_pages "$tmp/body")" "$1"
}

# pages_are TIER PAGES
pages_are ()
{
  eq "pages on tier $1" \
     "$(stats disk | jq ".tiers[] | select(.number == $1) | .pages")" "$2"
}

# compare: everything is as it was written.
compare ()
{
  nbdcopy "${uri[disk]}" "$tmp/copy"
  cmp -n $((32 << 20)) "$tmp/data" "$tmp/copy"
}

# 16 MiB that do not compress, and 16 that do.
"$python" -c '
import sys
from pages import *
sys.stdout.buffer.write(noise(16 * MiB))
for i in range(16):
    sys.stdout.buffer.write(text(MiB, i))' > "$tmp/data"
all=$((32 << 8))
huge=$((16 << 8))

start_server disk 256M mem-limit=96M recompress=none \
             tier="$tmp/a" tier-size=64M tier="$tmp/b" tier-size=64M
nbdcopy "$tmp/data" "${uri[disk]}"
stat_is disk bd_count 0
stat_is disk huge_pages $huge

# Down: huge pages, some and then the others; then what is idle.
moved 100 '/writeback?type=huge&limit=100'
stat_is disk bd_count 100
moved $((huge - 100)) '/writeback?type=huge'
stat_is disk bd_count $huge
moved 0 '/writeback?type=idle'
done_by /idle
moved 256 '/writeback?type=idle&range=16M-17M'
moved $((all - huge - 256)) '/writeback?type=idle'
stat_is disk bd_count $all
stat_is disk bd_writes $all
pages_are 0 $all
pages_are 1 0

# Up: a range, of which part has nothing; and some of the rest.
moved 1024 '/promote?range=0-4M'
moved 0 '/promote?range=0-4M'
moved 10 '/promote?range=31M-&limit=10'
stat_is disk bd_count $((all - 1034))

# Across.
moved $((all - 1034)) '/migrate?from=0&to=1'
pages_are 0 0
pages_are 1 $((all - 1034))
moved 0 '/migrate?from=0&to=1'
moved 1024 '/migrate?from=ram&to=0&type=huge'
pages_are 0 1024
moved 256 '/migrate?from=1&to=ram&range=8M-9M'
pages_are 1 $((all - 1034 - 256))
compare

# A third one comes, and the first one goes, and the second one, while
# somebody writes.
"$python" - "${uri[disk]}" "$tmp/stop" <<'END' &
import os
import sys
from pages import *
h = connect(sys.argv[1])
n = 0
while not os.path.exists(sys.argv[2]):
    h.pwrite(noise(MiB, n), (64 + n % 16) * MiB)
    check("what was written", h.pread(MiB, (64 + n % 16) * MiB),
          noise(MiB, n))
    n += 1
END
writer=$!
done_by '/tier/add' --get --data-urlencode "tier=$tmp/c" -d tier-size=64M
c=$(jq .added_tier "$tmp/body")
eq "tiers" "$(stats disk | jq '.tiers | length')" 3
eq "POST /tier/add of the same" "$(post "/tier/add?tier=$tmp/c")" 409
done_by '/tier/remove?tier=0'
eq "tiers" "$(stats disk | jq -c '[.tiers[].number]')" "[1,$c]"
eq "POST /tier/remove again" "$(post '/tier/remove?tier=0')" 400
done_by '/tier/remove?tier=1'
eq "tiers" "$(stats disk | jq -c '[.tiers[].number]')" "[$c]"
done_by '/writeback?type=all'
: > "$tmp/stop"
wait $writer
compare
done_by /compact

# What was let go can be used again.
done_by "/tier/add?tier=$tmp/a"
stop_server disk

# A tier that has more than fits elsewhere stays.
start_server disk 256M mem-limit=16M tier="$tmp/a"
nbdcopy "$tmp/data" "${uri[disk]}"
head -c 32M /dev/urandom > "$tmp/more"
"$python" -c '
import sys
from pages import *
h = connect(sys.argv[1])
data = open(sys.argv[2], "rb").read()
for i in range(0, len(data), MiB):
    h.pwrite(data[i:i + MiB], 64 * MiB + i)' "${uri[disk]}" "$tmp/more"
eq "POST /tier/remove" "$(post '/tier/remove?tier=0')" 507
jq -e .error "$tmp/body"
eq "POST /promote" "$(post '/promote')" 507
jq -e '.moved_pages | type == "number"' "$tmp/body"
compare
stop_server disk

# A request that takes long does not hold up who reads statistics, and ends
# when the server does.
rm -f "$tmp/far.pid"
"$NBDKIT" -f -P "$tmp/far.pid" -U "$tmp/far.sock" --filter=delay \
          memory 64M wdelay=1 2>> "$tmp/far.log" &
job[far]=$!
wait_until 60 test -s "$tmp/far.pid" || fail "the far server does not start"
pid[far]=$(cat "$tmp/far.pid")
start_server disk 256M mem-limit=96M \
             tier="nbd+unix:///?socket=$tmp/far.sock"
nbdcopy "$tmp/data" "${uri[disk]}"
post '/writeback?type=all' > "$tmp/status" &
long=$!
wrote ()
{
  [ "$(stats disk | jq '.tiers[0].pages')" -gt 0 ]
}
wait_until 30 wrote || fail "nothing is written"
for _ in {1..20}; do
  curl -sS --fail --max-time 1 --unix-socket "${ctl[disk]}" -o /dev/null \
       http://zram/stats
done
kill -0 $long || fail "the request has ended already"
stop_server disk
wait $long
eq "status of the long request" "$(cat "$tmp/status")" 503
jq . "$tmp/body"
stop_server far
