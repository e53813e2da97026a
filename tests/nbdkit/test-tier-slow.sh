#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# A tier that is slower than those who write: they are slowed, and none of
# them fails.  Another client reads meanwhile what is in RAM, and does not
# wait for the tier.

. "$(dirname "$0")/functions.sh"
require curl jq
require_nbdsh

start_nbdkit far --filter=delay memory 128M delay-write=500ms
start_server disk 256M mem-limit=16M tier="${uri[far]}"

limit=0.25
if sanitized; then
  limit=2
fi
"$python" -c '
import sys, threading, time
from pages import *

PAGES = 64

def content(page):
    return noise(PAGE, page)

# What is used again and again is the last to leave.
def read(uri, until, times):
    h = connect(uri)
    n = 0
    while not until.is_set():
        page = n % PAGES
        begin = time.monotonic()
        got = h.pread(PAGE, page * PAGE)
        times.append(time.monotonic() - begin)
        check("page %d" % page, got, content(page))
        n += 1
        time.sleep(0.002)

def write(uri, first, end, times):
    h = connect(uri)
    i = first
    while time.monotonic() < end:
        begin = time.monotonic()
        h.pwrite(noise(256 * KiB, i), i * 256 * KiB)
        times.append(time.monotonic() - begin)
        i += 1
    for n in range(first, i):
        check("what was written", h.pread(256 * KiB, n * 256 * KiB),
              noise(256 * KiB, n))

uri = sys.argv[1]
h = connect(uri)
for page in range(PAGES):
    h.pwrite(content(page), page * PAGE)
done = threading.Event()
reads, writes, failed = [], [], []

def run(f, *args):
    try:
        f(uri, *args)
    except BaseException as e:
        failed.append(e)

reader = threading.Thread(target=run, args=(read, done, reads))
end = time.monotonic() + 10
writers = [threading.Thread(target=run, args=(write, first, end, writes))
           for first in (100, 400, 700)]
for t in [reader] + writers:
    t.start()
for t in writers:
    t.join()
done.set()
reader.join()
if failed:
    raise failed[0]

reads.sort()
p99 = reads[len(reads) * 99 // 100]
print("%.0f MiB written, the slowest 256 KiB in %.1f s; %d reads, "
      "99 %% of them in %.1f ms, the slowest in %.1f ms"
      % (len(writes) / 4, max(writes), len(reads), p99 * 1000,
         reads[-1] * 1000))
if max(writes) < 0.3:
    sys.exit("nobody had to wait")
if p99 > float(sys.argv[2]):
    sys.exit("whoever reads what is in RAM waits for the tier")
' "${uri[disk]}" $limit
stat_is disk failed_writes 0
stat_is disk failed_reads 0
eq "errors of the tier" \
   "$(stats disk | jq '.tiers[0] | .read_errors + .write_errors')" 0
at_least "pages on the tier" "$(stat_of disk bd_count)" $((8 << 8))
stop_server disk
stop_server far
