#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# mem: 256M
# timeout: 300
# kernel-may-complain

# What goes wrong, and what happens then: a disk detached while it is
# written to, swapoff while memory is short, and a server that is killed
# while the machine swaps to it.  docs/swap.md tells users what to expect,
# from what this prints.

. "$(dirname "$0")/guest-functions.sh"

load_nbd
prepare_vm
dmesg -n 1

# The script and its tools live on; the kernel is to kill others.
echo -1000 > /proc/self/oom_score_adj

# Only what runs in this group is swapped out, or this script would be as
# dead as the rest when the swap space goes.
make_small_group 48M

# hold NAME MIB: have a program fill memory, and wait until it has.
hold ()
{
  in_small_group "$pressure" --rounds=1 --hold "$2" > "$tmp/$1" &
  holder=$!
  wait_until 60 grep -q holding "$tmp/$1" || fail "$1 does not fill memory"
}

# let_go NAME: it verifies everything and ends; print how.
let_go ()
{
  local status=0

  kill -TERM $holder 2>/dev/null || :
  wait $holder || status=$?
  tail -n 1 "$tmp/$1"
  echo "$1: status $status"
  released=$status
}

say ()
{
  printf '\n==> %s\n' "$*"
}

say "detach while it is written to"
start_server disk 512M
attach disk /dev/nbd0
dd if=/dev/urandom of=/dev/nbd0 bs=128k count=4000 oflag=direct 2> "$tmp/dd" &
writer=$!
written_to ()
{
  [ "$(stat_of disk orig_data_size)" -gt 1048576 ]
}
wait_until 20 written_to || fail "nothing is written"
detach /dev/nbd0
status=0
wait $writer || status=$?
echo "writer: status $status: $(head -n 1 "$tmp/dd")"
[ $status -ne 0 ] || fail "the writer noticed nothing"
# The server is none the worse, and takes the next client.
attach disk /dev/nbd0
dd if=/dev/nbd0 of="$tmp/sector" bs=4096 count=1 iflag=direct status=none
eq "bytes read" "$(wc -c < "$tmp/sector")" 4096
detach /dev/nbd0
stop_server disk

say "swapoff while the program runs, with enough memory for it"
start_swap_server swap 512M mem-limit=150M
attach swap /dev/nbd0
warm_up /dev/nbd0
swap_on /dev/nbd0
hold fits 96
echo "swapped out: $(swap_used) KiB"
at_least "KiB swapped out" "$(swap_used)" 20000
echo max > /tmp/cgroup/small/memory.max
begin=$(uptime_now)
swapoff /dev/nbd0
echo "swapoff: $(seconds_since "$begin") s"
let_go fits
eq "status of the program" $released 0

# (Without enough memory for it, swapoff is not refused.  It reads until
# there is no memory left, and the kernel kills it, and others, one after
# the other; nothing to be repeated in a test.)

say "the server is killed while the machine swaps to it"
echo 48M > /tmp/cgroup/small/memory.max
swap_on /dev/nbd0
hold killed 128
echo "swapped out: $(swap_used) KiB"
kill -KILL "${pid[swap]}"
wait "${job[swap]}" || :
unset 'job[swap]'
# (The device stays until the last who has it open lets go: swapoff.)
let_go killed
[ $released -ne 0 ] || fail "it cannot have read what was swapped out"
echo "in use afterwards: $(swap_used) KiB"
status=0
begin=$(uptime_now)
timeout -k 5 30 swapoff /dev/nbd0 2> "$tmp/swapoff" || status=$?
echo "swapoff: status $status after $(seconds_since "$begin") s:" \
     "$(cat "$tmp/swapoff")"
cat /proc/swaps
dmesg | grep -E 'Read-error|Write-error|Connection|I/O error|shutting' |
  sed 's/sector [0-9]*/sector N/; s/^\[[^]]*\] //' | sort | uniq -c |
  sort -rn | head -n 8

say "and what does not depend on it goes on"
"$pressure" --rounds=1 32
