#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# mem: 256M
# timeout: 600

# Swap of the machine that the server runs on.  A program writes half as
# much again as there is memory, and verifies it, beside another that
# allocates in bursts: every byte is right, nobody waits for ever, and no
# page of the server is swapped out or faulted in while it serves.
#
# user-mode-linux takes about half a millisecond for each page, so only
# the first cycle has the full size.  With VM_CYCLES, so many, every tenth
# has it, or all have VM_MIB.  VM_NEIGHBOUR is what another has that does not
# compress, MiB.

. "$(dirname "$0")/guest-functions.sh"

sizes=(384 224)
if [ -n "${VM_CYCLES-}" ]; then
  sizes=()
  for ((i = 0; i < VM_CYCLES; i++)); do
    sizes+=("${VM_MIB-$((i % 10 ? 224 : 384))}")
  done
fi

load_nbd
prepare_vm
start_swap_server swap 768M mem-limit=170M
attach swap /dev/nbd0
warm_up /dev/nbd0
check_thread_flags "${pid[swap]}"

# For looking at what hangs.
if [ -n "${VM_WATCH-}" ]; then
  echo 1 > /proc/sys/kernel/sysrq
  while sleep "$VM_WATCH"; do
    echo "$(uptime_now): $(swap_used) KiB in use"
    dmesg -n 8
    echo w > /proc/sysrq-trigger
    dmesg -n 4
  done &
fi

for size in "${sizes[@]}"; do
  swap_on /dev/nbd0
  threads "${pid[swap]}" > "$tmp/threads"
  begin=$(uptime_now)
  pressure_with_bursts "$size" 4 "${VM_ROUNDS-1}"
  echo "$(seconds_since "$begin") s"

  check_faults "$tmp/threads" "${pid[swap]}"
  check_resident "${pid[swap]}"
  check_swap_safe swap
  print_dead swap
  swapoff /dev/nbd0
done

check_thread_flags "${pid[swap]}"
stats swap | jq -Mc .
detach /dev/nbd0
stop_server swap

# Pages that do not compress: each that is swapped out takes as much memory
# as it frees.  (More of them than there is memory cannot be held at all,
# and a little less is not swapped; so it is a small group that has more
# than it may have, while the neighbour makes memory short for all.)  With
# this limit, see docs/swap.md, the server has room for a full swap space.
start_swap_server raw 64M mem-limit=98M
attach raw /dev/nbd0
warm_up /dev/nbd0
swap_on /dev/nbd0
make_small_group 40M
before=$(pages_out)
"$pressure" --bursts --ratio=1 --seed=99 "${VM_NEIGHBOUR-56}" > "$tmp/bursts" &
neighbour=$!
(in_small_group "$pressure" --ratio=1 --rounds=1 92)
kill -TERM $neighbour
wait $neighbour || fail "the neighbour: $(cat "$tmp/bursts")"
tail -n 1 "$tmp/bursts"
echo "$(($(pages_out) - before)) pages were swapped out," \
     "$(stat_of raw huge_pages_since) times one that does not compress"
at_least "pages that do not compress" "$(stat_of raw huge_pages_since)" 10000
stat_is raw failed_writes 0
check_resident "${pid[raw]}"
check_swap_safe raw
swapoff /dev/nbd0
stats raw | jq -Mc .
detach /dev/nbd0
stop_server raw
