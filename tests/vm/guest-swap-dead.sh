#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# mem: 256M
# timeout: 1200

# How much stays stored of what is dead.  The kernel tells a disk which
# slots died only when a whole cluster of 512 has (the pages of a huge
# page, 2 MiB).  So swap for a while, let go of pages here and there, and
# compare what the kernel uses with what the server stores: it is
# reported, for the documents.

. "$(dirname "$0")/guest-functions.sh"

load_nbd
prepare_vm
start_swap_server swap 768M mem-limit=170M
attach swap /dev/nbd0
warm_up /dev/nbd0
swap_on /dev/nbd0

for thin_out in 1 25 50 75 90; do
  "$pressure" --rounds="${VM_ROUNDS-3}" --thin-out=$thin_out --hold 320 \
    > "$tmp/pressure" &
  program=$!
  wait_until 600 grep -q holding "$tmp/pressure" || fail "no end of it"
  sleep 2
  echo "$thin_out % let go; $(print_dead swap)"
  kill -TERM $program
  wait $program
  sleep 2
  echo "the program has ended; $(print_dead swap)"
done
swapoff /dev/nbd0
detach /dev/nbd0
stop_server swap
