# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash

# What the tests of the running server share.  A test is a bash script
# that reads this file first:
#
#     . "$(dirname "$0")/functions.sh"
#     require qemu-img
#     start_server disk 64M
#     qemu-img info "${uri[disk]}"
#     stop_server disk
#
# It passes when it reaches its end, fails when a command does, and is
# skipped by `skip REASON`, which exits 77.
#
# Every server started here must end by stop_server, with status 0 and
# in bounded time.  One that died before, or that the sanitizers found
# fault with, fails the test.  Nothing sleeps for a fixed time: what is
# waited for is named, and polled.

set -eEuo pipefail

# `make check` gives these; a test started by hand finds its own.
: "${srcdir:=$(dirname "$0")}"
srcdir=$(cd "$srcdir" && pwd)
: "${abs_top_builddir:=$(cd "$srcdir/../.." && pwd)}"
: "${NBDKIT:=$abs_top_builddir/nbdkit}"
: "${PLUGIN_SO:=$abs_top_builddir/plugin/.libs/nbdkit-zram-plugin.so}"

# Python helpers are next to this file, which may be read-only.
export PYTHONPATH="$srcdir" PYTHONDONTWRITEBYTECODE=1
unset LISTEN_FDS LISTEN_PID

# A name for the test directory that leaves room for a socket's name
# (107 bytes in all), whatever TMPDIR is.
tmp=$(mktemp -d "${TMPDIR:-/tmp}/zram-test.XXXXXX")
if [ ${#tmp} -gt 80 ]; then
  rmdir "$tmp"
  tmp=$(mktemp -d /tmp/zram-test.XXXXXX)
fi

# By the server's name: the shell's job, the server's process, and where
# to reach it.
declare -A job=() pid=() uri=() sock=() ctl=()

# More options for nbdkit itself.
nbdkit_options=()

# Commands to run at exit, last one first.
on_exit=()

cleanup ()
{
  local status=$? name i

  trap - EXIT
  set +e
  for ((i = ${#on_exit[@]} - 1; i >= 0; i--)); do
    eval "${on_exit[i]}"
  done
  for name in "${!job[@]}"; do
    kill -KILL "${pid[$name]}" 2>/dev/null
    wait "${job[$name]}" 2>/dev/null
  done
  if [ $status -ne 0 ] && [ $status -ne 77 ]; then
    for i in "$tmp"/*.log; do
      [ -s "$i" ] || continue
      echo "---- $(basename "$i"):"
      tail -n 60 "$i"
    done
  fi
  rm -rf "$tmp"
  exit $status
}
trap cleanup EXIT

# set -e ends a test in silence; say where.
trap 'echo "$0: line $LINENO: status $?: $BASH_COMMAND" >&2' ERR

skip ()
{
  echo "SKIP: $*"
  exit 77
}

# fail MESSAGE: and say which line of the test came to this.
fail ()
{
  local i=0

  trap - ERR
  while [ "${BASH_SOURCE[i + 1]}" != "$0" ] && [ $i -lt 9 ]; do
    i=$((i + 1))
  done
  echo "FAIL: $0: line ${BASH_LINENO[i]}: $*" >&2
  exit 1
}

# require TOOL...: skip the test where one of them is not installed.
require ()
{
  local tool

  for tool; do
    command -v "$tool" >/dev/null || skip "$tool is not installed"
  done
}

# require_nbdsh: skip unless there is a Python with libnbd's module, and
# put its name in $python.  (The first python3 in the path need not be
# the one that the distribution's module belongs to.)
require_nbdsh ()
{
  for python in python3 /usr/bin/python3; do
    if "$python" -c 'import nbd' 2>/dev/null; then
      return 0
    fi
  done
  skip "Python's nbd module is not installed"
}

# eq WHAT GOT EXPECTED
eq ()
{
  [ "$2" = "$3" ] || fail "$1 is '$2' and should be '$3'"
}

# at_most WHAT GOT LIMIT, at_least WHAT GOT LIMIT: for integers.
at_most ()
{
  [ "$2" -le "$3" ] || fail "$1 is $2 and should be at most $3"
}

at_least ()
{
  [ "$2" -ge "$3" ] || fail "$1 is $2 and should be at least $3"
}

# wait_until SECONDS COMMAND...: poll until COMMAND succeeds.
wait_until ()
{
  local end=$((SECONDS + $1))

  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -le $end ] || return 1
    sleep 0.05
  done
}

# sanitized: whether the server runs under a sanitizer or valgrind, which
# takes more memory and time for reasons that are not ours.
sanitized ()
{
  [ -n "${NBDKIT_VALGRIND-}" ] || grep -qE '__[at]san_init' "$PLUGIN_SO"
}

# is_ready NAME: whether the server accepts connections, or has died.
is_ready ()
{
  [ -s "$tmp/$1.pid" ] || ! kill -0 "${job[$1]}"
}

# start_nbdkit NAME ARGUMENT...: serve on a private socket, in the
# foreground, whatever the arguments say.  It sets ${uri[NAME]},
# ${sock[NAME]} and ${pid[NAME]}.
start_nbdkit ()
{
  local name=$1

  shift
  sock[$name]=$tmp/$name.sock
  # shellcheck disable=SC2034     # the tests use it
  uri[$name]="nbd+unix:///?socket=${sock[$name]}"
  rm -f "$tmp/$name.pid" "${sock[$name]}"

  "$NBDKIT" "${nbdkit_options[@]}" -f \
            -P "$tmp/$name.pid" -U "${sock[$name]}" \
            "$@" 2>>"$tmp/$name.log" &
  job[$name]=$!
  pid[$name]=$!
  wait_until 60 is_ready "$name" || fail "server $name does not start"
  [ -s "$tmp/$name.pid" ] || fail "server $name died: $*"
  pid[$name]=$(cat "$tmp/$name.pid")
}

# start_server NAME PARAMETER...: a zram disk, with ${ctl[NAME]} as well.
start_server ()
{
  local name=$1

  shift
  ctl[$name]=$tmp/$name.ctl
  start_nbdkit "$name" zram "$@" control="${ctl[$name]}"
}

# holds_more_than_ram NAME: a server with mem-limit=16M and a tier keeps twice
# that, which does not compress.
holds_more_than_ram ()
{
  head -c 32M /dev/urandom > "$tmp/data"
  nbdcopy "$tmp/data" "${uri[$1]}"
  at_least "pages on the tier" "$(stat_of "$1" bd_count)" $((16 << 8))
  nbdcopy "${uri[$1]}" "$tmp/copy"
  cmp -n $((32 << 20)) "$tmp/data" "$tmp/copy"
  stat_is "$1" failed_reads 0
}

# kill_server NAME: at once, as a crash would.
kill_server ()
{
  kill -KILL "${pid[$1]}"
  wait "${job[$1]}" || :
  unset "job[$1]"
}

# is_gone PROCESS: not there, or ended and not yet waited for.
is_gone ()
{
  [ ! -e "/proc/$1" ] || grep -q '^State:[[:space:]]*Z' "/proc/$1/status"
}

# stop_server NAME [SIGNAL]: by SIGTERM if none is named.  It must still
# be alive, end within 10 seconds (30 where sanitizers look for leaks),
# and with status 0.
stop_server ()
{
  local name=$1 signal=${2:-TERM} status=0 seconds=10

  if sanitized; then
    seconds=30
  fi
  kill -"$signal" "${pid[$name]}" || fail "server $name had died"
  wait_until $seconds is_gone "${pid[$name]}" ||
    fail "server $name did not end within $seconds seconds of SIG$signal"
  wait "${job[$name]}" || status=$?
  unset "job[$name]"
  eq "exit status of server $name" $status 0
}

# stats NAME: all statistics, as JSON.
stats ()
{
  curl -sS --fail --max-time 30 --unix-socket "${ctl[$1]}" \
       http://localhost/stats
}

# stat_of NAME FIELD: one of them.
stat_of ()
{
  local value

  value=$(stats "$1" | jq -r ".$2")
  [ "$value" != null ] || fail "there is no $2 in the statistics"
  echo "$value"
}

# post PATH [ARGUMENT...]: prints the status, the answer is in $tmp/body.
post ()
{
  local path=$1

  shift
  curl -sS --max-time 120 -o "$tmp/body" -w '%{http_code}' -X POST "$@" \
       --unix-socket "${ctl[disk]}" "http://zram$path"
}

# done_by PATH [ARGUMENT...]: it must have been done.
done_by ()
{
  local status

  status=$(post "$@")
  echo "POST $*: $status $(jq -c . "$tmp/body")" >&2
  [ "$status" = 200 ] || fail "POST $*: $status"
}

# stat_is NAME FIELD VALUE
stat_is ()
{
  eq "$2" "$(stat_of "$1" "$2")" "$3"
}

# snapshot NAME: all of them at one moment, in ${now[FIELD]}.
declare -A now=()
snapshot ()
{
  local pairs field value

  now=()
  pairs=$(stats "$1" | jq -r 'to_entries[] | "\(.key) \(.value)"')
  while read -r field value; do
    now[$field]=$value
  done <<< "$pairs"
}

# now_is FIELD VALUE [FIELD VALUE]...: in that snapshot.
now_is ()
{
  while [ $# -gt 0 ]; do
    eq "$1" "${now[$1]-nowhere}" "$2"
    shift 2
  done
}

# rss NAME: what the server has resident according to the kernel, bytes.
rss ()
{
  awk '/^VmRSS:/ { print $2 * 1024 }' "/proc/${pid[$1]}/status"
}

# real_data FILE MIB: fill FILE with what disks hold: files of this
# system in an archive, then an eighth each of noise, of zeroes and of
# one repeated word.
real_data ()
{
  local eighth=$(($2 * 1048576 / 8)) places=() place

  # What compresses comes first: documents are stored compressed.
  for place in /usr/include /usr/share/perl* /usr/lib/python3* \
               /usr/share/doc /usr/bin /usr/lib; do
    [ -d "$place" ] && places+=("$place")
  done
  {
    { tar -cf - "${places[@]}" 2>/dev/null || :; } |
      head -c $((5 * eighth))
    head -c $eighth /dev/urandom
    head -c $eighth /dev/zero
    { yes 'word123' 2>/dev/null || :; } | head -c $eighth
  } > "$1"
  eq "size of $1" "$(wc -c < "$1")" $(($2 * 1048576))
}

# tier_client COMMAND NAME ARGUMENT...: see tier.py.
tier_client ()
{
  local command=$1 name=$2

  shift 2
  "$python" "$PYTHONPATH/tier.py" "$command" "${uri[$name]}" "$@"
}
