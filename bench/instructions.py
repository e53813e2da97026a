# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

"""Instructions of a request, counted by callgrind.

They can be repeated, other than times.  What a compression library does is
counted as one figure; what we do around it, function by function.
"""

import collections
import os
import re
import shutil
import tempfile

from common import Problem, parse, run_program, say, table

# Ours is compiled into the program, so its names say what it is.
CODEC_OBJECT = re.compile(r"/lib(zstd|lz4)\.so")
CODEC_FUNCTION = re.compile(r"(lz4_page_|ZSTD_|LZ4_)")
ENTRIES = {"write": "zram_write", "read": "zram_read"}
SHOWN = 0.5                     # instructions per page; the rest is summed


class Profile:
    """The part of callgrind's output that is of use."""

    def __init__(self, text):
        self.own = collections.Counter()        # by function
        self.calls = collections.defaultdict(
            lambda: [0, 0])     # by caller and callee: calls, instructions
        self.inside = {}        # the object file of a function
        self.names = {}
        self.read(text)

    def name(self, kind, value):
        """Names stand there once; later only their numbers do."""
        number, _, text = value.partition(" ")
        if text:
            self.names[kind, number] = text
        return self.names[kind, number]

    def read(self, text):
        function = target_object = current_object = call = None
        for line in text.splitlines():
            key, _, value = line.partition("=")
            if key == "ob":
                current_object = self.name("ob", value)
            elif key == "fn":
                function = self.name("fn", value)
                self.inside[function] = current_object
            elif key == "cob":
                target_object = self.name("ob", value)
            elif key == "cfn":
                callee = self.name("fn", value)
                self.inside.setdefault(callee, target_object or
                                       current_object)
                call = self.calls[function, callee]
                target_object = None
            elif key == "calls":
                call[0] += int(value.split()[0])
            elif line[:1] in "0123456789+-*" and function and line:
                cost = int(line.split()[-1])
                if call is not None:
                    call[1] += cost
                    call = None
                else:
                    self.own[function] += cost

    def is_codec(self, function):
        return bool(CODEC_FUNCTION.match(function) or
                    CODEC_OBJECT.search(self.inside[function] or ""))

    def is_ours(self, function):
        return "/libc.so" not in (self.inside[function] or "")

    def total(self, function):
        return self.own[function] + sum(
            cost for (caller, _), (_, cost) in self.calls.items()
            if caller == function)

    def callees(self, function):
        return [(callee, count, cost) for (caller, callee), (count, cost)
                in self.calls.items() if caller == function]


def strip(name):
    """Without the version of a symbol, or what the compiler made of it."""
    name = re.sub(r"(@@.*|\.(part|constprop|isra|cold)\..*)$", "", name)
    found = re.match(r"__(mem\w+?)_(avx|sse|evex|erms)", name)
    return found.group(1) if found else name


class Breakdown:
    """What a request costs outside the codec."""

    def __init__(self, profile, entry, pages):
        self.profile, self.pages = profile, pages
        self.codec = 0
        self.rows = collections.defaultdict(lambda: [0.0, 0.0, 0.0])
        self.seen = {}
        self.outside = self.visit(entry)
        self.rows[strip(entry)][0] += 1

    def visit(self, function):
        """Instructions outside the codec of all calls of a function."""
        if function in self.seen:
            return self.seen[function]
        self.seen[function] = 0
        profile, pages = self.profile, self.pages
        row = self.rows[strip(function)]
        outside = profile.own[function] / pages
        row[1] += outside
        for callee, count, cost in profile.callees(function):
            if profile.is_codec(callee):
                self.codec += cost / pages
                continue
            if profile.is_ours(callee):
                whole = profile.total(callee)
                part = self.visit(callee) * (cost / whole if whole else 0)
            else:
                part = cost / pages
                self.rows[strip(callee)][1] += part
                self.rows[strip(callee)][2] += part
            self.rows[strip(callee)][0] += count / pages
            outside += part
        row[2] += outside
        self.seen[function] = outside
        return outside


def measure_one(corpus, pages, algorithm, operation, directory):
    filename = os.path.join(directory, "%s.%s" % (algorithm, operation))
    out = run_program(["env", "LD_BIND_NOW=1", "valgrind", "-q",
                       "--tool=callgrind",
                       "--toggle-collect=measured_%ss" % operation,
                       "--callgrind-out-file=" + filename,
                       "./bench-instructions", corpus, str(pages), algorithm,
                       operation])
    count = int(next(parse(out))[1]["pages"])
    with open(filename, encoding="utf-8") as f:
        return Breakdown(Profile(f.read()), ENTRIES[operation], count)


def measure(corpus, pages):
    """By algorithm and operation."""
    if shutil.which("valgrind") is None:
        raise Problem("valgrind is not installed")
    found = {}
    with tempfile.TemporaryDirectory(prefix="bench.") as directory:
        for algorithm in ("zstd", "lz4"):
            for operation in ("write", "read"):
                say("instructions: %s, %s" % (algorithm, operation))
                found[algorithm, operation] = measure_one(
                    corpus, pages, algorithm, operation, directory)
    return found


def functions(breakdown):
    rows, rest = [], 0
    order = sorted(breakdown.rows.items(), key=lambda x: -x[1][1])
    for name, (calls, own, whole) in order:
        if own < SHOWN:
            rest += own
        else:
            rows.append(("`%s`" % name, "%.2f" % calls, "%.1f" % own,
                         "%.1f" % whole))
    if rest:
        rows.append(("others", "", "%.1f" % rest, ""))
    return table(["function", "calls", "own", "with what it calls"], rows)


def report(found, why_not, pages):
    out = ["## Instructions", ""]
    if why_not:
        return out + ["Not counted: %s." % why_not, ""]
    out += ["""\
Instructions for a page that is overwritten or read in a store of %d pages,
in random order, as callgrind counts them; they can be repeated to the last
digit.  zstd has a dictionary.""" % pages, ""]
    out += table(["what", "codec", "outside the codec", "part"], [
        ("%s, %s" % key, "%.0f" % b.codec, "%.0f" % b.outside,
         "%.1f %%" % (100 * b.outside / (b.codec + b.outside)))
        for key, b in found.items()])
    for operation in ("write", "read"):
        out += ["What is outside of it, for a %s with zstd, by function, "
                "without the codec:" % operation, ""]
        out += functions(found["zstd", operation])
    return out
