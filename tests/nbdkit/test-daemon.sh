#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# In the background, as a service: the parent ends when the server is
# ready, and everything works after the fork, threads included.  Paths
# are relative to where the user was, though the server goes to /.

. "$(dirname "$0")/functions.sh"
require nbdcopy curl jq
require_nbdsh

cd "$tmp"
"$NBDKIT" -P "$tmp/daemon.pid" -U "$tmp/daemon.sock" \
          zram 16M control=daemon.ctl mem-limit=1G 2> "$tmp/daemon.log"
daemon=$(cat "$tmp/daemon.pid")
on_exit+=("kill -KILL $daemon 2>/dev/null")
uri[daemon]="nbd+unix:///?socket=$tmp/daemon.sock"
ctl[daemon]=$tmp/daemon.ctl
[ -S "$tmp/daemon.ctl" ] || fail "no control socket where it was named"

stat_is daemon disksize 16777216
real_data "$tmp/data" 16
nbdcopy "$tmp/data" "${uri[daemon]}"
nbdcopy "${uri[daemon]}" - | cmp - "$tmp/data"
idle=$(stat_of daemon resident)

# The background thread is alive: what is trimmed is given back.
"$python" -c '
import sys
from pages import *
h = connect(sys.argv[1])
h.trim(h.get_size(), 0)' "${uri[daemon]}"
shrunk ()
{
  [ "$(stat_of daemon resident)" -lt $((idle - 2097152)) ]
}
wait_until 20 shrunk || fail "nothing is given back: $idle before," \
                             "$(stat_of daemon resident) after"

# Started where another listens, it says so and fails in the foreground.
status=0
"$NBDKIT" -P "$tmp/second.pid" -U "$tmp/second.sock" \
          zram 64M control=daemon.ctl 2> "$tmp/second.err" || status=$?
cat "$tmp/second.err"
eq "status of a second one" $status 1
[ -s "$tmp/second.err" ] || fail "the second one says nothing"

kill -TERM "$daemon"
wait_until 30 is_gone "$daemon" || fail "it does not end"
[ ! -e "$tmp/daemon.ctl" ] || fail "the control socket is still there"
