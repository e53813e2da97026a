# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

"""Servers side by side."""

import contextlib
import os
import statistics
import subprocess
import tempfile
import time

from common import MIB, PAGE, Problem, mib, parse, run_program, say, table

ALGORITHMS = ("lz4", "zstd")
# A second server like the first shows what the ratios can be trusted for.
AGAIN = "malloc-again"
ALLOCATORS = ("malloc", AGAIN, "sparse", "zstd")
THREADS = (0, 2)                # 0: what nbdkit has, 16 per connection
OPERATIONS = {"write": "Writes of 4096 bytes", "read": "Reads of 4096 bytes",
              "sequential": "Sequential writes of 128 KiB"}
NAMES = {"write": "writes", "read": "reads",
         "sequential": "sequential writes"}
SETTLE_SECONDS = 60             # at most

# At least so often as many requests as nbdkit memory: malloc, zstd.
MIN_NBD = {
    ("lz4", "write"): (0.76, None), ("lz4", "read"): (0.92, None),
    ("zstd", "write"): (0.64, 10), ("zstd", "read"): (0.82, 3.2),
    ("zstd", "sequential"): (None, 2),
}
MAX_EMPTY = 8 * MIB             # above nbdkit's own, nothing stored


class Server:
    """An nbdkit of ours or of theirs, with its own socket."""

    def __init__(self, kind, name, threads, argv, directory):
        self.kind, self.name, self.threads = kind, name, threads
        self.what = "%s %s" % (kind, " ".join(argv[3:]))
        if name == AGAIN:
            self.what += " (again)"
        base = os.path.join(directory, "%s-%s-%s" % (kind, name, threads))
        self.socket, self.pidfile = base + ".sock", base + ".pid"
        program, rest = argv[0], argv[1:]
        options = ["-f", "--exit-with-parent", "-U", self.socket,
                   "-P", self.pidfile]
        if threads:
            options.append("--threads=%d" % threads)
        self.argv = [program] + options + rest
        self.process = None
        self.bytes = None
        self.results = {operation: [] for operation in OPERATIONS}

    def start(self):
        self.process = subprocess.Popen(self.argv,
                                        stdin=subprocess.DEVNULL)
        end = time.monotonic() + 30
        while not os.path.exists(self.pidfile):
            if self.process.poll() is not None:
                raise Problem("it ended at once: " + " ".join(self.argv))
            if time.monotonic() > end:
                raise Problem("it does not start: " + " ".join(self.argv))
            time.sleep(0.01)

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait()

    def cpu(self):
        """Seconds of processor time so far."""
        # What clock_getcpuclockid makes of a process: /proc counts in
        # hundredths of seconds only.
        return time.clock_gettime(~self.process.pid << 3 | 2)

    def pss(self):
        name = "/proc/%d/smaps_rollup" % self.process.pid
        with open(name, encoding="ascii", errors="replace") as f:
            for line in f:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
        raise Problem("no Pss in " + name)

    def settle(self):
        """Wait until it has nothing more to do."""
        end = time.monotonic() + SETTLE_SECONDS
        before, quiet = self.cpu(), 0
        while quiet < 3 and time.monotonic() < end:
            time.sleep(0.5)
            now = self.cpu()
            quiet = quiet + 1 if now - before <= 0.01 else 0
            before = now

    def fill(self, corpus, pages):
        self.client(corpus, pages, "fill")
        if self.kind == "zram":
            self.settle()

    def client(self, corpus, pages, *what):
        return run_program(["./bench-nbd", self.socket, corpus, str(pages)] +
                           [str(x) for x in what])

    def measure(self, corpus, pages, operation, requests, seed):
        before = self.cpu()
        out = self.client(corpus, pages, operation, requests, seed)
        result = dict(next(parse(out))[1])
        result["cpu_us"] = (self.cpu() - before) * 1e6 / requests
        self.results[operation].append(result)


def all_servers(args, pages, directory):
    size = str(pages * PAGE)
    servers = []
    for threads in THREADS:
        for name in ALLOCATORS:
            servers.append(Server("memory", name, threads,
                                  [args.nbdkit, "memory", size,
                                   "allocator=" + name.split("-")[0]],
                                  directory))
        for name in ALGORITHMS:
            servers.append(Server("zram", name, threads,
                                  [args.zram, "zram", size,
                                   "algorithm=" + name], directory))
    return servers


def requests_of(server, operation, effort):
    if operation == "sequential":
        return effort.large
    if (server.kind, server.name) == ("memory", "zstd"):
        return effort.slow
    return effort.requests


def measure(args, corpus, effort, pages, empty):
    """EMPTY is what measure_empty returns."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="bench."))
        servers = all_servers(args, pages, directory)
        for server in servers:
            say("nbd: fill %s" % server.what)
            stack.callback(server.stop)
            server.start()
            server.fill(corpus, pages)
            server.bytes = (server.pss() -
                            empty[server.threads, "null"]) / pages
        for number in range(effort.nbd_rounds):
            say("nbd: round %d of %d" % (number + 1, effort.nbd_rounds))
            # Whoever is always measured after the slowest has a fate.
            turn = number % len(servers)
            for operation in OPERATIONS:
                for server in servers[turn:] + servers[:turn]:
                    server.measure(corpus, pages, operation,
                                   requests_of(server, operation, effort),
                                   number + 1)
        return servers


def measure_empty(args, corpus):
    """Pss of servers with nothing in them, by threads and plugin."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="bench.") as directory:
        for threads in THREADS:
            for program, plugin in ((args.nbdkit, "null"),
                                    (args.zram, "zram")):
                say("empty: nbdkit %s 1T" % plugin)
                server = Server(plugin, "empty", threads,
                                [program, plugin, "1T"], directory)
                try:
                    server.start()
                    server.client(corpus, 1, "read", 1000, 1)
                    time.sleep(1)
                    found[threads, plugin] = server.pss()
                finally:
                    server.stop()
    return found


def middle(server, operation, field):
    return statistics.median(x[field] for x in server.results[operation])


def times(server, other, operation):
    """The median of the ratios, round by round."""
    return statistics.median(
        x["per_second"] / y["per_second"] for x, y in
        zip(server.results[operation], other.results[operation]))


# ---- Report -----------------------------------------------------------

def label_of(threads):
    return "--threads=%d" % threads if threads else "default threads"


def intro(effort, pages):
    return ["## Over NBD", "", """\
Random requests of 4096 bytes to a disk of %d MiB that was filled before, on a
Unix socket, two connections, 16 requests in flight on each (32 in all), from
a client with one thread on the same machine; and writes of 128 KiB from its
beginning to its end. Ours have settled: zstd has a dictionary. Each figure is
the median of %d runs of %d requests (%d of 4096 bytes with the memory
plugin's allocator=zstd, %d of 128 KiB); the servers take turns. Ratios are of
requests per second, within a round. *CPU* is what the server spends on a
request, *bytes per page* its memory (Pss) when the disk was filled, less that
of nbdkit's null plugin. *Default threads* is nbdkit's 16 per connection. One
server is there twice: as far as the two differ, so may any two.""" %
            (pages * PAGE // MIB, effort.nbd_rounds, effort.requests,
             effort.slow, effort.large), ""]


def report(servers, effort, pages, targets):
    out = intro(effort, pages)
    for threads in THREADS:
        mine = {(s.kind, s.name): s for s in servers if s.threads == threads}
        for operation, title in OPERATIONS.items():
            out += ["### %s, %s" % (title, label_of(threads)), ""]
            out += one_table(mine, operation)
            add_targets(mine, operation, label_of(threads), targets)
    mine = {(s.kind, s.name): s for s in servers if s.threads == 2}
    return out + ["""\
Beside memory that is not compressed, at `--threads=2`, lz4 serves %.0f %%
of the writes and %.0f %% of the reads per second, zstd %.0f %% and %.0f %%.
The rest is what compression costs on a transport that costs next to nothing;
the slower the transport, the smaller it is beside it.""" % tuple(
        100 * times(mine["zram", name], mine["memory", "malloc"], operation)
        for name in ALGORITHMS for operation in ("write", "read")), ""]


def one_table(mine, operation):
    malloc, theirs = mine["memory", "malloc"], mine["memory", "zstd"]
    rows = []
    for (kind, _), s in mine.items():
        note = ""
        if kind == "zram":
            peers = [other.name for other in mine.values()
                     if other.kind == "memory" and other.name != AGAIN and
                     times(s, other, operation) < 1]
            if peers:
                note = "**slower than %s**" % ", ".join(peers)
            if s.name == "zstd" and s.bytes > theirs.bytes:
                note += " **larger than zstd**"
        rows.append((s.what,
                     "%.0f" % middle(s, operation, "per_second"),
                     "%.2f" % (middle(s, operation, "p50_us") / 1000),
                     "%.2f" % (middle(s, operation, "p99_us") / 1000),
                     "%.1f" % middle(s, operation, "cpu_us"),
                     "%.0f" % s.bytes,
                     "%.2f" % times(s, malloc, operation),
                     "%.1f" % times(s, theirs, operation), note.strip()))
    return table(["nbdkit", "requests/s", "p50 ms", "p99 ms", "CPU µs",
                  "bytes per page", "/ malloc", "/ zstd", "against memory"],
                 rows)


def add_targets(mine, operation, label, targets):
    for algorithm in ALGORITHMS:
        limits = MIN_NBD.get((algorithm, operation), (None, None))
        for name, limit in zip(("malloc", "zstd"), limits):
            if limit is not None:
                targets.at_least(
                    "%s / allocator=%s: %s, %s" %
                    (NAMES[operation], name, algorithm, label), limit,
                    times(mine["zram", algorithm], mine["memory", name],
                          operation))


def report_empty(found, targets):
    out = ["## A disk of 1 TiB with nothing in it", "", """\
Memory (Pss) of a server that has answered 1000 reads and is idle, beside
one with nbdkit's null plugin.""", ""]
    rows = []
    for threads in THREADS:
        null, ours = found[threads, "null"], found[threads, "zram"]
        rows.append((label_of(threads), mib(null), mib(ours),
                     mib(ours - null)))
        targets.at_most("size=1T, empty, MiB above nbdkit's own: " +
                        label_of(threads), MAX_EMPTY / MIB,
                        (ours - null) / MIB, "%.1f")
    return out + table(["threads", "null MiB", "zram MiB",
                        "difference MiB"], rows)
