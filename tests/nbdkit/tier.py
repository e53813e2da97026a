# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

"""What clients do to a disk with tiers, for shell scripts:

    tier.py fill URI FIRST END            write MiB FIRST to END, with noise
                                          that is different for each; print
                                          how many could be written before
                                          ENOSPC
    tier.py lost URI FIRST END [STEP]     read every STEPth page of them;
                                          print the numbers of those that
                                          are EIO; the others must be right
    tier.py slow URI SECONDS LIMIT        write for so long, while another
                                          client reads what is in RAM and
                                          may wait for LIMIT seconds
"""

import sys
import threading
import time

from pages import *


class Contents:
    """What fill writes, by page; the last MiB is kept."""

    mib = None

    def __call__(self, page):
        if page // 256 != self.mib:
            self.mib = page // 256
            self.data = noise(MiB, self.mib)
        return self.data[page % 256 * PAGE:][:PAGE]


def fill(uri, first, end):
    h = connect(uri)
    for i in range(int(first), int(end)):
        try:
            h.pwrite(noise(MiB, i), i * MiB)
        except nbd.Error as e:
            check("the error", e.errno, "ENOSPC")
            h.trim(MiB, i * MiB)
            print(i - int(first))
            return
    print(int(end) - int(first))


def lost_pages(uri, first, end, step=1):
    pages = range(int(first) * 256, int(end) * 256, int(step))
    print(*lost(connect(uri), pages, Contents()))


READ = 64               # pages that one reads again and again
WRITE = 256 * KiB


def read_slowly(uri, done, times):
    h = connect(uri)
    n = 0
    while not done.is_set():
        page = n % READ
        begin = time.monotonic()
        got = h.pread(PAGE, page * PAGE)
        times.append(time.monotonic() - begin)
        check("page %d" % page, got, noise(PAGE, page))
        n += 1
        time.sleep(0.002)


def write_for(uri, first, end, times):
    h = connect(uri)
    i = first
    while time.monotonic() < end:
        begin = time.monotonic()
        h.pwrite(noise(WRITE, i), i * WRITE)
        times.append(time.monotonic() - begin)
        i += 1
    for n in range(first, i):
        check("what was written", h.pread(WRITE, n * WRITE), noise(WRITE, n))


def slow(uri, seconds, limit):
    h = connect(uri)
    for page in range(READ):
        h.pwrite(noise(PAGE, page), page * PAGE)
    done = threading.Event()
    reads, writes, failed = [], [], []

    def run(f, *args):
        try:
            f(uri, *args)
        except BaseException as e:
            failed.append(e)

    end = time.monotonic() + float(seconds)
    reader = threading.Thread(target=run, args=(read_slowly, done, reads))
    writers = [threading.Thread(target=run,
                                args=(write_for, first, end, writes))
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
          % (len(writes) * WRITE / MiB, max(writes), len(reads), p99 * 1000,
             reads[-1] * 1000))
    if max(writes) < 0.3:
        sys.exit("FAIL: nobody had to wait")
    if p99 > float(limit):
        sys.exit("FAIL: whoever reads what is in RAM waits for the tier")


commands = {"fill": fill, "lost": lost_pages, "slow": slow}
commands[sys.argv[1]](*sys.argv[2:])
