#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# swap=true: the reserve is filled and in memory, what cannot be had here
# is said by name, and the disk works like any other.  (That it can be
# swapped to, a kernel shows: tests/vm.)

. "$(dirname "$0")/functions.sh"
require nbdcopy jq

# What the statistics and the messages say must agree.
check_said ()
{
  local field=$1 words=$2

  if [ "$(stats disk | jq ".swap_safe.$field")" = true ]; then
    if grep -F "$words" "$tmp"/*.log; then
      fail "$field is true and was said not to be"
    fi
  else
    grep -F "swap=true: $words" "$tmp"/*.log ||
      fail "$field is false, and nothing was said"
  fi
}

start_server disk 64M swap=true reserve=4M
stats disk | jq '{reserve_size, reserve_low, reserve_waits, swap_safe}'
stat_is disk reserve_size $((4 << 20))
stat_is disk reserve_low $((4 << 20))
stat_is disk reserve_waits 0
eq "swap_safe.reserve" "$(stats disk | jq .swap_safe.reserve)" true
check_said memory_locked "memory cannot be locked"
check_said io_flusher "the kernel may wait for swapping"
check_said oom_score_adj "the OOM killer may choose the server"
check_said realtime "no real-time priority"

resident=$(stats disk | jq .resident)
at_least resident "$resident" $((4 << 20))

# More than the reserve, and all of it comes back.
{ yes 'what compresses, and what does not' || :; } | head -c 32M > "$tmp/data"
head -c 16M /dev/urandom >> "$tmp/data"
nbdcopy "$tmp/data" "${uri[disk]}"
nbdcopy "${uri[disk]}" "$tmp/copy"
cmp -n $((48 << 20)) "$tmp/data" "$tmp/copy"
at_least "resident when full" "$(stats disk | jq .resident)" $((20 << 20))
stop_server disk

# Without it there is no reserve, and nothing is said to be safe.
start_server disk 64M
stat_is disk reserve_size 0
eq "swap_safe" "$(stats disk | jq -c '[.swap_safe[]] | unique')" '[false]'
stop_server disk
