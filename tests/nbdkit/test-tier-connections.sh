#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# A tier on another server is read by several connections at a time, if that
# server can have several clients, and by one if it cannot.

. "$(dirname "$0")/functions.sh"
require curl jq nbdcopy qemu-nbd
require_nbdsh

head -c 48M /dev/urandom > "$tmp/data"

# read_all: by many threads at once.
read_all ()
{
  nbdcopy --connections=4 "${uri[disk]}" "$tmp/copy"
  cmp -n $((48 << 20)) "$tmp/data" "$tmp/copy"
}

# This one says that it can, and takes a while over each read, so that they
# have to wait for one another.
start_nbdkit far --filter=log --filter=delay memory 128M \
             logfile="$tmp/requests" delay-read=2ms
start_server disk 256M mem-limit=16M tier="${uri[far]}"
nbdcopy "$tmp/data" "${uri[disk]}"
written=$(wc -l < "$tmp/requests")
read_all
stop_server disk
stop_server far
connections=$(tail -n +$((written + 1)) "$tmp/requests" |
              grep -o 'connection=[0-9]* Read ' | sort -u | wc -l)
at_least "connections that read" "$connections" 2
at_most "connections that read" "$connections" 4

# This one lets a second client wait until the first has gone.
truncate -s 128M "$tmp/file"
qemu-nbd --persistent --shared=1 --format=raw --socket="$tmp/one.sock" \
         --pid-file="$tmp/one.pid" "$tmp/file" &
qemu=$!
on_exit+=("kill $qemu 2>/dev/null")
wait_until 30 test -s "$tmp/one.pid" || fail "qemu-nbd does not start"
start_server disk 256M mem-limit=16M \
             tier="nbd+unix:///?socket=$tmp/one.sock"
nbdcopy "$tmp/data" "${uri[disk]}"
at_least "pages on the tier" "$(stat_of disk bd_count)" $((32 << 8))
read_all
eq "errors of the tier" \
   "$(stats disk | jq '.tiers[0] | .read_errors + .write_errors')" 0
stop_server disk
