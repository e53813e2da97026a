# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash

# What the scripts that run in a machine of their own share, beyond what
# tests of the running server have (../nbdkit/functions.sh: start_server,
# stat_of, wait_until, eq, fail, ...).  The machine is thrown away at the
# end, so nothing needs to be put in order for its own sake.

# shellcheck source=../nbdkit/functions.sh
. "$(dirname "$0")/../nbdkit/functions.sh"
PYTHONPATH=$srcdir/../nbdkit

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

# The device mapper, and targets of it.  (There is no udev in here, which
# would make the nodes in /dev/mapper.)
load_dm ()
{
  local target

  load dm-mod
  for target; do
    load "dm-$target"
  done
  export DM_DISABLE_UDEV=1
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

# pressure_with_bursts MIB RATIO ROUNDS: run the program whose memory does
# not fit, beside a neighbour that allocates in bursts.  Fails if a byte
# is wrong.
pressure_with_bursts ()
{
  local status=0

  "$pressure" --bursts --seed=99 "${neighbour_size-24}" > "$tmp/bursts" &
  neighbour=$!
  "$pressure" --ratio="$2" --rounds="$3" "$1" || status=$?
  kill -TERM $neighbour || fail "the neighbour had died"
  wait $neighbour || fail "the neighbour: $(cat "$tmp/bursts")"
  tail -n 1 "$tmp/bursts"
  eq "status of the program" $status 0
}

# start_swap_server NAME PARAMETER...
start_swap_server ()
{
  local name=$1 field

  shift
  nbdkit_options=(--threads=4)
  start_server "$name" "$@" swap=true
  check_swap_safe "$name"
}

# check_swap_safe NAME: it could do all that it does for swap.
check_swap_safe ()
{
  local field

  for field in memory_locked io_flusher oom_score_adj reserve preallocated \
               realtime
  do
    stat_is "$1" "swap_safe.$field" true
  done
  stat_is "$1" reserve_waits 0
}

# warm_up DEVICE: have the server make everything that is made when it is
# first used, by more large reads at once than it has threads.
warm_up ()
{
  local i jobs=() pieces

  pieces=$(($(blockdev --getsize64 "$1") >> 21))
  for ((i = 0; i < 16; i++)); do
    dd if="$1" of=/dev/null bs=1M count=2 skip=$((i % pieces * 2)) \
       iflag=direct status=none &
    jobs+=($!)
  done
  wait "${jobs[@]}"
}

# vm NAME VALUE: a setting of the kernel's memory management.
vm ()
{
  echo "$2" > "/proc/sys/vm/$1"
}

# prepare_vm: what the server's machine needs if it swaps to the server.
#
# The server's replies go through sockets, whose buffers the kernel gives
# it like any other process: not below the watermark "min" of free memory.
# Watermark boosting raises that after allocations that fragment memory,
# until kswapd has done its round; but kswapd waits for the server.  They
# then wait for each other for ever (seen once in about six runs).  And
# the minimum itself is low on a machine as small as this.  `nbd-zram
# local-swap' sets both.  VM_SETTINGS=NAME=VALUE,... is for trying others.
prepare_vm ()
{
  local setting settings

  settings=${VM_SETTINGS-watermark_boost_factor=0,min_free_kbytes=16384}
  for setting in ${settings//,/ }; do
    vm "${setting%=*}" "${setting#*=}"
  done
}

# swap_on DEVICE: with discards, which is how the server hears what died.
swap_on ()
{
  mkswap "$1" > /dev/null
  swapon --discard "$1"
}

# swap_used: KiB on all swap devices.
swap_used ()
{
  awk 'NR > 1 { n += $4 } END { print n + 0 }' /proc/swaps
}

# make_small_group SIZE: so much memory for what runs in there; beyond
# that it is swapped, though the machine may have more.
make_small_group ()
{
  mkdir -p /tmp/cgroup
  mount -t cgroup2 none /tmp/cgroup
  echo +memory > /tmp/cgroup/cgroup.subtree_control
  mkdir /tmp/cgroup/small
  echo "$1" > /tmp/cgroup/small/memory.max
}

# in_small_group COMMAND...: in the background or in a subshell, since the
# shell is replaced.
in_small_group ()
{
  exec sh -c 'echo 0 > /proc/self/oom_score_adj
              echo $$ > /tmp/cgroup/small/cgroup.procs
              exec "$@"' sh "$@"
}

# pages_out: how many were swapped out since the machine was started.
pages_out ()
{
  awk '$1 == "pswpout" { print $2 }' /proc/vmstat
}

# threads PROCESS: a line for each with its number, flags, minor and major
# faults, scheduling policy, and name.  (One awk for all: a fork takes long
# in here.)
threads ()
{
  cat "/proc/$1/task/"*/stat |
    awk '{ # The name is in parentheses, and may have any characters.
           begin = index ($0, "(")
           for (end = length ($0); substr ($0, end, 1) != ")"; end--);
           split (substr ($0, end + 2), field, " ")
           print $1, field[7], field[8], field[10], field[39],
                 substr ($0, begin + 1, end - begin - 1) }'
}

# check_thread_flags PROCESS: all of them are marked as serving the
# kernel's memory reclaim (PF_MEMALLOC_NOIO and PF_LOCAL_THROTTLE), and
# those of nbdkit have a real-time priority (SCHED_RR), but no others.
check_thread_flags ()
{
  local number flags policy name

  while read -r number flags _ _ policy name; do
    [ $((flags & 0x180000)) -eq $((0x180000)) ] ||
      fail "thread $number ($name) has flags $flags"
    case "$name" in
      zram-* | MHD-*) eq "policy of $name" "$policy" 0 ;;
      *)              eq "policy of $name" "$policy" 2 ;;
    esac
  done < <(threads "$1")
  eq oom_score_adj "$(cat "/proc/$1/oom_score_adj")" -1000
}

# check_resident PROCESS: nothing of it was swapped out.
check_resident ()
{
  eq VmSwap "$(awk '/^VmSwap:/ { print $2 }' "/proc/$1/status")" 0
  eq "swapped out, by smaps" \
     "$(awk '/^Swap:/ { n += $2 } END { print n + 0 }' "/proc/$1/smaps")" 0
}

# KiB that the process has for itself.
pss ()
{
  awk '/^Pss:/ { print $2 }' "/proc/$1/smaps_rollup"
}

# check_faults FILE PROCESS: what its threads have faulted since `threads`
# wrote FILE.  Only the keeper may have brought memory in.
#
# The first touch of a page that the keeper has populated is a minor fault
# too in user-mode-linux, which makes the host's mapping only then.  So
# the others may have as many as the keeper there.  On real page tables
# they have none, but for what the kernel does (it moves pages together).
check_faults ()
{
  local minor major name kept=0 others=0

  while read -r minor major name; do
    [ "$minor" = 0 ] || echo "faults: $minor minor, $major major: $name"
    eq "major faults of $name" "$major" 0
    # The worker, which is on nobody's path, is not looked at.
    case "$name" in
      zram-keeper) kept=$minor ;;
      zram-worker) ;;
      *)           others=$((others + minor)) ;;
    esac
  done < <(threads "$2" |
             awk 'NR == FNR { minor[$1] = $3; major[$1] = $4; next }
                  { name = $6; for (i = 7; i <= NF; i++) name = name " " $i
                    print $3 - minor[$1], $4 - major[$1], name }' "$1" -)
  if [ "${vm_kernel-}" = qemu ]; then
    at_most "minor faults of the threads that serve" $others 64
  else
    at_most "minor faults of the threads that serve" $others "$kept"
  fi
}

# print_dead NAME: pages that the server stores for slots that the kernel
# does not use any more (all that is not swap are a few pages of header).
print_dead ()
{
  local used stored

  used=$(($(swap_used) / 4))
  stored=$(($(stat_of "$1" orig_data_size) / 4096))
  echo "swap slots in use: $used; pages stored: $stored"
}
