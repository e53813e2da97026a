#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# Patterns by qemu-io, with ends inside pages: each command must leave
# its neighbours alone.

. "$(dirname "$0")/functions.sh"
require qemu-io curl jq

start_server disk 16M

# io COMMAND...: qemu-io exits 0 when a pattern does not match, so what
# it says decides as well.
io ()
{
  local args=() c

  for c; do
    args+=(-c "$c")
  done
  qemu-io -f raw -d unmap -t writeback "${args[@]}" "${uri[disk]}" \
          > "$tmp/io.log" 2>&1 || fail "qemu-io $* failed"
  if grep -qiE 'fail|error|invalid|not ' "$tmp/io.log"; then
    fail "qemu-io $*"
  fi
}

# Pages, sectors, and bytes.
io 'write -P 1 0 1M' 'write -P 2 4096 4096' 'write -P 3 10000 3' \
   'write -P 4 65535 2' 'write -P 5 20000 20000'
io 'read -P 1 0 4096' 'read -P 2 4096 4096' 'read -P 1 8192 1808' \
   'read -P 3 10000 3' 'read -P 1 10003 9997' 'read -P 5 20000 20000' \
   'read -P 1 40000 25535' 'read -P 4 65535 2' 'read -P 1 65537 983039' \
   'read -P 0 1M 1M'

# Zeroes over parts of pages, with and without leave to make holes.
io 'write -z 5000 10000' 'write -z -u 100000 50000' 'flush'
io 'read -P 2 4096 904' 'read -P 0 5000 10000' 'read -P 1 15000 5000' \
   'read -P 1 99999 1' 'read -P 0 100000 50000' 'read -P 1 150000 1000'

# Discarded: reads as zeroes, and what is beside it stays.
io 'discard 200000 100000'
io 'read -P 1 199999 1' 'read -P 0 200000 100000' 'read -P 1 300000 1'

# FUA, several at once, and the end of the disk.
io 'write -f -P 6 1M 64k' 'aio_write -P 7 2M 64k' 'aio_write -P 8 3M 64k' \
   'aio_flush' 'write -P 9 16773120 4096' 'write -P 10 16777215 1'
io 'read -P 6 1M 64k' 'read -P 7 2M 64k' 'read -P 8 3M 64k' \
   'read -P 9 16773120 4095' 'read -P 10 16777215 1'

# The check itself can fail.
if (io 'read -P 99 0 4096') 2>/dev/null; then
  fail "qemu-io does not notice a wrong pattern"
fi
stop_server disk
