#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# Clients at once.  They write different bytes of the same pages, so that
# each page is changed by all of them; nothing of what any of them wrote
# may be lost.

. "$(dirname "$0")/functions.sh"
require curl jq nbdcopy
require_nbdsh

start_server disk 64M

# Four clients, each with a quarter of every page, over and over.
cat > "$tmp/client.py" <<'END'
import sys
from pages import *

h = connect(sys.argv[1])
me = int(sys.argv[2])
quarter = PAGE // 4
pages = 500
for turn in range(3):
    cookies = []
    for i in range(pages):
        data = text(quarter, me * 100000 + turn * 10000 + i)
        buf = nbd.Buffer.from_bytearray(bytearray(data))
        cookies.append(h.aio_pwrite(buf, i * PAGE + me * quarter))
        while len(cookies) > 16:
            if h.aio_command_completed(cookies[0]):
                cookies.pop(0)
            else:
                h.poll(-1)
    while cookies:
        if h.aio_command_completed(cookies[0]):
            cookies.pop(0)
        else:
            h.poll(-1)
    for i in range(pages):
        check(f"client {me}, turn {turn}, page {i}",
              h.pread(quarter, i * PAGE + me * quarter),
              text(quarter, me * 100000 + turn * 10000 + i))
END
clients=()
for me in 0 1 2 3; do
  "$python" "$tmp/client.py" "${uri[disk]}" $me &
  clients+=($!)
done
for c in "${clients[@]}"; do
  wait "$c"
done

# And seen by one that comes later.
"$python" - "${uri[disk]}" <<'END'
import sys
from pages import *

h = connect(sys.argv[1])
for i in range(500):
    check(f"page {i}", h.pread(PAGE, i * PAGE),
          b"".join(text(PAGE // 4, me * 100000 + 20000 + i)
                   for me in range(4)))
END
stat_is disk orig_data_size $((500 * 4096))

# Six copies at once, each to a part of its own.
real_data "$tmp/data" 8
clients=()
for me in 0 1 2 3 4 5; do
  (
    nbdkit -U - --filter=offset nbd uri="${uri[disk]}" \
           offset=$((me * 8))M range=8M \
           --run "nbdcopy '$tmp/data' \"\$uri\" &&
                  nbdcopy \"\$uri\" '$tmp/back$me'" &&
      cmp "$tmp/data" "$tmp/back$me"
  ) &
  clients+=($!)
done
for c in "${clients[@]}"; do
  wait "$c"
done
stop_server disk
