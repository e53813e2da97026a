#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# A tier that fails writes for a while, and one that fails reads: what was
# acknowledged is right or, while the tier fails, EIO.  Afterwards all is
# as if nothing had been.

. "$(dirname "$0")/functions.sh"
require curl jq
require_nbdsh

start_nbdkit far --filter=error memory 64M \
             error-pwrite=EIO error-pwrite-rate=100% \
             error-pwrite-file="$tmp/no-writes" \
             error-pread=EIO error-pread-rate=100% \
             error-pread-file="$tmp/no-reads"
start_server disk 256M mem-limit=16M tier="${uri[far]}"

# Nothing can leave RAM, so it fills up; then the same writes are possible.
touch "$tmp/no-writes"
"$python" -c '
import os, sys
from pages import *

h = connect(sys.argv[1])
n = 0
try:
    while n < 32:
        h.pwrite(noise(MiB, n), n * MiB)
        n += 1
except nbd.Error as e:
    check("the error", e.errno, "ENOSPC")
print(n, "MiB fit in RAM")
if not 6 <= n <= 15:
    sys.exit("that is not what fits in RAM")
for i in range(n):
    check("what was written", h.pread(MiB, i * MiB), noise(MiB, i))

os.unlink(sys.argv[2])
for i in range(n, 32):
    h.pwrite(noise(MiB, i), i * MiB)
for i in range(32):
    check("what was written", h.pread(MiB, i * MiB), noise(MiB, i))
' "${uri[disk]}" "$tmp/no-writes"
at_least "writes that failed" "$(stats disk | jq '.tiers[0].write_errors')" 1
at_least "pages on the tier" "$(stat_of disk bd_count)" $((16 << 8))

# What cannot be read is EIO, and is not written over by half of it.
"$python" -c '
import os, sys
from pages import *

h = connect(sys.argv[1])
data = [noise(MiB, i) for i in range(32)]

def content(page):
    return data[page // 256][page % 256 * PAGE:][:PAGE]

# A page that is read a second time within a minute comes back, so each
# is read only once before.
sample = range(100, 32 * 256, 1500)
open(sys.argv[2], "w").close()
bad = lost(h, sample, content)
print(len(bad), "of", len(sample), "cannot be read")
if not 2 <= len(bad) < len(sample):
    sys.exit("pages that cannot be read: %r" % bad)
try:
    h.pwrite(b"x" * 100, bad[0] * PAGE + 50)
    sys.exit("a part was written without the rest")
except nbd.Error as e:
    check("the error", e.errno, "EIO")
# A whole page needs no reading.
h.pwrite(noise(PAGE, 77), bad[1] * PAGE)
check("what was written", h.pread(PAGE, bad[1] * PAGE), noise(PAGE, 77))
os.unlink(sys.argv[2])
check("the pages that are lost",
      lost(h, set(range(32 * 256)) - {bad[1]}, content), [])
check("what was written", h.pread(PAGE, bad[1] * PAGE), noise(PAGE, 77))
' "${uri[disk]}" "$tmp/no-reads"
at_least "reads that failed" "$(stats disk | jq '.tiers[0].read_errors')" 2
stop_server disk
stop_server far
