#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# SIGTERM, and SIGINT, under load: the server ends soon, with status 0,
# and takes its control socket away.

. "$(dirname "$0")/functions.sh"
require curl jq
require_nbdsh

cat > "$tmp/load.py" <<'END'
import sys
from pages import *

h = connect(sys.argv[1])
data = [text(MiB), noise(MiB)]
open(sys.argv[2], "w").close()
try:
    i = 0
    while True:
        h.pwrite(data[i % 2], i % 50 * MiB + i % 7)
        h.pread(MiB, i * 3 % 50 * MiB)
        i += 1
except nbd.Error as e:
    print(f"the client sees: {e}")
END

for signal in TERM INT; do
  start_server disk 64M
  clients=()
  for c in 1 2 3; do
    rm -f "$tmp/going$c"
    "$python" "$tmp/load.py" "${uri[disk]}" "$tmp/going$c" &
    clients+=($!)
  done
  for c in 1 2 3; do
    wait_until 30 test -e "$tmp/going$c" || fail "client $c does not start"
  done
  # Not before there is something to interrupt.
  stored () { [ "$(stat_of disk orig_data_size)" -gt 8388608 ]; }
  wait_until 30 stored || fail "nothing is stored"
  [ -S "${ctl[disk]}" ] || fail "there is no control socket"

  stop_server disk $signal
  [ ! -e "${ctl[disk]}" ] || fail "the control socket is still there"
  for c in "${clients[@]}"; do
    wait "$c"
  done
done
