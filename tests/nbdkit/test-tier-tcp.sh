#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# A tier on another machine, by TCP, and by an export's name.

. "$(dirname "$0")/functions.sh"
require curl jq nbdcopy qemu-nbd
require_nbdsh

port=$("$python" -c '
import socket
with socket.socket () as s:
    s.bind (("127.0.0.1", 0))
    print (s.getsockname ()[1])')
tier="nbd://127.0.0.1:$port/cold%20pages"

# Nobody listens there yet.
if "$NBDKIT" -U "$tmp/no.sock" zram 256M mem-limit=16M tier="$tier" \
             --run true 2> "$tmp/refused"
then
  fail "a tier was taken that is not there"
fi
grep -F "tier=$tier: " "$tmp/refused"

truncate -s 64M "$tmp/file"
qemu-nbd --persistent --shared=8 --format=raw --bind=127.0.0.1 --port="$port" \
         --export-name='cold pages' --pid-file="$tmp/far.pid" "$tmp/file" &
qemu=$!
on_exit+=("kill $qemu 2>/dev/null")
wait_until 60 test -s "$tmp/far.pid"

start_server disk 256M mem-limit=16M tier="$tier"
holds_more_than_ram disk
stop_server disk
