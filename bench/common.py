# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

"""What the parts of the benchmarks share: programs, tables, targets."""

import subprocess
import sys
import time

PAGE = 4096
MIB = 1024 * 1024
SKIP = 77
START = time.monotonic()


class Problem(Exception):
    """Something that is missing or that failed, for the user to read."""


def say(text):
    """Tell whoever waits, with the seconds that have gone by."""
    print("bench: %3d s: %s" % (time.monotonic() - START, text),
          file=sys.stderr, flush=True)


def run_program(argv, may_skip=False):
    """Run a program to its end and return what it printed.

    Unlike subprocess.run this never ends it by SIGKILL, because one of
    them has something to clean up.
    """
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE if may_skip else None,
                          universal_newlines=True) as process:
        try:
            out, errors = process.communicate()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if may_skip and process.returncode == SKIP:
        raise Problem(errors.strip())
    if process.returncode != 0:
        raise Problem("failed: %s\n%s" % (" ".join(argv), errors or ""))
    return out


def parse(text):
    """Lines of "word name=value ..." as (word, dict) pairs."""
    for line in text.splitlines():
        word, *pairs = line.split()
        values = {}
        for pair in pairs:
            name, value = pair.split("=", 1)
            try:
                values[name] = float(value)
            except ValueError:
                values[name] = value
        yield word, values


def first_line(argv):
    """The first line a program prints, or that it printed none."""
    try:
        out = subprocess.run(argv, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, check=True,
                             stdin=subprocess.DEVNULL,
                             universal_newlines=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return (out.splitlines() or ["unknown"])[0].strip()


def mib(value):
    return "%.1f" % (value / MIB)


def table(header, rows):
    """A table of Markdown, padded so that it can be read as it is."""
    rows = [[str(x) for x in row] for row in rows]
    widths = [max(len(row[i]) for row in [header] + rows)
              for i in range(len(header))]

    def line(row):
        cells = [x.ljust(w) if i == 0 else x.rjust(w)
                 for i, (x, w) in enumerate(zip(row, widths))]
        return "| " + " | ".join(cells) + " |"

    rule = ["-" * w if i == 0 else "-" * (w - 1) + ":"
            for i, w in enumerate(widths)]
    return [line(header), line(rule)] + [line(row) for row in rows] + [""]


class Targets:
    """What was wanted, what was measured, and whether that is it."""

    def __init__(self):
        self.rows = []

    def at_most(self, what, limit, value, form="%.2f"):
        """A value of None was not measured."""
        self.add(what, "≤ " + form % limit, form, value,
                 value is not None and value <= limit)

    def at_least(self, what, limit, value, form="%.2f"):
        self.add(what, "≥ " + form % limit, form, value,
                 value is not None and value >= limit)

    def add(self, what, target, form, value, met):
        if value is None:
            self.rows.append((what, target, "-", "not measured"))
        else:
            self.rows.append((what, target, form % value,
                              "met" if met else "**missed**"))

    def report(self):
        count = {word: sum(word in row[3] for row in self.rows)
                 for word in ("met", "missed", "not measured")}
        text = "%d of %d targets are met." % (count["met"], len(self.rows))
        for word in ("missed", "not measured"):
            if count[word]:
                text += "  %d %s %s." % (
                    count[word], "is" if count[word] == 1 else "are", word)
        return [text, ""] + table(
            ["what", "target", "measured", "result"], self.rows)
