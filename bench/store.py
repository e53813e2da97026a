# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

"""What a page costs in the benchmark's own process."""

from common import parse, run_program, say, table

MAX_COST = 1.15                 # store / bare codec, in time
MIN_GAIN = 0.95                 # of the bare codec's gain, second core
MAX_SETTLED = {"overwrite": 1.8, "read": 3.5}   # of plain lz4's time
MIN_REGROUP = 0.95              # of the requests, while pages are regrouped
ALGORITHMS = ("lz4", "zstd")


def measure(corpus, effort, pages):
    """Lines of bench-store by kind."""
    found = {"cost": [], "gain": [], "settled": [], "pages": [],
             "regroup": []}
    for what in ("settled",) + ALGORITHMS:
        say("store: %s" % what)
        out = run_program(["./bench-store", corpus, str(pages),
                           str(effort.store_rounds), what])
        for word, v in parse(out):
            found[word].append(v)
    say("store: regrouping")
    out = run_program(["./bench-regroup", corpus, str(pages),
                       str(effort.store_rounds)])
    for word, v in parse(out):
        found[word].append(v)
    return found


def report_settled(found, targets):
    out = ["""\
*Settled default* is what users get who set nothing: zstd at level 1, after
the store has adopted a dictionary of what was written.  Beside it, on the
same pages in turns, are the two libraries as their manuals say (*plain*),
and the ratio is to plain lz4:""", ""]
    rows = []
    for v in found["settled"]:
        phase, threads = v["phase"], int(v["threads"])
        rows.append(("settled default, " + phase, threads,
                     "%.2f" % v["lz4_us"], "%.2f" % v["zstd_us"],
                     "%.2f" % v["store_us"], "%.2f" % v["ratio"],
                     "%.2f - %.2f" % (v["ratio_min"], v["ratio_max"])))
        if threads == 1:
            targets.at_most("settled default / plain lz4: %s" % phase,
                            MAX_SETTLED[phase],
                            v["ratio"] if v["dictionary"] else None)
    out += table(["what", "threads", "plain lz4 µs", "plain zstd µs",
                  "store µs", "store / plain lz4", "lowest - highest"], rows)
    if not all(v["dictionary"] for v in found["settled"]):
        out += ["It has adopted **no dictionary** here.", ""]
    return out


def report_cost(found, targets):
    rows = []
    for v in found["cost"]:
        what = "%s, %s" % (v["algorithm"], v["phase"])
        note = "**slower**" if v["store_us"] > v["plain_us"] else ""
        rows.append((what, int(v["threads"]), "%.2f" % v["plain_us"],
                     "%.2f" % v["bare_us"], "%.2f" % v["store_us"],
                     "%.2f" % v["ratio"],
                     "%.2f - %.2f" % (v["ratio_min"], v["ratio_max"]), note))
        if v["threads"] == 1:
            targets.at_most("store / bare codec: " + what, MAX_COST,
                            v["ratio"])
    out = table(["what", "threads", "plain µs", "bare µs", "store µs",
                 "store / bare", "lowest - highest", "against plain"], rows)
    one = [v["ratio"] for v in found["cost"] if v["threads"] == 1]
    return out + ["""\
What is not compression (slots, locks, the allocator, counters) costs
between %+.0f %% and %+.0f %% of the time that the codec takes.  With one
thread the figures are processor time; with two they are time that passes,
per page, so lower.
The first fill includes the kernel's work for every new page of memory, for
each of the three.""" % ((min(one) - 1) * 100, (max(one) - 1) * 100), ""]


def report_gain(found, targets):
    rows = []
    for v in found["gain"]:
        what = "%s, %s" % (v["algorithm"], v["phase"])
        rows.append((what, "%.2f" % v["bare"], "%.2f" % v["store"],
                     "%.2f" % v["ratio"]))
        targets.at_least("gain from a second core / bare codec's: " + what,
                         MIN_GAIN, v["ratio"])
    out = ["How much more a second thread does:", ""]
    out += table(["what", "bare", "store", "store / bare"], rows)
    return out + ["""\
If the bare codec does not double, the machine has no second core to give;
what the store loses beside it would be locks.""", ""]


def report_regroup(found, targets):
    rows = []
    for v in found["regroup"]:
        what = "%ss, %d thread%s" % (v["operation"], v["threads"],
                                     "s" if v["threads"] > 1 else "")
        rows.append((what, "%.3f" % v["ratio"], "%.3f - %.3f" %
                     (v["ratio_min"], v["ratio_max"]),
                     "%.1f" % (100 * v["background"]), int(v["regrouped"])))
        targets.at_least("requests while idle pages are regrouped: " + what,
                         MIN_REGROUP,
                         v["ratio"] if v["regrouped"] else None)
    return ["""\
Two settled stores, in one of which idle pages are regrouped, with the
default of a quarter of a processor; threads that do nothing else read or
overwrite a sixteenth of the pages, in turns of 300 ms.  Requests per second
with regrouping, as a part of those without; what part of the process's
processor time the background thread took; and how many pages were in groups at
the end of a round:""", ""] + table(
        ["what", "with / without", "lowest - highest", "background %",
         "regrouped"], rows)


def report(found, targets):
    pages = found["pages"][0]
    out = ["## What the store costs", "", """\
The time to write or read one page, in the benchmark's own process, with no
server around it.  All ways work on the same %d pages (same-filled ones left
out) in the same random order, in turns of some milliseconds; medians of %d
rounds, ratios with the lowest and highest round.""" %
           (pages["count"], pages["rounds"]), ""]
    out += report_settled(found, targets)
    out += ["""\
What the store adds to compression, without a dictionary: *plain* calls the
compression library as its manual says, *bare* makes the calls that the
store makes; both know beforehand where each object goes.  *Store* is
`zram_write` and `zram_read`.""", ""]
    return (out + report_cost(found, targets) + report_gain(found, targets) +
            report_regroup(found, targets))
