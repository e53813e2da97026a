#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# mem: 128M
# timeout: 180
# peer: peer-server.sh

# Swap on another machine, over TCP: more than there is memory goes there
# and comes back, also when the server stands still for ten seconds in the
# middle of it.

. "$(dirname "$0")/guest-functions.sh"

load_nbd
# What comes in needs memory at once, or it is dropped and has to be sent
# again.  nbd-zram swapon would warn of less.
vm min_free_kbytes 8192
ip addr add 192.0.2.1/24 dev vec0
ip link set vec0 up
wait_until 60 test -e /run/out/serving || fail "the other machine is not there"

nbd-client 192.0.2.2 10809 /dev/nbd0 -b 4096 -C 2 > "$tmp/nbd-client.log" 2>&1
wait_until 10 is_attached /dev/nbd0
swap_on /dev/nbd0

(
  sleep 6
  touch /run/out/please-stop
) &
begin=$(uptime_now)
pressure_with_bursts 144 4 "${VM_ROUNDS-1}"
echo "$(seconds_since "$begin") s, ten of them waiting"
[ -e /run/out/continued ] || fail "the server was not stopped meanwhile"

swapoff /dev/nbd0
detach /dev/nbd0
touch /run/out/done
wait_until 20 test -e /run/out/stopped || fail "the server did not end well"
jq -Mc . /run/out/stats.json
