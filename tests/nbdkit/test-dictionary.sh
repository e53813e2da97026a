#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# A disk that holds some megabytes trains a dictionary by itself; what was
# written before, meanwhile and afterwards reads back.  dictionary=none,
# and algorithms that have none, train none.

. "$(dirname "$0")/functions.sh"
require curl jq
require_nbdsh

# 16 MiB of sources, no page twice.
sources ()
{
  local places=() place

  for place in /usr/include /usr/lib/python3* /usr/share/perl*; do
    [ -d "$place" ] && places+=("$place")
  done
  find "${places[@]}" -type f \( -name '*.h' -o -name '*.py' -o -name '*.pm' \) \
       -print0 | sort -z | { xargs -0 cat || :; } 2>/dev/null |
    "$python" -c '
import sys
from pages import *
seen = set()
while len(seen) < 4096:
    page = sys.stdin.buffer.read(PAGE)
    if len(page) < PAGE:
        break
    if page not in seen:
        seen.add(page)
        sys.stdout.buffer.write(page)'
}

# write NAME, compare NAME: whole and in requests of 256 KiB.
write ()
{
  "$python" -c '
import sys
from pages import *
h = connect(sys.argv[1])
data = open(sys.argv[2], "rb").read()
for i in range(0, len(data), 256 * KiB):
    h.pwrite(data[i:i + 256 * KiB], i)' "${uri[$1]}" "$tmp/sources"
}

compare ()
{
  "$python" -c '
import sys
from pages import *
h = connect(sys.argv[1])
data = open(sys.argv[2], "rb").read()
for i in range(0, len(data), 256 * KiB):
    check("what was written", h.pread(len(data[i:i + 256 * KiB]), i),
          data[i:i + 256 * KiB])' "${uri[$1]}" "$tmp/sources"
}

has_dictionary ()
{
  [ "$(stat_of "$1" dictionary.generation)" -ge 1 ]
}

# holds NAME EXPRESSION: which is true of the statistics.
holds ()
{
  stats "$1" | jq -e "$2" > /dev/null || fail "not so: $2"
}

{ sources || :; } 2>/dev/null > "$tmp/sources"
[ "$(wc -c < "$tmp/sources")" -ge $((3000 * 4096)) ] ||
  skip "this system has too few sources to fill a disk with"

# Without one first: it says what there is to gain.
start_server none 64M dictionary=none
start_server lz4 64M algorithm=lz4
write none
write lz4

start_server disk 64M dictionary=auto
holds disk '.dictionary == {generation: 0, trained_from: 0, size_gain: 0,
                            time_gain: 0}'
write disk
wait_until 60 has_dictionary disk || fail "no dictionary"
stats disk
compare disk
holds disk '.dictionary | .generation >= 1 and .trained_from > 0 and
            .size_gain >= 0 and .size_gain < 1 and
            .time_gain >= 0 and .time_gain < 1 and
            .size_gain + .time_gain > 0'
# Three decimals, the first of them not eaten.
stats disk | grep -qE '"size_gain": [01]\.[0-9]{3},?$' ||
  fail "size_gain has not three decimals"
stats disk | grep -qE '"time_gain": [01]\.[0-9]{3},?$' ||
  fail "time_gain has not three decimals"

# What was written before it becomes as small as it can be.
is_smaller ()
{
  [ "$(stat_of disk compr_data_size)" -le \
    "$(stat_of none compr_data_size)" ]
}
wait_until 60 is_smaller || fail "old pages stay as large as without"
compare disk

write disk
compare disk

for name in none lz4; do
  stat_is $name dictionary.generation 0
  stat_is $name dictionary.trained_from 0
  compare $name
  stop_server $name
done
stop_server disk
