#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# mem: 256M

# The other machine of guest-remote.sh: it serves, stops for ten seconds
# when asked to, and leaves its statistics.  The directory /run/out is one
# for both machines.

. "$(dirname "$0")/guest-functions.sh"

ip addr add 192.0.2.2/24 dev vec0
ip link set vec0 up

ctl[disk]=$tmp/disk.ctl
"$NBDKIT" -f -P "$tmp/disk.pid" -i 192.0.2.2 -p 10809 --threads=4 \
          zram 768M control="${ctl[disk]}" mem-limit=150M \
          2> "$tmp/disk.log" &
job[disk]=$!
pid[disk]=$!
wait_until 60 is_ready disk || fail "the server does not start"
touch /run/out/serving

until [ -e /run/out/done ]; do
  if [ -e /run/out/please-stop ]; then
    kill -STOP "${pid[disk]}"
    rm /run/out/please-stop
    sleep 10
    kill -CONT "${pid[disk]}"
    touch /run/out/continued
  fi
  sleep 0.2
done

stats disk > /run/out/stats.json
stop_server disk
touch /run/out/stopped
