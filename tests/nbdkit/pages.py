# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

"""What tests written in Python share: contents of pages, and a client.

Contents come from a seed, so that what was written need not be kept to
know what must be read.
"""

import random
import sys

import nbd

PAGE = 4096
KiB, MiB, GiB = 1 << 10, 1 << 20, 1 << 30
TiB, EiB = 1 << 40, 1 << 60


def connect(uri):
    """A client that also asks where the holes are."""
    h = nbd.NBD()
    h.add_meta_context("base:allocation")
    h.connect_uri(uri)
    return h


def noise(size, seed=0):
    """Bytes that no codec makes smaller."""
    return random.Random(seed).randbytes(size)


def text(size, seed=0):
    """Bytes that every codec makes smaller, and no two pages alike."""
    r = random.Random(seed)
    words = [bytes(r.choices(b"abcdefghijklmnopqrstuvwxyz", k=r.randint(2, 9)))
             for _ in range(200)]
    out = bytearray()
    while len(out) < size:
        out += b" ".join(r.choices(words, k=100)) + b"\n"
    return bytes(out[:size])


def same(size, word=b"\x01\x02\x03\x04\x05\x06\x07\x08"):
    """One word of eight bytes over and over."""
    return word * (size // len(word))


def check(what, got, expected):
    """Fail unless they are equal, and say where they first differ."""
    if got == expected:
        return
    if isinstance(got, (bytes, bytearray)):
        if len(got) != len(expected):
            sys.exit(f"FAIL: {what}: {len(got)} bytes, not {len(expected)}")
        first = next(i for i in range(len(got)) if got[i] != expected[i])
        sys.exit(f"FAIL: {what}: differs from byte {first}: "
                 f"{bytes(got[first:first + 16]).hex()}, should be "
                 f"{bytes(expected[first:first + 16]).hex()}")
    sys.exit(f"FAIL: {what} is {got!r}, should be {expected!r}")


def extents(h, count, offset):
    """The map of a range: a list of [length, flags], neighbours of one
    kind joined, from as many requests as it takes."""
    out = []
    end = offset + count
    while offset < end:
        got = []
        h.block_status(min(end - offset, (1 << 32) - 1), offset,
                       lambda ctx, off, entries, err: got.extend(entries))
        if not got:
            sys.exit(f"FAIL: no extents at {offset}")
        for length, flags in zip(got[::2], got[1::2]):
            if length == 0:
                sys.exit(f"FAIL: empty extent at {offset}")
            length = min(length, end - offset)
            if out and out[-1][1] == flags:
                out[-1][0] += length
            else:
                out.append([length, flags])
            offset += length
    return out


def lost(h, pages, expected):
    """Which of these pages cannot be read: EIO.  Every other one must be
    what expected(page) says."""
    out = []
    for page in pages:
        try:
            got = h.pread(PAGE, page * PAGE)
        except nbd.Error as e:
            check(f"the error of page {page}", e.errno, "EIO")
            out.append(page)
            continue
        check(f"page {page}", got, expected(page))
    return out
