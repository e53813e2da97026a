#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# A file that may not become as large as it was to be: the write at the
# border is a short one, and those behind it fail, at first by a signal.
# The tier holds what it can, nothing is lost, and the server goes on.

. "$(dirname "$0")/functions.sh"
require curl jq
require_nbdsh

# Not even the size can be had: it is refused.
refuse ()
{
  ulimit -S -f 16384
  exec "$NBDKIT" -U "$tmp/no.sock" zram 256M mem-limit=16M \
                 tier="$tmp/new" tier-size=64M --run true
}
status=0
(refuse) 2> "$tmp/refused" || status=$?
cat "$tmp/refused"
eq "exit status" $status 1
grep -F "tier=$tmp/new: File too large" "$tmp/refused"

# It has its size, and only its beginning can be written: 16 MiB and a half,
# so that the limit is in the middle of a segment.
truncate -s 64M "$tmp/tier"
ulimit -S -f 16896
start_server disk 256M mem-limit=16M tier="$tmp/tier"
ulimit -S -f unlimited

# Once more, with segments that were used before.
for round in 1 2; do
  n=$(tier_client fill disk 0 64)
  echo "round $round: $n MiB fit"
  at_least "MiB that fit" "$n" 20
  at_most "MiB that fit" "$n" 28
  eq "pages that are lost" "$(tier_client lost disk 0 "$n")" ""
  "$python" -c '
import sys
from pages import *
connect(sys.argv[1]).trim(64 * MiB, 0)' "${uri[disk]}"
done
at_least "errors of the tier" "$(stats disk | jq '.tiers[0].write_errors')" 1
stat_is disk failed_reads 0
stop_server disk
