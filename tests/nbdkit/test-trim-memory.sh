#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# What is trimmed goes back to the system, within seconds: by the
# server's own account, and by the kernel's.

. "$(dirname "$0")/functions.sh"
require curl jq
require_nbdsh

# shrunk LIMIT: whether resident is at most that.
shrunk ()
{
  [ "$(stat_of disk resident)" -le "$1" ]
}

for allocator in zsmalloc zbud; do
  start_server disk 1G allocator=$allocator
  # The first requests also bring in what the server keeps for itself.
  "$python" - "${uri[disk]}" <<'END'
import sys
from pages import *
h = connect(sys.argv[1])
for i in range(64):
    h.pwrite(text(256 * KiB, i), 0)
h.trim(h.get_size(), 0)
END
  idle=$(stat_of disk resident)
  idle_rss=$(rss disk)

  "$python" - "${uri[disk]}" <<'END'
import sys
from pages import *
h = connect(sys.argv[1])
for i in range(256):
    h.pwrite(noise(128 * KiB, i) + text(128 * KiB, i), i * 256 * KiB)
END
  full=$(stat_of disk resident)
  full_rss=$(rss disk)
  used=$(stat_of disk mem_used_total)
  at_least "resident of a full disk" "$full" $((33554432 + 4194304))

  # A trim of every second page leaves sparse zspages: compaction.
  "$python" - "${uri[disk]}" <<'END'
import sys
from pages import *
h = connect(sys.argv[1])
for i in range(0, 64 * MiB, 2 * PAGE):
    h.trim(PAGE, i)
END
  wait_until 20 shrunk $((idle + (full - idle) * 3 / 4)) ||
    fail "resident is $(stat_of disk resident) with half of it trimmed," \
         "$full before"
  stat_is disk notify_free $((64 + 16384 / 2))

  "$python" - "${uri[disk]}" <<'END'
import sys
from pages import *
h = connect(sys.argv[1])
for i in range(0, 256, 3):
    expected = noise(128 * KiB, i) + text(128 * KiB, i)
    got = h.pread(256 * KiB, i * 256 * KiB)
    for at in range(PAGE, 256 * KiB, 2 * PAGE):
        check("what was not trimmed", got[at:at + PAGE],
              expected[at:at + PAGE])
h.trim(h.get_size(), 0)
END
  wait_until 20 shrunk $((idle + 2097152)) ||
    fail "resident is $(stat_of disk resident) after a trim of" \
         "everything, $idle before"
  stat_is disk orig_data_size 0
  stat_is disk compr_data_size 0
  at_least mem_used_max "$(stat_of disk mem_used_max)" "$used"

  # The kernel's view.  (The sanitizers keep shadows of it.)
  if ! sanitized; then
    echo "$allocator: VmRSS $idle_rss, $full_rss, $(rss disk)"
    at_least "growth of VmRSS" $((full_rss - idle_rss)) 33554432
    at_most "VmRSS after the trim" "$(rss disk)" $((idle_rss + 8388608))
  fi
  stop_server disk
done
