#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# Random requests of every kind and any alignment, against a copy of the
# disk kept by the client.

. "$(dirname "$0")/functions.sh"
require curl jq
require_nbdsh

# For each: a disk whose size is no multiple of a page, 4000 requests.
for params in 'algorithm=zstd allocator=zsmalloc' \
              'algorithm=lz4 allocator=zbud' \
              'algorithm=lz4hc allocator=zsmalloc'; do
  # shellcheck disable=SC2086
  start_server disk 1000001 $params
  "$python" - "${uri[disk]}" "${#params}" <<'END'
import random
import sys
from pages import *

h = connect(sys.argv[1])
size = h.get_size()
model = bytearray(size)
r = random.Random(int(sys.argv[2]))

for step in range(4000):
    n = min(r.choice((1, 7, 512, 4095, 4096, 4097, 8192, 20000, 70000)),
            size)
    if r.random() < 0.3:
        n = r.randint(1, n)
    at = r.randrange(0, size - n + 1)
    if r.random() < 0.5:
        at -= at % r.choice((512, PAGE))
    kind = r.random()
    if kind < 0.35:
        data = r.choice((noise, text, lambda n, s: bytes(n),
                         lambda n, s: bytes([s % 256]) * n))(n, step)
        h.pwrite(data, at, r.choice((0, nbd.CMD_FLAG_FUA)))
        model[at:at + n] = data
    elif kind < 0.45:
        h.zero(n, at, r.choice((0, nbd.CMD_FLAG_NO_HOLE,
                                nbd.CMD_FLAG_FAST_ZERO)))
        model[at:at + n] = bytes(n)
    elif kind < 0.55:
        h.trim(n, at)
        model[at:at + n] = bytes(n)
    elif kind < 0.6:
        h.flush()
    elif kind < 0.65:
        where = at
        for length, flags in extents(h, n, at):
            if flags & nbd.STATE_ZERO:
                check(f"step {step}: what the map calls zero",
                      model[where:where + length], bytes(length))
            where += length
    else:
        check(f"step {step}: {n} at {at}", h.pread(n, at), model[at:at + n])
check("all of it", h.pread(size, 0), model)
END
  stop_server disk
done
