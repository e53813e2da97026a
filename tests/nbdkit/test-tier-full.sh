#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# RAM and both tiers are full: ENOSPC, and every byte written before is
# there, also of what could not be overwritten.  What is trimmed makes room.

. "$(dirname "$0")/functions.sh"
require curl jq
require_nbdsh

start_server disk 256M mem-limit=16M \
             tier="$tmp/fast" tier-size=4M tier="$tmp/slow" tier-size=8M
"$python" -c '
import sys
from pages import *

h = connect(sys.argv[1])
version = {}

def content(page):
    return noise(PAGE, page * 4 + version[page])

def write(page, v):
    """False if there was no room: what was there stays."""
    old = version.get(page)
    version[page] = v
    try:
        h.pwrite(content(page), page * PAGE)
        return True
    except nbd.Error as e:
        check("the error", e.errno, "ENOSPC")
        if old is None:
            del version[page]
        else:
            version[page] = old
        return False

def verify():
    check("pages lost", lost(h, version, content), [])

n = 0
while write(n, 0):
    n += 1
print(n, "pages fit")
if not 16 * 256 < n < 30 * 256:
    sys.exit("full after %d pages" % n)
verify()

# Page by page, and in requests that are part of it done and part not.
refused = sum(not write(page, 1) for page in range(0, n, 7))
print(refused, "of", (n + 6) // 7, "could not be overwritten")
verify()
try:
    h.pwrite(noise(4 * MiB, 5), n * PAGE)
    sys.exit("there was room")
except nbd.Error as e:
    check("the error", e.errno, "ENOSPC")
h.trim(4 * MiB, n * PAGE)
verify()

# What needs no room is possible.
h.pwrite(bytes(PAGE), 3 * PAGE)
check("zeroes", h.pread(PAGE, 3 * PAGE), bytes(PAGE))
del version[3]

# Room again.
for page in range(0, n, 2):
    h.trim(PAGE, page * PAGE)
    version.pop(page, None)
verify()
for page in range(0, n // 2, 2):
    if not write(page, 2):
        sys.exit("page %d: half of all is gone, and there is no room" % page)
verify()
' "${uri[disk]}"
at_least "pages on the second tier" \
         "$(stats disk | jq '.tiers[1].pages')" 256
at_most resident "$(stat_of disk resident)" $((16 << 20))
stop_server disk
