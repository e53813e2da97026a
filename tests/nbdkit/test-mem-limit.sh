#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# At the memory limit a write fails with ENOSPC and nothing else, what
# was stored before stays, and room that is made can be used.

. "$(dirname "$0")/functions.sh"
require curl jq
require_nbdsh

cat > "$tmp/client.py" <<'END'
import errno
import json
import subprocess
import sys
from pages import *

uri, ctl = sys.argv[1:]
h = connect(uri)
STEP = 64 * KiB


def stats():
    out = subprocess.run(["curl", "-sS", "--fail", "--unix-socket", ctl,
                          "http://localhost/stats"], check=True,
                         capture_output=True).stdout
    now = json.loads(out)
    if now["resident"] > now["mem_limit"]:
        sys.exit(f"FAIL: resident {now['resident']} is over the limit")
    return now


def fill(start, seed):
    """Write noise until it fails; the number of writes that did not."""
    for i in range(start, h.get_size() // STEP):
        try:
            h.pwrite(noise(STEP, seed + i), i * STEP)
        except nbd.Error as e:
            check("errno of a write at the limit", e.errnum, errno.ENOSPC)
            return i
        if i % 32 == 0:
            stats()
    sys.exit("FAIL: the limit was never reached")


def verify(first, end, seed):
    for i in range(first, end):
        check(f"chunk {i}", h.pread(STEP, i * STEP), noise(STEP, seed + i))


check("failed_writes of a new disk", stats()["failed_writes"], 0)
limit = stats()["mem_limit"]
full = fill(0, 1)
print(f"{full * STEP >> 20} MiB of noise in a limit of {limit >> 20} MiB")

# Most of the limit is for data; the rest is for tables and buffers.
if full * STEP < limit // 2:
    sys.exit("FAIL: the limit is reached with less than half of it stored")
check("failed_writes", stats()["failed_writes"], 1)
verify(0, full, 1)

# An overwrite that has no room keeps the old page: each page is one or
# the other.
failed = 0
for i in range(0, full, 16):
    try:
        h.pwrite(noise(STEP, 5000 + i), i * STEP)
        expected = (noise(STEP, 5000 + i),)
    except nbd.Error as e:
        check("errno of an overwrite", e.errnum, errno.ENOSPC)
        failed += 1
        expected = (noise(STEP, 1 + i), noise(STEP, 5000 + i))
    got = h.pread(STEP, i * STEP)
    for at in range(0, STEP, PAGE):
        if got[at:at + PAGE] not in [e[at:at + PAGE] for e in expected]:
            sys.exit(f"FAIL: chunk {i}, page at {at}: neither old nor new")
if failed == 0:
    sys.exit("FAIL: everything can be overwritten though there is no room")
check("failed_writes", stats()["failed_writes"], 1 + failed)

# A fresh start: trim it all, and as much fits as before.
h.trim(h.get_size(), 0)
again = fill(0, 7)
if again < full * 9 // 10:
    sys.exit(f"FAIL: {again} chunks fit after a trim, {full} before")
verify(0, again, 7)

# Trim half, write into it, and all of both is there.
half = again // 2
h.trim(half * STEP, 0)
for i in range(half - 16):
    h.pwrite(noise(STEP, 9 + i), i * STEP)
stats()
verify(0, half - 16, 9)
verify(half, again, 7)
END

# Compression contexts come with processors, and count.
limit=40
cpus=$(nproc)
if [ "$cpus" -gt 8 ]; then
  limit=$((limit + 2 * (cpus - 8)))
fi

for allocator in zsmalloc zbud; do
  start_server disk 2G mem-limit=${limit}M allocator=$allocator
  stat_is disk mem_limit $((limit << 20))
  "$python" "$tmp/client.py" "${uri[disk]}" "${ctl[disk]}"
  stop_server disk
done
