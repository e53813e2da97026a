#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# Of a tier that is slow to answer, what lies beside a page is read with it,
# and comes back; of one that is quick, nothing but the page is.

. "$(dirname "$0")/functions.sh"
require curl jq nbdcopy
require_nbdsh

pages=$((16 << 8))
head -c 16M /dev/urandom > "$tmp/data"

# reads_from NAME FILTER...: how often the tier is read, if all pages of the
# disk are on it, and are read once.
reads_from ()
{
  local name=$1 before

  shift
  start_nbdkit "$name" "$@"
  start_server disk 64M mem-limit=64M recompress=none tier="${uri[$name]}"
  nbdcopy "$tmp/data" "${uri[disk]}"
  done_by '/writeback?type=all'
  stat_is disk bd_count $pages
  before=$(stats disk | jq '.tiers[0].reads')
  "$python" -c '
import sys
from pages import *
h = connect(sys.argv[1])
with open(sys.argv[2], "rb") as f:
    for i in range(0, 16 * MiB, PAGE):
        check(f"page at {i}", h.pread(PAGE, i), f.read(PAGE))
' "${uri[disk]}" "$tmp/data"
  reads=$(($(stats disk | jq '.tiers[0].reads') - before))
  echo "$name: $reads reads"
  back=$((pages - $(stat_of disk bd_count)))
  stop_server disk
  stop_server "$name"
}

# A sanitizer may make anything slow, and each byte dear.
reads_from far --filter=delay memory 64M delay-read=3ms
if sanitized; then
  at_most "reads of a tier that is far" "$reads" $((pages / 2))
else
  at_most "reads of a tier that is far" "$reads" $((pages / 4))
fi
at_least "pages that came along" $back $((pages / 2))

if ! sanitized; then
  reads_from near memory 64M
  at_least "reads of a tier that is near" "$reads" $((pages / 2))
fi
