# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

"""What the pages take, with us and in the kernel."""

import os

from common import MIB, PAGE, Problem, mib, parse, run_program, say, table

MAX_PSS_DIFFERENCE = 2 * MIB
MAX_OVERHEAD = 1.08             # resident / (objects + slots), aged
MAX_SMALL = 8 * MIB             # resident, with 1 MiB stored
MIN_IDLE_GAIN = 17              # percent less than settled and alone
MAX_POOL = {"fill": 1.03, "overwritten": 1.05}  # pool / objects
MAX_ONE_SIZE = 1.075            # the same, objects all of one size
MAX_LARGE_POOL = 1.02           # the same, LARGE_POOL MiB of objects
LARGE_POOL = 1024
MAX_KERNEL = {                  # zstd's resident / all of kernel zram
    ("fill", "lz4"): 0.62, ("fill", "zstd"): 1.02,
    ("idle", "lz4"): 0.50, ("idle", "zstd"): 0.80,
    ("overwritten", "lz4"): 0.65,
}

ALGORITHMS = ("lz4", "zstd")
KERNEL_ALGORITHMS = ("lz4", "lzo-rle", "zstd")
STEPS = ("fill", "idle", "overwritten", "overwritten-idle")


class Found:
    """Lines of the programs, by algorithm and step."""

    def __init__(self, pages, overwrites):
        self.pages, self.overwrites = pages, overwrites
        self.ours, self.kernel, self.kernel_time = {}, {}, {}
        self.where, self.why_not = {}, {}

    def total(self, algorithm, step):
        """All that the kernel takes, or None if that is not known.

        Nothing of it changes while pages are idle.
        """
        step = step.replace("-idle", "").replace("idle", "fill")
        v = self.kernel.get((algorithm, step))
        return v and v["mem_used"] + v["slots"]

    def ratio(self, algorithm, step, peer):
        total = self.total(peer, step)
        return total and self.ours[algorithm, step]["resident"] / total


def measure_kernel(found, corpus, helper, algorithm):
    """In this machine's kernel, or in one of its own."""
    numbers = [str(found.pages), str(found.overwrites)]
    reasons = []
    for where, argv in (
            ("zram0", ["./bench-kernel", corpus] + numbers +
             ["zram0", algorithm]),
            ("user-mode Linux", [helper, corpus] + numbers + [algorithm])):
        say("memory: kernel zram, %s, %s" % (algorithm, where))
        try:
            out = run_program(argv, may_skip=True)
        except Problem as e:
            reasons.append(str(e).replace("\n", "; "))
            say("not there: %s" % reasons[-1])
            continue
        found.where[algorithm] = where
        for word, v in parse(out):
            if word == "kernel":
                found.kernel[algorithm, v["step"]] = v
            elif word == "kernel-time":
                found.kernel_time[algorithm] = v
        return
    found.why_not[algorithm] = "; ".join(reasons)


def measure(corpus, overwrites, pages, here):
    found = Found(pages, overwrites)
    for algorithm in ALGORITHMS:
        say("memory: %s" % algorithm)
        out = run_program(["./bench-memory", corpus, str(pages),
                           str(overwrites), algorithm])
        for word, v in parse(out):
            if word == "memory":
                found.ours[algorithm, v["step"]] = v
    for algorithm in KERNEL_ALGORITHMS:
        measure_kernel(found, corpus, os.path.join(here, "kernel-in-uml"),
                       algorithm)
    return found


def measure_pool(mebibytes):
    say("memory: pools with one size")
    return [v for word, v in
            parse(run_program(["./bench-pool", str(mebibytes)]))
            if word == "pool"]


def measure_large_pool(corpus, mebibytes, pages):
    say("memory: pools of %d MiB" % mebibytes)
    return [v for word, v in
            parse(run_program(["./bench-pool", str(mebibytes), corpus,
                               str(pages)] + list(ALGORITHMS)))
            if word == "corpus"]


def report_large_pool(large, mebibytes, targets):
    for v in large:
        what = "pool / objects: %s, %d MiB of objects" % (v["algorithm"],
                                                          mebibytes)
        targets.at_most(what, MAX_LARGE_POOL, v["ratio"], "%.3f")
    return ["%d MiB of objects, as large as those of these pages: the pool "
            "takes %s more than they." %
            (mebibytes, ", ".join("%.1f %% (%s)" %
                                  (100 * (v["ratio"] - 1), v["algorithm"])
                                  for v in large)), ""]


def ours_row(found, algorithm, step):
    v = found.ours[algorithm, step]
    cells = ["ours %s, %s" % (algorithm, step), mib(v["compr"]),
             mib(v["mem_used"]), "%.3f" % (v["mem_used"] / v["compr"]),
             mib(v["slots"]), mib(v["resident"]),
             "%.0f" % (v["resident"] / found.pages)]
    ratios = {peer: found.ratio(algorithm, step, peer)
              for peer in ("lz4", "zstd")}
    cells += ["%.2f" % x if x else "-" for x in ratios.values()]
    return cells + ["**larger**" if (ratios[algorithm] or 0) > 1 else ""]


def kernel_row(found, algorithm, step):
    v = found.kernel[algorithm, step]
    total = found.total(algorithm, step)
    cells = ["kernel %s, %s" % (algorithm, step), mib(v["compr"]),
             mib(v["mem_used"]), "%.3f" % (v["mem_used"] / v["compr"]),
             mib(v["slots"]), mib(total), "%.0f" % (total / found.pages)]
    for peer in ("lz4", "zstd"):
        other = found.total(peer, step)
        cells.append("%.2f" % (total / other) if other else "-")
    return cells + [""]


def main_table(found):
    rows = []
    for step in STEPS:
        rows += [ours_row(found, algorithm, step)
                 for algorithm in ALGORITHMS]
        rows += [kernel_row(found, algorithm, step)
                 for algorithm in KERNEL_ALGORITHMS
                 if (algorithm, step) in found.kernel]
    out = table(["what", "objects MiB", "pool MiB", "pool / objects",
                 "slots MiB", "all MiB", "bytes per page",
                 "all / kernel lz4", "all / kernel zstd",
                 "against the same"], rows)
    for algorithm, where in found.where.items():
        if where != "zram0":
            out += ["Kernel %s was measured in %s." % (algorithm, where), ""]
    for algorithm, reason in found.why_not.items():
        out += ["Kernel %s could not be measured: %s." %
                (algorithm, reason), ""]
    return out


def kernel_targets(found, targets):
    for (step, peer), limit in MAX_KERNEL.items():
        targets.at_most("resident with zstd / kernel zram with %s: %s" %
                        (peer, step), limit, found.ratio("zstd", step, peer))
    fill, idle = (found.ours["zstd", step]["resident"]
                  for step in ("fill", "idle"))
    targets.at_least("idle pages take less, percent", MIN_IDLE_GAIN,
                     100 * (1 - idle / fill), "%.1f")


def pool_targets(found, targets):
    for algorithm in ALGORITHMS:
        for step, limit in MAX_POOL.items():
            v = found.ours[algorithm, step]
            targets.at_most("pool / objects: %s, %s" % (algorithm, step),
                            limit, v["mem_used"] / v["compr"], "%.3f")
        v = found.ours[algorithm, "overwritten"]
        targets.at_most("resident / (objects + slots), overwritten: %s" %
                        algorithm, MAX_OVERHEAD,
                        v["resident"] / (v["compr"] + v["slots"]), "%.3f")


def report_pool(pool, targets):
    worst = max(pool, key=lambda v: v["ratio"])
    average = sum(v["ratio"] for v in pool) / len(pool)
    targets.at_most("pool / objects, all of one size from 512 to 4096: worst",
                    MAX_ONE_SIZE, worst["ratio"], "%.3f")
    return ["""\
Objects that are all of one size, for every size from 512 to 4096 bytes
that could be the worst of its class: on average the pool takes %.1f %% more
than they, at worst, with %d bytes, %.1f %%.  (Pages that compress to more
than 3840 bytes are stored as they are.)""" %
            (100 * (average - 1), worst["size"], 100 * (worst["ratio"] - 1)),
            ""]


def report_truth(found, targets):
    rows = []
    for (algorithm, step), v in found.ours.items():
        difference = v["resident"] - v["pss"]
        what = "%s, %s" % (algorithm, step)
        rows.append((what, mib(v["resident"]), mib(v["pss"]),
                     "%+.1f" % (difference / MIB)))
        targets.at_most("resident and growth of Pss differ by MiB: " + what,
                        MAX_PSS_DIFFERENCE / MIB, abs(difference) / MIB,
                        "%.1f")
        if step == "small":
            targets.at_most("resident with 1 MiB stored, MiB: " + algorithm,
                            MAX_SMALL / MIB, v["resident"] / MIB, "%.1f")
    return ["Is `resident` true?  The kernel counts this process (Pss in "
            "smaps_rollup).  *Small* is a store with 1 MiB in it.", ""] + \
        table(["what", "resident MiB", "growth of Pss MiB",
               "difference MiB"], rows)


def report(found, pool, targets):
    out = ["## Memory", "", """\
%d MiB of pages are written in random order and settled, which is to say
that a dictionary is adopted (*fill*); then all are made idle and
recompressed (*idle*).  Then all are overwritten %d times in random order,
each with the contents of another, and settled (*overwritten*), and made
idle once more.  (Idle pages are compressed together with their neighbours,
and after such overwriting neighbours have nothing in common.)  *Objects* is
the sum of the compressed sizes, *pool* what the allocator holds for them,
*all* is that and the slot table, and with ours also compression contexts,
dictionaries, records and buffers, all that is resident.  The kernel's
figures are mem_used_total and 16 bytes per page for its table; it says
nothing of its other records.  Both were compacted first.""" %
           (found.pages * PAGE // MIB, found.overwrites), ""]
    out += main_table(found)
    kernel_targets(found, targets)
    pool_targets(found, targets)
    out += report_pool(pool, targets)
    return out + report_truth(found, targets)


def report_image(found):
    """A corpus of another kind.  There are no targets for it."""
    out = ["## A file-system image", "", """\
The same for %d MiB of an ext4 file system with the files of Python's
library on it, overwritten once.""" % (found.pages * PAGE // MIB), ""]
    return out + main_table(found)
