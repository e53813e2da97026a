#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# A tier that is slower than those who write, for a minute: they are slowed,
# and none of them fails.  Another client reads meanwhile what is in RAM, and
# does not wait for the tier.

. "$(dirname "$0")/functions.sh"
require curl jq
require_nbdsh

start_nbdkit far --filter=delay memory 512M delay-write=500ms
start_server disk 256M mem-limit=16M tier="${uri[far]}"

limit=0.25
time=60
if sanitized; then
  limit=2
  time=10
fi
tier_client slow disk $time $limit
stat_is disk failed_writes 0
stat_is disk failed_reads 0
eq "errors of the tier" \
   "$(stats disk | jq '.tiers[0] | .read_errors + .write_errors')" 0
at_least "pages on the tier" "$(stat_of disk bd_count)" $((8 << 8))
stop_server disk
stop_server far
