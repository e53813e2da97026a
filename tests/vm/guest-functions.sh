# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash

# What the scripts that run in a machine of their own share, beyond what
# tests of the running server have (../nbdkit/functions.sh: start_server,
# stat_of, wait_until, eq, fail, ...).  The machine is thrown away at the
# end, so nothing needs to be put in order for its own sake.

# shellcheck source=../nbdkit/functions.sh
. "$(dirname "$0")/../nbdkit/functions.sh"

# shellcheck disable=SC2034     # the scripts use it
pressure=$abs_top_builddir/tests/vm/pressure

# load MODULE [PARAMETER=VALUE]...
load ()
{
  modprobe -d "${modules_root-/run/kernel}" "$@" || fail "modprobe $*"
}

load_nbd ()
{
  load nbd max_part=0 nbds_max=4
  wait_until 10 test -b /dev/nbd3 || fail "there is no /dev/nbd3"
}

# Seconds since the machine was started, with two decimals.
uptime_now ()
{
  cut -d ' ' -f 1 /proc/uptime
}

# seconds_since UPTIME
seconds_since ()
{
  awk -v a="$1" '{ printf "%.1f", $1 - a }' /proc/uptime
}

# attach NAME DEVICE [OPTION]...: over the server's Unix socket.
attach ()
{
  local name=$1 device=$2

  shift 2
  nbd-client -unix "${sock[$name]}" "$device" -b 4096 "$@" \
    > "$tmp/nbd-client" 2>&1 || { cat "$tmp/nbd-client"; fail "nbd-client"; }
  wait_until 10 is_attached "$device" || fail "$device has no size"
}

is_attached ()
{
  [ "$(blockdev --getsize64 "$1")" -gt 0 ]
}

is_detached ()
{
  [ ! -e "/sys/block/${1#/dev/}/pid" ] &&
    [ "$(cat "/sys/block/${1#/dev/}/size")" = 0 ]
}

detach ()
{
  nbd-client -d "$1" > "$tmp/nbd-client" 2>&1 ||
    { cat "$tmp/nbd-client"; fail "nbd-client -d"; }
  wait_until 10 is_detached "$1" || fail "$1 is still there"
}

mib ()
{
  awk -v n="$1" 'BEGIN { printf "%.1f", n / 1048576 }'
}

# ---- Swap --------------------------------------------------------------

# Seconds since start_pressure's machine began, MiB and compressibility of
# the program whose memory does not fit.
# pressure_with_bursts MIB RATIO ROUNDS: run it, beside a neighbour that
# allocates in bursts.  Fails if a byte is wrong.
pressure_with_bursts ()
{
  local status=0

  "$pressure" --bursts --seed=99 24 > "$tmp/bursts" &
  neighbour=$!
  "$pressure" --ratio="$2" --rounds="$3" "$1" || status=$?
  kill -TERM $neighbour || fail "the neighbour had died"
  wait $neighbour || fail "the neighbour: $(cat "$tmp/bursts")"
  tail -n 1 "$tmp/bursts"
  eq "status of the program" $status 0
}

# swap_used: KiB on all swap devices.
swap_used ()
{
  awk 'NR > 1 { n += $4 } END { print n + 0 }' /proc/swaps
}

# swap_on DEVICE: with discards, which is how the server hears what died.
swap_on ()
{
  mkswap "$1" > /dev/null
  swapon --discard "$1"
}
