#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# Pages that nobody uses become smaller, by themselves; what is used does
# not, and all of it reads back.

. "$(dirname "$0")/functions.sh"
require curl jq
require_nbdsh

# run NAME: 4 MiB of text, to which the disk is compared as well.
write ()
{
  "$python" -c '
import sys
from pages import *
h = connect(sys.argv[1])
for i in range(64):
    h.pwrite(text(64 * KiB, i), i * 64 * KiB)' "${uri[$1]}"
}

compare ()
{
  "$python" -c '
import sys
from pages import *
h = connect(sys.argv[1])
for i in range(64):
    check("what was written", h.pread(64 * KiB, i * 64 * KiB),
          text(64 * KiB, i))' "${uri[$1]}"
}

all_grouped ()
{
  [ "$(stat_of "$1" grouped_pages)" = 1024 ]
}

# Between two comparisons less time must pass than makes pages idle.
age=1
if sanitized; then
  age=20
fi

start_server alone 64M recompress=none
start_server disk 64M recompress=zstd,level=3,age=$age,group=16
write alone
write disk
wait_until 120 all_grouped disk || fail "idle pages are not grouped"
stats disk
stat_is alone grouped_pages 0
stat_is disk orig_data_size $((4 << 20))
at_most "what is stored in groups" "$(stat_of disk compr_data_size)" \
        "$(($(stat_of alone compr_data_size) * 83 / 100))"

# Read once they stay, read twice they leave; and come back.
compare disk
stat_is disk grouped_pages 1024
compare disk
at_most "pages in groups" "$(stat_of disk grouped_pages)" 1023
wait_until 120 all_grouped disk || fail "pages are not grouped again"
compare disk
compare alone

# Trimmed as a whole, nothing is left of them.
"$python" -c '
import sys
from pages import *
h = connect(sys.argv[1])
h.trim(4 * MiB, 0)' "${uri[disk]}"
stat_is disk grouped_pages 0
stat_is disk compr_data_size 0
stop_server disk
stop_server alone
