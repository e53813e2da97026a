#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# A disk of any size starts at once, takes memory only for what is
# written, and its first and last bytes work.

. "$(dirname "$0")/functions.sh"
require curl jq
require_nbdsh

# Starting valgrind takes seconds of its own.
patience=5
if sanitized; then
  patience=30
fi

# Compression contexts come with processors.
limit=$((16 << 20))
cpus=$(nproc)
if [ "$cpus" -gt 8 ]; then
  limit=$((limit + (cpus - 8) * 1048576))
fi

for size in 1 511 4097 1G 1E 9223372036854775807; do
  begin=$SECONDS
  start_server disk "$size"
  at_most "start of a disk of $size in seconds" $((SECONDS - begin)) \
          $patience

  "$python" - "${uri[disk]}" <<'END'
import sys
from pages import *

h = connect(sys.argv[1])
size = h.get_size()
last = size - 1
check("a fresh byte", h.pread(1, last), b"\0")
h.pwrite(b"L", last)
h.pwrite(b"F", 0)
h.flush()
check("the first byte", h.pread(1, 0), b"F")
check("the last byte", h.pread(1, last), b"F" if size == 1 else b"L")
if size > 2:
    n = min(size - 2, 100)
    check("next to the first", h.pread(n, 1), bytes(n))
    check("next to the last", h.pread(n, last - n), bytes(n))

# Past the end is the client's mistake and does not disturb the server.
h.set_strict_mode(0)
for call in (lambda: h.pread(1, size), lambda: h.pwrite(b"x", size),
             lambda: h.zero(2, last), lambda: h.trim(2, last)):
    try:
        call()
        sys.exit("FAIL: a request past the end succeeded")
    except nbd.Error as e:
        if e.errno not in ("EINVAL", "ENOSPC"):
            sys.exit(f"FAIL: past the end: {e}")
check("the first byte again", h.pread(1, 0), b"F")
END
  at_most "resident of a disk of $size" "$(stat_of disk resident)" $limit
  if ! sanitized; then
    at_most "VmRSS with a disk of $size" "$(rss disk)" $limit
  fi
  stop_server disk
done

# The size is what was asked for, to the byte.
for size in 1 511 4097 9223372036854775807; do
  eq "size" "$("$NBDKIT" -U - zram $size --run 'nbdinfo --size "$uri"')" $size
done
