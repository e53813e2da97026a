#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# A disk that holds some megabytes trains a dictionary by itself; what was
# written before, meanwhile and afterwards reads back.  dictionary=none,
# and algorithms that have none, train none.

. "$(dirname "$0")/functions.sh"
require curl jq
require_nbdsh

# 16 MiB of words out of a hundred long ones: no two pages are the same,
# but a dictionary of the words makes each of them much smaller.
words ()
{
  "$python" -c '
import random, sys
from pages import *
r = random.Random(1)
words = ["".join(r.choices("abcdefghijklmnopqrstuvwxyz", k=r.randint(40, 79)))
         for _ in range(100)]
for i in range(4096):
    page = " ".join(r.choices(words, k=PAGE // 40))
    sys.stdout.buffer.write(page[:PAGE].encode())'
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
    h.pwrite(data[i:i + 256 * KiB], i)' "${uri[$1]}" "$tmp/words"
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
          data[i:i + 256 * KiB])' "${uri[$1]}" "$tmp/words"
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

words > "$tmp/words"
[ "$(wc -c < "$tmp/words")" = $((4096 * 4096)) ] || fail "no data"

# Without one first: it says what there is to gain.
start_server none 64M dictionary=none
start_server lz4 64M algorithm=lz4
write none
write lz4

start_server disk 64M dictionary=auto
holds disk '.dictionary == {generation: 0, trained_from: 0, size_gain: 0,
                            time_gain: 0, objects: []}'
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

# A dictionary that is given is used from the first page on, and kept.
# (Even one that is much larger than a page.)
head -c 200000 "$tmp/words" > "$tmp/dictionary"
start_server given 64M dictionary="$tmp/dictionary"
write given
holds given '.dictionary | .generation == 1 and .objects == [4096]'
at_most "what a dictionary of all words leaves" \
        "$(stat_of given compr_data_size)" \
        "$(($(stat_of none compr_data_size) / 2))"
compare given
stop_server given

for name in none lz4; do
  stat_is $name dictionary.generation 0
  stat_is $name dictionary.trained_from 0
  compare $name
  stop_server $name
done
stop_server disk
