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
CODEC_FUNCTION = re.compile(r"(lz4_page_|zstd_page_|ZSTD_|LZ4_)")
ENTRIES = {"write": "zram_write", "read": "zram_read"}
SHOWN = 5                       # instructions per page; the rest is summed


class Profile:
    """The part of callgrind's output that is of use."""

    def __init__(self, text):
        self.own = collections.Counter()        # by function
        self.calls = collections.Counter()      # by caller and callee
        self.inside = {}        # the object file of a function
        self.source = {}        # the source file of a function
        self.names = {}
        self.read(text)

    def name(self, kind, value):
        """Names stand there once; later only their numbers do."""
        number, _, text = value.partition(" ")
        if text:
            self.names[kind, number] = text
        return self.names[kind, number]

    def read(self, text):
        function = callee = target_object = current_object = source = None
        for line in text.splitlines():
            key, _, value = line.partition("=")
            if key == "ob":
                current_object = self.name("ob", value)
            elif key in ("fl", "fi", "fe", "cfi", "cfl"):
                filename = self.name("fl", value)
                source = filename if key == "fl" else source
            elif key == "fn":
                function = self.name("fn", value)
                self.inside[function] = current_object
                self.source[function] = source
            elif key == "cob":
                target_object = self.name("ob", value)
            elif key == "cfn":
                callee = self.name("fn", value)
                self.inside.setdefault(callee, target_object or
                                       current_object)
                target_object = None
            elif line[:1] in tuple("0123456789+-*") and function:
                cost = int(line.split()[-1])
                if callee:
                    self.calls[function, callee] += cost
                    callee = None
                else:
                    self.own[function] += cost

    def is_codec(self, function):
        return bool(CODEC_FUNCTION.match(function) or
                    CODEC_OBJECT.search(self.inside[function] or ""))

    def is_ours(self, function):
        return "/libc.so" not in (self.inside[function] or "")

    def file_of(self, function):
        if not self.is_ours(function):
            return "libc"
        return os.path.basename(self.source.get(function) or "?")

    def callees(self, function):
        return [(callee, cost) for (caller, callee), cost
                in self.calls.items() if caller == function]

    def total(self, function):
        return self.own[function] + sum(
            cost for _, cost in self.callees(function))


def strip(name):
    """Without the version of a symbol, or what the compiler made of it."""
    name = re.sub(r"(@@.*|\.(part|constprop|isra|cold)\..*)$", "", name)
    found = re.match(r"__(mem\w+?)_(avx|sse|evex|erms)", name)
    return found.group(1) if found else name


class Breakdown:
    """What a request costs outside the codec, per page."""

    def __init__(self, profile, entry, pages):
        self.profile, self.pages = profile, pages
        self.codec = 0
        self.own = collections.Counter()        # by file and function
        self.whole = collections.Counter()      # with what it calls
        self.seen = {}
        self.outside = self.visit(entry)

    def key(self, function):
        return self.profile.file_of(function), strip(function)

    def visit(self, function):
        """Instructions outside the codec of all calls of a function."""
        if function in self.seen:
            return self.seen[function]
        self.seen[function] = 0
        profile = self.profile
        own = outside = profile.own[function] / self.pages
        for callee, cost in profile.callees(function):
            cost /= self.pages
            if profile.is_codec(callee):
                self.codec += cost
            elif profile.is_ours(callee):
                whole = profile.total(callee) / self.pages
                outside += self.visit(callee) * (cost / whole if whole else 0)
            else:
                self.own[self.key(callee)] += cost
                self.whole[self.key(callee)] += cost
                outside += cost
        self.own[self.key(function)] += own
        self.whole[self.key(function)] += outside
        self.seen[function] = outside
        return outside

    def by_file(self):
        files = collections.Counter()
        for (file, _), own in self.own.items():
            files[file] += own
        return files


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


def files(found):
    """What the instructions are spent on, by file."""
    each = {key: b.by_file() for key, b in found.items()}
    names = sorted(set().union(*each.values()),
                   key=lambda x: -sum(files[x] for files in each.values()))
    rows = [["`%s`" % name] + ["%.0f" % each[key][name] for key in each]
            for name in names]
    return table(["file"] + ["%s, %s" % key for key in each], rows)


def functions(breakdown):
    rows, rest = [], 0
    for (file, name), own in breakdown.own.most_common():
        if own < SHOWN:
            rest += own
        else:
            rows.append(("`%s`" % name, file, "%.0f" % own,
                         "%.0f" % breakdown.whole[file, name]))
    if rest:
        rows.append(("others", "", "%.0f" % rest, ""))
    return table(["function", "file", "own", "with what it calls"], rows)


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
    out += ["What those outside of it are spent on, by file:", ""]
    out += files(found)
    for operation in ("write", "read"):
        out += ["By function, for a %s with zstd, the codec always left "
                "out:" % operation, ""]
        out += functions(found["zstd", operation])
    return out
