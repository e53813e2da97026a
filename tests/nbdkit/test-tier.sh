#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# A disk holds more than mem-limit: the rest goes to a file and comes back.
# Two tiers, the second when the first is full; and ENOSPC when all are.

. "$(dirname "$0")/functions.sh"
require curl jq nbdcopy
require_nbdsh

head -c 64M /dev/urandom > "$tmp/data"

start_server disk 256M mem-limit=16M \
             tier="$tmp/fast" tier-size=16M tier="$tmp/slow" tier-size=128M
eq "mode of a new tier" "$(stat -c %a "$tmp/fast")" 600
nbdcopy "$tmp/data" "${uri[disk]}"
stats disk | jq '{resident, bd_count, bd_writes, tiers}'
at_most resident "$(stat_of disk resident)" $((16 << 20))
# Memory is made free before somebody needs it.
has_free_memory ()
{
  [ "$(stat_of disk resident)" -le $((15 << 20)) ]
}
wait_until 30 has_free_memory || fail "nothing is free"
at_least "pages on tiers" "$(stat_of disk bd_count)" $((48 << 8))
eq "tiers" "$(stats disk | jq '.tiers | length')" 2
at_least "pages on the second tier" \
         "$(stats disk | jq '.tiers[1].pages')" $((20 << 8))
stats disk | jq -e '
  (.policy == "lru") and .writeback_limit == 0 and .writeback_left == 0 and
  ([.tiers[] |
    .number, .size, .segment_size, .segments, .free_segments, .pages, .clean_pages,
    .bytes_stored, .bytes_live, .bytes_in, .bytes_written,
    .write_amplification, .reads, .writes, .read_errors, .write_errors,
    .corrected_errors,
    (.read_latency_us, .write_latency_us | .p50, .p99, .max)] |
    all (type == "number"))' ||
  fail "a field is missing or has another type"
nbdcopy "${uri[disk]}" "$tmp/copy"
cmp -n $((64 << 20)) "$tmp/data" "$tmp/copy"
at_least "reads" "$(stat_of disk bd_reads)" $((48 << 8))

# Over again, in another order, and trimmed: nothing is left on the tiers.
nbdcopy --requests=4 "$tmp/data" "${uri[disk]}"
nbdcopy "${uri[disk]}" "$tmp/copy"
cmp -n $((64 << 20)) "$tmp/data" "$tmp/copy"
"$python" -c '
import sys
from pages import *
connect(sys.argv[1]).trim(64 * MiB, 0)' "${uri[disk]}"
stat_is disk bd_count 0
all_free ()
{
  [ "$(stats disk | jq '[.tiers[] | .segments - .free_segments] | add')" = 0 ]
}
wait_until 30 all_free || fail "segments without pages are not free"
stop_server disk

# What is written when everything is full is refused, and what was written
# before is there.
start_server disk 256M mem-limit=16M tier="$tmp/small" tier-size=8M
"$python" -c '
import sys
from pages import *
h = connect(sys.argv[1])
n = 0
try:
    while n < 64:
        h.pwrite(noise(MiB, n), n * MiB)
        n += 1
except nbd.Error as e:
    check("the error", e.errno, "ENOSPC")
if not 12 <= n <= 30:
    sys.exit("full after %d MiB" % n)
for i in range(n):
    check("what was written", h.pread(MiB, i * MiB), noise(MiB, i))
' "${uri[disk]}"
stop_server disk
