#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# SIGTERM while pages are on their way to a tier, which is a file, or a
# server that takes its time.  The server ends soon, and whoever comes next
# can have the tier.

. "$(dirname "$0")/functions.sh"
require curl jq
require_nbdsh

cat > "$tmp/load.py" <<'END'
import sys
from pages import *

h = connect(sys.argv[1])
data = noise(MiB, int(sys.argv[2]))
i = int(sys.argv[2]) * 16
try:
    while True:
        h.pwrite(data, i % 48 * MiB + i % 7 * 512)
        i += 1
except nbd.Error as e:
    print(f"the client sees: {e}")
END

# written TIMES: whether so many segments have been.
written ()
{
  [ "$(stats disk | jq '.tiers[0].writes')" -ge "$1" ]
}

# load: three clients that write, and segments that are written.
clients=()
load ()
{
  local c

  clients=()
  for c in 1 2 3; do
    "$python" "$tmp/load.py" "${uri[disk]}" $c &
    clients+=($!)
  done
  wait_until 30 written 4 || fail "nothing goes to the tier"
}

all_gone ()
{
  local c

  for c in "${clients[@]}"; do
    wait "$c" || fail "a client"
  done
}

for signal in TERM INT; do
  start_server disk 256M mem-limit=16M tier="$tmp/tier" tier-size=64M
  load
  stop_server disk $signal
  all_gone
done
# Nobody else has the file.
start_server disk 256M mem-limit=16M tier="$tmp/tier"
stop_server disk

start_nbdkit far --filter=delay memory 64M delay-write=300ms
start_server disk 256M mem-limit=16M tier="${uri[far]}"
load
stop_server disk
all_gone

start_server disk 256M mem-limit=16M tier="${uri[far]}"
load
stop_server disk
all_gone
stop_server far
