#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# One copy over several connections at once, in both directions.

. "$(dirname "$0")/functions.sh"
require nbdcopy curl jq

real_data "$tmp/data" 64
start_server disk 64M
for size in 262144 1048576 33554432; do
  nbdcopy --connections=4 --requests=32 --request-size=$size \
          "$tmp/data" "${uri[disk]}"
  nbdcopy --connections=4 --requests=32 --request-size=$size \
          "${uri[disk]}" "$tmp/back"
  cmp "$tmp/data" "$tmp/back"
done
stop_server disk
