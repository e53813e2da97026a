#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# mem: 256M
# timeout: 200

# The kernel's zram under the program of guest-swap.sh, and ours, in the
# same machine one after the other.  The figures are reported, and nothing
# is asserted of them.

. "$(dirname "$0")/guest-functions.sh"

mebibytes=320 rounds=3

row ()
{
  printf '| %s | %s | %s | %s |\n' "$@" | tee -a /run/out/swap-peers
}

# measure NAME COMMAND...: COMMAND prints the peak in bytes.
measure ()
{
  local name=$1 begin

  shift
  begin=$(uptime_now)
  pressure_with_bursts $mebibytes 4 $rounds
  row "$name" "$(seconds_since "$begin")" "$(mib "$("$@")")" \
      "$(awk '/^Max/ { print $2 }' "$tmp/swap.max")"
}

zram_peak ()
{
  awk '{ print $5 }' /sys/block/zram0/mm_stat
}

load lz4
load zram num_devices=1
echo lz4 > /sys/block/zram0/comp_algorithm
echo 768M > /sys/block/zram0/disksize
mkswap /dev/zram0 > /dev/null
swapon --discard /dev/zram0

begin=$(uptime_now)
pressure_with_bursts $mebibytes 4 $rounds
echo "kernel zram, lz4: $(seconds_since "$begin") s, $(mib "$(zram_peak)") MiB"
swapoff /dev/zram0
