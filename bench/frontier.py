# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

"""Bytes per page against microseconds per page, and a picture of it."""

import os
import shutil
import subprocess
import tempfile

from common import Problem, parse, run_program, say, table

HEADER = ["setting", "bytes per page", "write µs", "read µs"]
SERIES = (("ours", "zram plugin", 7, "#1f5fa8"),
          ("idle", "zram plugin, idle pages in groups", 5, "#2e8b57"),
          ("plain", "libraries without a store", 6, "#888888"),
          ("kernel", "zram of the kernel", 9, "#c03020"),
          ("memory", "nbdkit memory", 11, "#d08000"))


class Point:
    def __init__(self, kind, name, size, write=None, read=None):
        self.kind, self.name = kind, name
        self.bytes, self.write, self.read = size, write, read


def measure(corpus, effort, pages):
    say("frontier")
    out = run_program(["./bench-frontier", corpus, str(pages),
                       str(effort.frontier_rounds)])
    points = []
    for word, v in parse(out):
        if word == "frontier":
            kind, _, name = str(v["name"]).rpartition(":")
            points.append(Point(kind, name, v["bytes"], v["write_us"],
                                v["read_us"]))
    return points


def kernel_points(found):
    """FOUND is what memory.measure returns."""
    points = []
    for algorithm in found.where:
        time = found.kernel_time.get(algorithm, {})
        points.append(Point("kernel", algorithm,
                            found.total(algorithm, "fill") / found.pages,
                            time.get("write_us"), time.get("read_us")))
    return points


def memory_points(servers, middle):
    """nbdkit memory, without what the transport costs."""
    mine = {s.name: s for s in servers
            if s.kind == "memory" and s.threads == 2}
    cost = [middle(mine["zstd"], x, "cpu_us") -
            middle(mine["malloc"], x, "cpu_us") for x in ("write", "read")]
    return [Point("memory", "allocator=zstd", mine["zstd"].bytes, *cost)]


# ---- Picture ----------------------------------------------------------

def quote(text):
    return "'%s'" % text.replace("'", "''")


def data_of(points, kind, field):
    lines = ["%.2f %.1f %s" % (getattr(p, field), p.bytes, p.name)
             for p in points if p.kind == kind and getattr(p, field)]
    return "$%s_%s << EOD\n%s\nEOD\n" % (kind, field, "\n".join(lines)) \
        if lines else ""


def lines_for(points):
    """Those of which only the bytes are known."""
    return [p for p in points if not p.write]


def panel(points, field, title):
    plots = []
    for kind, label, symbol, color in SERIES:
        if data_of(points, kind, field):
            block = "$%s_%s" % (kind, field)
            style = "pt %d ps 0.9 lc rgb '%s'" % (symbol, color)
            plots.append("%s using 1:2 with points %s title %s" %
                         (block, style, quote(label)))
            plots.append("%s using 1:2:3 with labels left offset 0.7,0.25 "
                         "font ',10' tc rgb '%s' notitle" % (block, color))
    for p in lines_for(points):
        plots.append("%.1f with lines dt 2 lc rgb '#c03020' title %s" %
                     (p.bytes, quote("kernel %s (time not known)" % p.name)))
    return "set title %s\nplot %s\n" % (quote(title), ", \\\n  ".join(plots))


def script(points, filename):
    text = "".join(data_of(points, series[0], field) for series in SERIES
                   for field in ("write", "read"))
    text += """\
set terminal svg size 900,1080 font 'sans-serif,12' background 'white'
set output %s
set multiplot layout 2,1
set logscale x 2
set grid lc rgb '#dddddd'
set xlabel 'microseconds per page of 4096 bytes'
set ylabel 'bytes per page'
set yrange [600:*]
set offsets graph 0, graph 0.2, graph 0.05, graph 0.02
set key top right font ',11'
""" % quote(filename)
    text += panel(points, "write", "Writing (and regrouping later)")
    text += "set key off\n"
    return text + panel(points, "read", "Reading")


def draw(points, filename):
    """A reason why there is no picture, or None."""
    if shutil.which("gnuplot") is None:
        return "gnuplot is not installed"
    with tempfile.TemporaryDirectory(prefix="bench.") as directory:
        name = os.path.join(directory, "frontier.gnuplot")
        partial = os.path.join(directory, "frontier.svg")
        with open(name, "w", encoding="utf-8") as f:
            f.write(script(points, partial))
        try:
            subprocess.run(["gnuplot", name], check=True,
                           stdin=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError) as e:
            raise Problem("gnuplot: %s" % e) from e
        shutil.move(partial, filename)
    return None


# ---- Report -----------------------------------------------------------

LABELS = {"ours": "", "idle": "idle pages: ", "plain": "without a store: ",
          "kernel": "kernel zram: ", "memory": "nbdkit memory: "}


def report(points, effort, pages, picture):
    def number(value):
        return "%.1f" % value if value else "-"

    rows = [(LABELS[p.kind] + p.name, "%.0f" % p.bytes, number(p.write),
             number(p.read)) for p in points]
    out = ["## Every setting", ""]
    if picture:
        out += ["![bytes per page against microseconds per page](%s)" %
                picture, ""]
    out += ["""\
Down and to the left is better.  Each setting has %d pages in it and is
settled; dictionaries are adopted where they are not turned off.  All are
overwritten and read in random order, in turns; medians of %d rounds, of
processor time.  *Bytes* is all that is resident, for plain libraries the
objects alone.  Writing pages that become idle includes regrouping them
later; reading them is the first read, of which each has to decompress the
whole group.  The kernel's times are those of system calls with O_DIRECT.
nbdkit memory's are what its server takes for a request beyond what
allocator=malloc takes.""" % (pages, effort.frontier_rounds), ""]
    return out + table(HEADER, rows)
