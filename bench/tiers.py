# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

"""Memory for a quarter, and a tier for the rest."""

import contextlib
import ctypes
import gzip
import json
import mmap
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time

import nbd
from common import MIB, PAGE, Problem, mib, parse, run_program, say, table

MIN_WRITES = 0.5                # of the rate without a limit
MIN_ZIPF = 0.7                  # likewise, policy=smq
MAX_ABOVE_LIMIT = 8 * MIB       # resident, and the tier in the page cache
MAX_READ_P99 = 2                # of that when nobody writes...
MAX_WAITING = 0.75              # ...where writers do so much of what they can
MAX_FILL = 1.15                 # bytes written / bytes that left RAM
MAX_CLEANING = 2                # the same, tier 80 % full of what is alive

POLICIES = ("lru", "mfu", "smq")
OPERATIONS = {
    "write": "Random writes", "zipf": "Zipf reads",
    "zipf-runs": "Zipf reads, 16 neighbours at once",
    "zipf-mixed": "Zipf, one in ten a write",
}
# Before those count, there are so many requests for each page: what is used
# a lot has come to RAM by then.
WARM_UP = ("zipf", "zipf-runs", "zipf-mixed")
WARM_UP_TIMES = 4
SAMPLE_SECONDS = 0.01
# What a write of a MiB to a slow tier takes, ms.
SLOW_TIERS = {"20 MiB/s": 50, "1 MiB/s": 1000}
BESIDE_REQUESTS = 2000000       # more than can be done meanwhile
# What a read of a tier takes longer than locally, ms.
FAR_TIERS = {"here": 0, "1 ms away": 1, "5 ms away": 5}
FAR_PAGES = 32768
RAM_PART = 4
# A tier of a few segments only has no air at 80 %.
WRITTEN_PAGES = 262144
RECORDED = "swap-compile"       # a trace


class Disk(nbd.Server):
    """A server of ours, with figures from its control socket."""

    def __init__(self, args, name, pages, directory, *extra):
        self.control = os.path.join(directory, name + ".ctl")
        super().__init__("zram", name, 0,
                         [args.zram, "zram", str(pages * PAGE),
                          "control=" + self.control] + list(extra),
                         directory)
        self.results = {operation: [] for operation in OPERATIONS}

    def stats(self):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.control)
            s.sendall(b"GET /stats HTTP/1.0\r\nHost: localhost\r\n\r\n")
            with s.makefile("rb") as f:
                text = f.read()
        return json.loads(text.split(b"\r\n\r\n", 1)[1])

    def measure(self, corpus, pages, operation, requests, seed):
        before = self.stats()["bd_reads"]
        super().measure(corpus, pages, operation, requests, seed)
        self.results[operation][-1]["missed"] = (
            (self.stats()["bd_reads"] - before) / requests)


def small_disk(args, name, pages, directory, size, *extra):
    """With memory for a part of SIZE bytes, and a tier for twice that."""
    tier = os.path.join(directory, name + ".tier")
    disk = Disk(args, name, pages, directory,
                "mem-limit=%d" % (size // RAM_PART), *extra,
                "tier=" + tier, "tier-size=%d" % (2 * size // MIB * MIB))
    disk.tier = tier
    disk.limit = size // RAM_PART
    return disk


# ---- How fast ---------------------------------------------------------

def measure_rates(args, corpus, effort, pages, directory):
    """Servers without a limit and with each policy, measured in turns."""
    with contextlib.ExitStack() as stack:
        def start(disk):
            say("tiers: fill %s" % disk.name)
            stack.callback(disk.stop)
            disk.start()
            disk.fill(corpus, pages)
            return disk

        disks = [start(Disk(args, "unlimited", pages, directory))]
        size = disks[0].stats()["compr_data_size"]
        disks += [start(small_disk(args, policy, pages, directory, size,
                                   "policy=" + policy))
                  for policy in POLICIES]
        for operation in OPERATIONS:
            if operation in WARM_UP:
                say("tiers: %s, before it counts" % operation)
                for disk in disks[1:]:
                    disk.client(corpus, pages, operation,
                                WARM_UP_TIMES * pages, 1000)
            for number in range(effort.tier_rounds):
                say("tiers: %s, round %d of %d" %
                    (operation, number + 1, effort.tier_rounds))
                turn = number % len(disks)
                for disk in disks[turn:] + disks[:turn]:
                    disk.measure(corpus, pages, operation, effort.requests,
                                 number + 1)
        return disks, size


# ---- How much memory --------------------------------------------------

class CachedPages:
    """How much of a file is in the page cache."""

    def __init__(self, filename):
        self.libc = ctypes.CDLL(None, use_errno=True)
        size = os.path.getsize(filename)
        fd = os.open(filename, os.O_RDWR)
        # Not written to; but ctypes has no address of what is read-only.
        self.map = mmap.mmap(fd, size)
        os.close(fd)
        self.byte = ctypes.c_char.from_buffer(self.map)
        self.vector = (ctypes.c_ubyte * (size // PAGE))()
        self.size = size

    def bytes(self):
        if self.libc.mincore(ctypes.c_void_p(ctypes.addressof(self.byte)),
                             ctypes.c_size_t(self.size), self.vector) != 0:
            raise Problem("mincore: " + os.strerror(ctypes.get_errno()))
        return bytes(self.vector).count(1) * PAGE

    def close(self):
        del self.byte
        self.map.close()


class Watch(threading.Thread):
    """Samples of the memory of a server, and of its tier's page cache."""

    def __init__(self, disk):
        super().__init__(daemon=True)
        self.disk, self.stopped = disk, threading.Event()
        self.samples = []       # (Pss, page cache)
        self.seconds = None
        self.resident = 0

    def run(self):
        cached = CachedPages(self.disk.tier)
        start = next_time = time.monotonic()
        while not self.stopped.is_set():
            self.samples.append((self.disk.pss(), cached.bytes()))
            next_time += SAMPLE_SECONDS
            now = time.monotonic()
            if now < next_time:
                time.sleep(next_time - now)
            else:
                next_time = now
        self.seconds = time.monotonic() - start
        cached.close()

    def stop(self):
        self.stopped.set()
        self.join()


def empty_pss(args, corpus, directory):
    """Of a server that stores nothing, and was asked as much at once."""
    null = nbd.Server("null", "pss", 0, [args.nbdkit, "null", "1T"],
                      directory)
    try:
        null.start()
        null.client(corpus, 1, "write", 1000, 1)
        return null.pss()
    finally:
        null.stop()


def measure_memory(args, corpus, effort, pages, directory, size):
    say("tiers: memory")
    empty = empty_pss(args, corpus, directory)
    disk = small_disk(args, "watched", pages, directory, size, "policy=smq")
    try:
        disk.start()
        watch = Watch(disk)
        watch.start()
        disk.client(corpus, pages, "fill")
        for operation in OPERATIONS:
            disk.client(corpus, pages, operation, effort.requests, 1)
            watch.resident = max(watch.resident, disk.stats()["resident"])
        watch.stop()
    finally:
        disk.stop()
    watch.limit = disk.limit
    watch.worst = max(pss - empty + cached for pss, cached in watch.samples)
    watch.cached = max(cached for _, cached in watch.samples)
    return watch


# ---- How long others wait ---------------------------------------------

class Reader:
    """The latency of one who reads, without and with writers beside."""

    def __init__(self, what):
        self.what, self.idle, self.busy = what, [], []
        self.writes, self.to_tier, self.missed = [], [], []


def read_beside(disk, corpus, effort, pages, reader):
    """One round.  What is read was read before, so it is in RAM."""
    def read(seed):
        out = disk.client(corpus, pages, "reader", effort.reads, seed)
        return next(parse(out))[1]["p99_us"]

    read(1)
    read(2)
    reader.idle.append(read(3))
    before, start = disk.stats(), time.monotonic()
    with subprocess.Popen(["./bench-nbd", disk.socket, corpus, str(pages),
                           "write", str(BESIDE_REQUESTS), "1"],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          universal_newlines=True) as writers:
        try:
            read(4)
            missed = disk.stats()["bd_reads"]
            reader.busy.append(read(5))
            reader.missed.append((disk.stats()["bd_reads"] - missed) /
                                 effort.reads)
            if writers.poll() is not None:
                raise Problem("the writers were done before the reader")
        finally:
            writers.terminate()
        out = writers.stdout.read()
    reader.writes.append(next(parse(out))[1]["per_second"])
    after = disk.stats()
    if before["tiers"]:
        reader.to_tier.append(
            (after["tiers"][0]["bytes_written"] -
             before["tiers"][0]["bytes_written"]) /
            (time.monotonic() - start))
    disk.settle()


def slow_storage(args, stack, directory, size, name, delay):
    """A server for a tier, and the parameter that names it."""
    slow = nbd.Server("slow", name, 0,
                      [args.nbdkit, "--filter=delay", "memory",
                       str(2 * size // MIB * MIB), delay],
                      directory)
    stack.callback(slow.stop)
    slow.start()
    return "tier=nbd+unix:///?socket=" + slow.socket


def measure_readers(args, corpus, effort, pages, directory, size):
    """One disk after the other: none has others' background work beside."""
    def measure(what, disk):
        reader = Reader(what)
        try:
            disk.start()
            disk.fill(corpus, pages)
            for number in range(effort.tier_rounds):
                say("tiers: a reader beside writers, %s, round %d of %d" %
                    (what, number + 1, effort.tier_rounds))
                read_beside(disk, corpus, effort, pages, reader)
        finally:
            disk.stop()
        return reader

    limit = "mem-limit=%d" % (size // RAM_PART)
    found = [measure("no tier", Disk(args, "free", pages, directory)),
             measure("a file", small_disk(args, "file", pages, directory,
                                          size, "policy=smq"))]
    for what, ms in SLOW_TIERS.items():
        with contextlib.ExitStack() as stack:
            tier = slow_storage(args, stack, directory, size,
                                "tier%d" % ms, "delay-write=%dms" % ms)
            found.append(measure(what, Disk(
                args, "waits%d" % ms, pages, directory, limit, "policy=smq",
                tier)))
    return found


# ---- How far it is -----------------------------------------------------

class Far:
    """What it took to read all of a disk in order."""


def read_in_order(disk, what):
    far, before = Far(), disk.stats()
    start = time.monotonic()
    run_program(["nbdcopy", "--request-size=65536",
                 "nbd+unix:///?socket=" + disk.socket, "null:"])
    far.seconds = time.monotonic() - start
    after = disk.stats()
    far.what = what
    far.pages = before["bd_count"]
    far.reads = after["tiers"][0]["reads"] - before["tiers"][0]["reads"]
    return far


def measure_far(args, corpus, directory):
    """One disk after the other; None if there is no nbdcopy."""
    if shutil.which("nbdcopy") is None:
        return None
    size = FAR_PAGES * PAGE
    found = []
    for what, ms in FAR_TIERS.items():
        say("tiers: read in order, the tier %s" % what)
        with contextlib.ExitStack() as stack:
            tier = slow_storage(args, stack, directory, size, "far%d" % ms,
                                "delay-read=%dms" % ms)
            disk = Disk(args, "near%d" % ms, FAR_PAGES, directory,
                        "mem-limit=16M", tier)
            stack.callback(disk.stop)
            disk.start()
            disk.fill(corpus, FAR_PAGES)
            found.append(read_in_order(disk, what))
    return found


# ---- How it is written and read ---------------------------------------

FIO_READERS = 16
# What readers and the writer do: as the plugin does it; with io_uring in
# as many threads; and what a server could do that needs no threads.
FIO_WAYS = {
    "threads, pread and pwrite": ("psync", FIO_READERS, 1),
    "threads, io_uring": ("io_uring", FIO_READERS, 1),
    "one thread, io_uring": ("io_uring", 1, FIO_READERS),
}


def run_fio(filename, engine, jobs, depth, seconds):
    """Reads per second, their p99, MiB written per second, CPU per read."""
    out = run_program(
        ["fio", "--output-format=json", "--filename=" + filename,
         "--direct=1", "--time_based", "--runtime=%d" % seconds,
         "--ioengine=" + engine, "--size=256m", "--group_reporting",
         "--name=read", "--rw=randread", "--bsrange=4k-8k", "--blockalign=4k",
         "--numjobs=%d" % jobs, "--iodepth=%d" % depth, "--thread",
         "--name=write", "--rw=write", "--bs=1m", "--new_group", "--thread"])
    read, write = json.loads(out[out.index("{"):])["jobs"]
    cpu = (read["usr_cpu"] + read["sys_cpu"]) / 100 * seconds * jobs
    return (read["read"]["iops"],
            read["read"]["clat_ns"]["percentile"]["99.000000"] / 1000,
            write["write"]["bw_bytes"] / MIB,
            cpu * 1e6 / read["read"]["total_ios"])


def measure_engines(effort, directory):
    """By way, the medians of all rounds; None if there is no fio."""
    if shutil.which("fio") is None:
        return None
    filename = os.path.join(directory, "fio")
    found = {way: [] for way in FIO_WAYS}
    with open(filename, "wb") as f:
        f.truncate(256 * MIB)
    run_fio(filename, "psync", 1, 1, 2)
    try:
        for number in range(effort.tier_rounds):
            say("tiers: fio, round %d of %d" %
                (number + 1, effort.tier_rounds))
            for way, how in FIO_WAYS.items():
                found[way].append(run_fio(filename, *how, 2))
    except Problem as e:
        say(str(e))
        return None
    return {way: [statistics.median(x) for x in zip(*rounds)]
            for way, rounds in found.items()}


# ---- What is written ---------------------------------------------------

def measure_written(corpus):
    out = run_program(["./bench-tiers", corpus, str(WRITTEN_PAGES)])
    return {(v["step"], v["full"]): v for _, v in parse(out)}


def measure_recorded():
    """Bytes written / bytes that left, by policy."""
    name = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                        "traces", RECORDED + ".gz")
    with gzip.open(name) as f:
        trace = f.read()
    out = subprocess.run(["./replay", "--full=80", "--no-reference", "-"],
                         input=trace, stdout=subprocess.PIPE,
                         check=True).stdout.decode()
    header, *rows = [line.split() for line in out.splitlines()
                     if line[0] != "#"]
    return {row[0]: float(row[header.index("amplif")]) for row in rows}


# ---- All ---------------------------------------------------------------

class Found:
    """What was measured."""


def measure(args, corpus, effort):
    found = Found()
    found.pages = effort.tier_pages
    say("tiers: what is written")
    found.written = measure_written(corpus)
    found.recorded = measure_recorded()
    # On storage: the tiers of a benchmark in /tmp may be in memory.
    with tempfile.TemporaryDirectory(prefix="tiers.", dir=".") as directory:
        directory = os.path.abspath(directory)
        found.disks, found.size = measure_rates(args, corpus, effort,
                                                found.pages, directory)
        found.watch = measure_memory(args, corpus, effort, found.pages,
                                     directory, found.size)
        found.readers = measure_readers(args, corpus, effort, found.pages,
                                        directory, found.size)
        found.far = measure_far(args, corpus, directory)
        found.engines = measure_engines(effort, directory)
    return found


# ---- Report -----------------------------------------------------------

def report_rates(found, targets):
    free, out = found.disks[0], []
    for operation, name in OPERATIONS.items():
        rows = []
        for disk in found.disks:
            ratios = [x["per_second"] / y["per_second"] for x, y in
                      zip(disk.results[operation], free.results[operation])]
            ratio = statistics.median(ratios)
            rows.append((disk.name,
                         "%.0f" % nbd.middle(disk, operation, "per_second"),
                         "%.2f" % (nbd.middle(disk, operation, "p50_us")
                                   / 1000),
                         "%.2f" % (nbd.middle(disk, operation, "p99_us")
                                   / 1000),
                         "%.1f" % nbd.middle(disk, operation, "cpu_us"),
                         "%.1f" % (100 * nbd.middle(disk, operation,
                                                    "missed")),
                         "%.2f" % ratio,
                         "%.2f - %.2f" % (min(ratios), max(ratios))))
            if operation == "write" and disk is not free:
                targets.at_least("tier: random writes / no limit: %s" %
                                 disk.name, MIN_WRITES, ratio)
            if operation in ("zipf", "zipf-runs") and disk.name == "smq":
                targets.at_least("tier: %s%s / no limit: smq" %
                                 (name[0].lower(), name[1:]), MIN_ZIPF,
                                 ratio)
        out += ["### " + name, ""] + table(
            ["policy", "requests/s", "p50 ms", "p99 ms", "CPU µs",
             "from tier %", "/ no limit", "lowest - highest"], rows)
    return out


def report_memory(found, targets):
    w = found.watch
    above = w.worst - w.limit
    targets.at_most("tier: resident and page cache above the limit, MiB",
                    MAX_ABOVE_LIMIT / MIB, above / MIB, "%.1f")
    return ["### Memory", "", """\
While a disk with policy=smq was filled and all of the above was done once,
the growth of its server's memory (Pss, less that of nbdkit's null plugin) and
the pages of the tier in the page cache (mincore) were added up %d times, every
%.1f ms. The most was %s MiB, the limit %s MiB. In the page cache were at most
%s MiB, and `resident` was at most %s MiB.""" %
            (len(w.samples), 1000 * w.seconds / len(w.samples), mib(w.worst),
             mib(w.limit), mib(w.cached), mib(w.resident)), ""]


def report_readers(found, targets):
    rows, free = [], statistics.median(found.readers[0].writes)
    for r in found.readers:
        ratios = [x / y for x, y in zip(r.busy, r.idle)]
        ratio = statistics.median(ratios)
        rate = statistics.median(r.writes) / free
        rows.append((r.what, "%.3f" % (statistics.median(r.idle) / 1000),
                     "%.3f" % (statistics.median(r.busy) / 1000),
                     "%.2f" % rate,
                     mib(statistics.median(r.to_tier)) if r.to_tier else "-",
                     "%.1f" % (100 * statistics.median(r.missed)),
                     "%.2f" % ratio,
                     "%.2f - %.2f" % (min(ratios), max(ratios))))
        if rate < MAX_WAITING:
            targets.at_most("tier: p99 of reads from RAM while writers "
                            "wait / idle: %s" % r.what, MAX_READ_P99, ratio)
    return ["### Who reads beside writers", "", """\
One connection reads 16 pages that are in RAM, one after the other: p99 when
nobody writes, and beside 32 writers that do all they can on two other
connections. Those that write nearly as much as without a tier do not wait for
it, but keep two processors busy with compressing; then whoever reads waits
for a processor. Where they write less than %.2f of that, they wait.""" %
            MAX_WAITING, ""] + table(
                ["tier", "idle p99 ms", "beside writers ms",
                 "writes / no tier", "to the tier MiB/s", "from tier %",
                 "ratio", "lowest - highest"], rows)


def report_written(found, targets):
    rows = [(step, mib(v["size"]), "%.0f" % (100 * v["live"] / v["size"]),
             mib(v["in"]), mib(v["written"]), "%.3f" % v["ratio"])
            for (step, _), v in found.written.items()]
    targets.at_most("tier: bytes written / bytes that left: fill", MAX_FILL,
                    found.written["fill", 0]["ratio"], "%.3f")
    for step in ("uniform", "zipf", "half"):
        targets.at_most("tier: bytes written / bytes that left, 80 %% full: "
                        "%s" % step, MAX_CLEANING,
                        found.written[step, 80]["ratio"])
    for policy, ratio in found.recorded.items():
        targets.at_most("tier: bytes written / bytes that left, 80 %% full: "
                        "recorded swap, %s" % policy, MAX_CLEANING, ratio)
    return ["### What is written", "", """\
What left RAM, compressed, and what was written to the tier for it: headers,
and what was written again to clean segments. First when a disk of %d MiB is
filled; then while its pages are overwritten at random, on tiers that are full
of what is alive to such a part: all as often, by Zipf's law, or half of them as
often and the others never. RAM, which has a quarter, takes most of the skew
out of Zipf's law. In a log in which all is overwritten as often, however it
is cleaned, the emptiest segment of many is still 63 %% full when 80 %% is
alive, so that 2.7 times as much is written; at 70 %%, twice as much.""" %
            (WRITTEN_PAGES * PAGE // MIB), ""] + table(
    ["what", "tier MiB", "alive %", "left MiB", "written MiB", "ratio"],
    rows) + ["""\
What a kernel has swapped out and in (bench/traces), on a tier that is 80 %%
full of what is alive when most is, from when it was full for the first time:
%s times as much.""" %
             ", ".join("%.2f (%s)" % (ratio, policy)
                       for policy, ratio in found.recorded.items()), ""]


def report_far(found):
    if found.far is None:
        return ["A tier that is far away was not measured: no nbdcopy.", ""]
    rows = [(f.what, "%d" % f.pages, "%d" % f.reads,
             "%.1f" % (f.pages / f.reads), "%.2f" % f.seconds)
            for f in found.far]
    return ["### A tier that is far away", "", """\
A disk of %d MiB with mem-limit=16M is read in order, once, with its tier on
another server (nbdkit's memory and delay). Where a read takes long, what lies
beside a page is read with it.""" % (FAR_PAGES * PAGE // MIB), ""] + table(
        ["tier", "pages on it", "reads of it", "pages per read", "seconds"],
        rows)


def report_engines(found):
    if found.engines is None:
        return ["Threads and io_uring were not compared: fio did not run.",
                ""]
    base = found.engines["threads, pread and pwrite"]
    rows = [(way, "%.0f" % v[0], "%.2f" % (v[1] / 1000), "%.0f" % v[2],
             "%.1f" % v[3], "%.2f" % (v[0] / base[0]))
            for way, v in found.engines.items()]
    return ["### Threads or io_uring", "", """\
What a tier does, by fio on a file of 256 MiB with direct I/O: %d reads of
4 to 8 KiB at random at a time, and beside them writes of 1 MiB, one after the
other.""" % FIO_READERS, ""] + table(
    ["how", "reads/s", "p99 ms", "written MiB/s", "CPU µs per read",
     "reads / threads"], rows)


def report(found, effort, targets):
    out = ["## Tiers", "", """\
A disk of %d MiB takes %s MiB compressed. With mem-limit=%d, a quarter of
that, the rest is on a tier: a file on local storage, with direct I/O. The
limit is on all memory, so buffers, contexts and the slot table are in it.
Clients and counts are those of *Over NBD*; each figure is the median of %d
rounds. *Unlimited* is the same disk without limit or tier. *From tier* is how
many requests needed something from there. Before requests by Zipf's law count,
there are %d such for each page.""" %
           (found.pages * PAGE // MIB, mib(found.size),
            found.size // RAM_PART, effort.tier_rounds, WARM_UP_TIMES), ""]
    out += report_rates(found, targets)
    out += report_memory(found, targets)
    out += report_readers(found, targets)
    out += report_written(found, targets)
    out += report_far(found)
    return out + report_engines(found)
