#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# mem: 256M
# timeout: 3000
# silence: 900
# kernel: qemu

# The kernel's zram under the program of guest-swap.sh, and ours, in the
# same machine one after the other.  The figures are reported, and nothing
# is asserted of them.  (In qemu, since user-mode-linux has prices of its
# own; processors that are emulated favour whoever computes less.)

. "$(dirname "$0")/guest-functions.sh"

mebibytes=${VM_MIB-384} rounds=${VM_ROUNDS-3}

# run NAME COMMAND...: COMMAND prints the most memory that was taken.
run ()
{
  local name=$1 begin seconds

  shift
  begin=$(uptime_now)
  pressure_with_bursts "$mebibytes" 4 "$rounds"
  seconds=$(seconds_since "$begin")
  echo "| $name | $seconds | $(mib "$("$@")") |" >> "$tmp/table"
}

zram_peak ()
{
  awk '{ print $5 }' /sys/block/zram0/mm_stat
}

# All that our process has, which is more than what it stores.
our_peak ()
{
  awk '/^VmHWM:/ { print $2 * 1024 }' "/proc/${pid[swap]}/status"
}

with_zram ()
{
  echo lz4 > /sys/block/zram0/comp_algorithm
  echo 768M > /sys/block/zram0/disksize
  mkswap /dev/zram0 > /dev/null
  swapon --discard /dev/zram0
  run "kernel zram, lz4" zram_peak
  swapoff /dev/zram0
  echo 1 > /sys/block/zram0/reset
}

# with_ours ALGORITHM
with_ours ()
{
  start_swap_server swap 768M mem-limit=170M algorithm="$1"
  attach swap /dev/nbd0
  warm_up /dev/nbd0
  swap_on /dev/nbd0
  run "nbdkit zram, $1" our_peak
  swapoff /dev/nbd0
  detach /dev/nbd0
  stop_server swap
}

load_nbd
prepare_vm
load lz4
load zram num_devices=1

with_zram
with_ours lz4
with_ours zstd

echo "| swap of $mebibytes MiB, $rounds rounds | seconds | MiB at most |"
echo "|---|---|---|"
cat "$tmp/table"
