#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# A byte of a tier changes behind the server's back: EIO for the one page
# that it belongs to, and for no other, and as before when it is put right.
# The same for what somebody makes shorter, or has exchanged two pieces of.

. "$(dirname "$0")/functions.sh"
require curl jq
require_nbdsh

start_server disk 256M mem-limit=16M tier="$tmp/tier" tier-size=64M
"$python" -c '
import os, sys
from pages import *

PAGES = 32 * 256
h = connect(sys.argv[1])
tier = os.open(sys.argv[2], os.O_RDWR)

def content(page):
    return noise(PAGE, page)

def stored(page):
    """Where the page is on the tier, or -1."""
    return whole.find(content(page))

for i in range(0, PAGES, 256):
    h.pwrite(b"".join(content(page) for page in range(i, i + 256)), i * PAGE)
whole = os.pread(tier, 64 * MiB, 0)
there = [(page, stored(page)) for page in range(10, PAGES, 400)]
there = [(page, at) for page, at in there if at >= 0]
print(len(there), "pages of a sample are on the tier")
if len(there) < 8:
    sys.exit("too few")

def flip(at):
    byte = os.pread(tier, 1, at)[0]
    os.pwrite(tier, bytes([byte ^ 0x10]), at)

# In the header, at the beginning, in the middle, at the end; and once all
# pages are looked at, for no other must suffer.
for place in (-24, -14, -3, 0, 1, 2048, PAGE - 1):
    page, at = there.pop()
    flip(at + place)
    check("pages that are lost", lost(h, range(page - 2, page + 3), content),
          [page])
    flip(at + place)
    check("pages that are lost", lost(h, range(page - 2, page + 3), content),
          [])
page, at = there.pop()
flip(at + 99)
check("pages that are lost", lost(h, range(PAGES), content), [page])
# It is as good as any other page for who writes it anew.
h.pwrite(content(page), page * PAGE)
check("pages that are lost", lost(h, range(PAGES), content), [])

# All that was written goes to where something else was.
def place_is_free(n):
    return whole[n * MiB:][:PAGE] == bytes(PAGE)

whole = os.pread(tier, 64 * MiB, 0)
full = [n for n in range(1, 64) if not place_is_free(n)]
a, b = full[0], full[-1]
os.pwrite(tier, whole[a * MiB:][:MiB], b * MiB)
os.pwrite(tier, whole[b * MiB:][:MiB], a * MiB)
bad = lost(h, range(PAGES), content)
print(len(bad), "pages of two segments are lost")
if not 1 <= len(bad) <= 2 * 256:
    sys.exit("pages that are lost: %r" % bad)
os.pwrite(tier, whole[a * MiB:][:MiB], a * MiB)
os.pwrite(tier, whole[b * MiB:][:MiB], b * MiB)
check("pages that are lost", lost(h, bad, content), [])

# Shorter, and as long as before but empty there.
os.ftruncate(tier, 8 * MiB)
bad = lost(h, range(PAGES), content)
print(len(bad), "pages are lost with all but 8 MiB")
if not 1 <= len(bad) < PAGES:
    sys.exit("pages that are lost: %r" % bad)
os.ftruncate(tier, 64 * MiB)
check("pages that are lost", lost(h, bad, content), bad)
# What is written anew is well.  (So it is all: some may have been in RAM, and
# leave it later for a copy that is no more.)
for page in bad:
    h.pwrite(content(page), page * PAGE)
check("pages that are lost", lost(h, bad, content), [])
for page in range(PAGES):
    h.pwrite(content(page), page * PAGE)
check("pages that are lost", lost(h, range(PAGES), content), [])
' "${uri[disk]}" "$tmp/tier"
at_least "errors of the tier" "$(stats disk | jq '.tiers[0].read_errors')" 8
at_least "failed reads" "$(stat_of disk failed_reads)" 8
stop_server disk
