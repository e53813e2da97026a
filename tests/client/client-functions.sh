# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2119,SC2120   # set and called elsewhere

# What the tests of nbd-zram share, beyond what those of the server have
# (../nbdkit/functions.sh, which is read first): in this folder, and in
# ../vm, where there is a kernel that nobody else uses.

: "${NBD_ZRAM:=$abs_top_builddir/nbd-client-scripts/nbd-zram}"
export NBDKIT

nbd_zram ()
{
  # dash, where there is one, takes nothing that POSIX does not have.
  if command -v dash >/dev/null; then
    dash "$NBD_ZRAM" "$@"
  else
    sh "$NBD_ZRAM" "$@"
  fi
}

# refused STATUS PATTERN ARGUMENT...: nbd-zram with them must fail with
# that status and one line that says why.
refused ()
{
  local status=$1 pattern=$2 got=0

  shift 2
  nbd_zram "$@" > "$tmp/refused.out" 2> "$tmp/refused.err" || got=$?
  if [ $got -ne "$status" ]; then
    cat "$tmp/refused.err"
    fail "status of 'nbd-zram $*' is $got and should be $status"
  fi
  grep -qE -- "$pattern" "$tmp/refused.err" ||
    fail "'nbd-zram $*' says '$(cat "$tmp/refused.err")', not '$pattern'"
  eq "lines of the error of 'nbd-zram $*'" "$(wc -l < "$tmp/refused.err")" 1
  eq "output of 'nbd-zram $*'" "$(cat "$tmp/refused.out")" ''
}

# none_attached_but NAME...: no other NBD device has a connection, and
# none has a file that says so.
none_attached_but ()
{
  local i got=()

  for i in /sys/block/nbd*/pid; do
    [ ! -e "$i" ] || got+=("$(basename "$(dirname "$i")")")
  done
  eq "attached devices" "${got[*]-}" "$*"
  got=()
  for i in /run/nbd-zram/nbd*; do
    [ ! -e "$i" ] || got+=("$(basename "$i")")
  done
  eq "devices with a state file" "${got[*]-}" "$*"
}

none_attached ()
{
  none_attached_but
}

# status_of DEVICE FIELD VALUE [STATUS]: in nbd-zram status, which must end
# with STATUS.
status_of ()
{
  local status=0

  nbd_zram status --json > "$tmp/status.json" || status=$?
  eq "status of nbd-zram status" $status "${4-0}"
  eq "$2 of $1" "$(jq -r '.devices[] | select (.device == "/dev/'"$1"'")
                          | .'"$2" "$tmp/status.json")" "$3"
}

# instance_of URI: for a Unix socket.
instance_of ()
{
  nbd-client -l -unix "${1#*socket=}" | grep -o '^zram-[0-9a-f]*'
}

# connections_to PORT: how many are established, on this machine.
connections_to ()
{
  local port

  port=$(printf '%04X' "$1")
  awk -v port=":$port" '$4 == "01" && index ($2, port)' /proc/net/tcp | wc -l
}

# none_connected: wait until no NBD device has a connection.
none_connected ()
{
  wait_until 10 no_connection || fail "a device is still attached"
}

no_connection ()
{
  local i

  for i in /sys/block/nbd*/pid; do
    [ ! -e "$i" ] || return 1
  done
}
