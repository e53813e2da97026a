#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# mem: 256M
# timeout: 120

# A tier on a file system that has no direct I/O.  What was written to it and
# read from it does not stay in the page cache, where it would take as much
# memory as it has freed.

. "$(dirname "$0")/guest-functions.sh"
require fincore
require_nbdsh

# A directory of the host.
tier=/run/out/tier
if dd if=/dev/zero of=$tier bs=4096 count=1 oflag=direct 2> "$tmp/dd"; then
  fail "this file system has direct I/O"
fi
rm $tier

cached ()
{
  fincore --bytes --noheadings --output RES $tier
}

start_server disk 256M mem-limit=16M tier=$tier tier-size=64M
at_most "bytes in the page cache" "$(cached)" 0
"$python" -c '
import sys
from pages import *

h = connect(sys.argv[1])
for i in range(48):
    h.pwrite(noise(MiB, i), i * MiB)
' "${uri[disk]}"
at_least "pages on the tier" "$(stat_of disk bd_count)" $((32 << 8))
at_most "bytes in the page cache when it was written" "$(cached)" 0
"$python" -c '
import sys
from pages import *

h = connect(sys.argv[1])
for i in range(48):
    data = noise(MiB, i)
    for page in range(i * 256, i * 256 + 256, 5):
        check("page %d" % page, h.pread(PAGE, page * PAGE),
              data[page % 256 * PAGE:][:PAGE])
' "${uri[disk]}"
at_least "reads of the tier" "$(stats disk | jq '.tiers[0].reads')" 1000
at_most "bytes in the page cache when it was read" "$(cached)" $((1 << 20))
stop_server disk
rm $tier
