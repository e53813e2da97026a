# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

"""Bytes per page against microseconds per page, and a picture of it."""

import math
import os
import shutil
import subprocess
import tempfile

from common import Problem, parse, run_program, say, table

LINE_COLOR = "#c03020"
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

# A panel, and what a letter of a label takes, in points of the picture.
# These only decide where labels go, so they may be a little wrong.
PANEL_WIDTH, PANEL_HEIGHT = 780, 420
LETTER_WIDTH, LETTER_HEIGHT = 6.3, 12
MARK = 5


def quote(text):
    return "'%s'" % text.replace("'", "''")


def short(point):
    """A name for the picture, whose colours say the rest."""
    text = point.name.replace(",level=", " ").replace("level=", "zstd ")
    text = text.replace(",group=", " × ").replace(",dictionary=none",
                                                  ", no dictionary")
    return text + " (default)" if (point.kind, text) == ("ours", "zstd 1") \
        else text


class Panel:
    """One of the two pictures."""

    def __init__(self, points, field, title):
        self.points = [p for p in points if getattr(p, field)]
        # Those of which only the bytes are known.
        self.lines = [p for p in points if not getattr(p, field)]
        self.field, self.title = field, title
        values = [getattr(p, field) for p in self.points]
        self.left, self.right = min(values) * 0.8, max(values) * 1.6
        sizes = [p.bytes for p in points]
        self.bottom = min(sizes) * 0.9 // 100 * 100
        self.top = max(sizes) * 1.3 // 100 * 100   # and room for the key
        self.taken = [self.box(*self.place(p), MARK, MARK)
                      for p in self.points]

    @staticmethod
    def box(x, y, width, height):
        return (x - width, y - height, x + width, y + height)

    def place(self, point):
        """Where a point is, from the lower left corner."""
        x = (math.log(getattr(point, self.field) / self.left) /
             math.log(self.right / self.left))
        y = (point.bytes - self.bottom) / (self.top - self.bottom)
        return x * PANEL_WIDTH, y * PANEL_HEIGHT

    def is_free(self, box):
        return (5 <= box[0] and box[2] <= PANEL_WIDTH - 5 and
                0 <= box[1] and box[3] <= PANEL_HEIGHT and
                not any(box[0] < x[2] and x[0] < box[2] and
                        box[1] < x[3] and x[1] < box[3]
                        for x in self.taken))

    def label(self, point, color):
        """Beside the point, or as near as there is room."""
        x, y = self.place(point)
        text = short(point)
        width, height = len(text) * LETTER_WIDTH / 2, LETTER_HEIGHT / 2
        places = [(x + side * (width + 8 + abs(up) / 2), y + up)
                  for up in sorted(range(-90, 91, 3), key=abs)
                  for side in (1, -1)]
        place = next((p for p in places
                      if self.is_free(self.box(*p, width, height))),
                     places[0])
        self.taken.append(self.box(*place, width, height))
        at = (place[0] / PANEL_WIDTH, place[1] / PANEL_HEIGHT)
        out = "set label %s at graph %.4f,%.4f center font ',10' " \
            "tc rgb '%s'\n" % (quote(text), *at, color)
        if abs(place[1] - y) > LETTER_HEIGHT:
            side = -1 if place[0] > x else 1
            out += "set arrow from graph %.4f,%.4f to %f,%f nohead lw 0.5 " \
                "lc rgb '%s'\n" % (at[0] + side * (width + 2) / PANEL_WIDTH,
                                   at[1], getattr(point, self.field),
                                   point.bytes, color)
        return out

    def script(self):
        blocks, labels, plots = "", "", []
        for kind, label, symbol, color in SERIES:
            mine = [p for p in self.points if p.kind == kind]
            if not mine:
                continue
            name = "$%s_%s" % (kind, self.field)
            blocks += "%s << EOD\n%s\nEOD\n" % (name, "\n".join(
                "%f %f" % (getattr(p, self.field), p.bytes) for p in mine))
            plots.append("%s with points pt %d ps 0.9 lc rgb '%s' title %s" %
                         (name, symbol, color, quote(label)))
            labels += "".join(self.label(p, color) for p in mine)
        for p in self.lines:
            plots.append("%f with lines dt 2 lc rgb '%s' title %s" %
                         (p.bytes, LINE_COLOR,
                          quote("kernel's %s (time not known)" % p.name)))
        return (blocks + "unset label\nunset arrow\n" + labels +
                "set xrange [%f:%f]\nset yrange [%f:%f]\n" %
                (self.left, self.right, self.bottom, self.top) +
                "set title %s\nplot %s\n" %
                (quote(self.title), ", \\\n  ".join(plots)))


def script(points, filename):
    return """\
set encoding utf8
set terminal svg size 900,1080 font 'sans-serif,12' background 'white'
set output %s
set multiplot layout 2,1
set logscale x 2
set grid back lt 1 lw 0.5 lc rgb '#cccccc'
set xlabel 'microseconds per page of 4096 bytes'
set ylabel 'bytes per page'
set key top right font ',11'
%sset key off
%s""" % (quote(filename),
         Panel(points, "write", "Writing (and regrouping later)").script(),
         Panel(points, "read", "Reading").script())


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
