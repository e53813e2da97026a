#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# The control socket: who may speak to it, what it answers, and when it
# is there.

. "$(dirname "$0")/functions.sh"
require curl jq
require_nbdsh

# code METHOD PATH
code ()
{
  curl -sS --max-time 30 -o "$tmp/body" -w '%{http_code}' -X "$1" \
       --unix-socket "${ctl[disk]}" "http://localhost$2"
}

# A socket that a killed server left behind is in nobody's way.
start_server disk 64M
kill -KILL "${pid[disk]}"
wait "${job[disk]}" 2>/dev/null || :
unset 'job[disk]'
[ -S "${ctl[disk]}" ] || fail "there is no stale socket to begin with"
start_server disk 64M

eq "kind and mode of the socket" \
   "$(stat -c '%F %a' "${ctl[disk]}")" "socket 600"

# All fields, no other type than they should have, and valid JSON.
curl -sS -i --unix-socket "${ctl[disk]}" http://localhost/stats \
     > "$tmp/answer"
cat "$tmp/answer"
grep -qi '^Content-Type: application/json' "$tmp/answer" ||
  fail "it does not say that it is JSON"
stats disk | jq -e '
  (.algorithm | type == "string") and (.allocator | type == "string") and
  ([.disksize, .level, .orig_data_size, .compr_data_size, .mem_used_total,
    .mem_limit, .mem_used_max, .same_pages, .pages_compacted, .huge_pages,
    .huge_pages_since, .failed_reads, .failed_writes, .invalid_io,
    .notify_free, .bd_count, .bd_reads, .bd_writes, .resident,
    .slot_table_size, .dictionary.generation, .dictionary.trained_from,
    .dictionary.size_gain, .dictionary.time_gain] |
    all (type == "number"))' ||
  fail "a field is missing or has another type"
eq "number of lines and of JSON values" "$(stats disk | jq -s length)" 1

eq "GET /stats" "$(code GET /stats)" 200
eq "GET /nothing" "$(code GET /nothing)" 404
eq "POST /nothing" "$(code POST /nothing)" 404
eq "GET /" "$(code GET /)" 200
grep -q /stats "$tmp/body" || fail "GET / does not say what there is"
eq "GET /stats/more" "$(code GET /stats/more)" 404
eq "POST /stats" "$(code POST /stats)" 405
eq "PUT /stats" "$(code PUT /stats)" 405
eq "DELETE /stats" "$(code DELETE /stats)" 405
eq "HEAD /stats" \
   "$(curl -sS -I -o /dev/null -w '%{http_code}' --max-time 30 \
           --unix-socket "${ctl[disk]}" http://localhost/stats)" 200

# A body that nobody asked for, and bytes that are no HTTP.
head -c 1000000 /dev/urandom > "$tmp/junk"
curl -sS --max-time 30 -o /dev/null --unix-socket "${ctl[disk]}" \
     --data-binary "@$tmp/junk" http://localhost/stats || :
"$python" - "${ctl[disk]}" <<'END'
import socket
import sys

# One that says nothing and stays, one that says nonsense.
silent = socket.socket(socket.AF_UNIX)
silent.connect(sys.argv[1])
s = socket.socket(socket.AF_UNIX)
s.settimeout(30)
s.connect(sys.argv[1])
try:
    s.sendall(b"\0\xff nonsense\r\n\r\n" * 1000)
    s.shutdown(socket.SHUT_WR)
    while s.recv(65536):
        pass
except OSError:
    pass

# And the next is served all the same.
t = socket.socket(socket.AF_UNIX)
t.settimeout(30)
t.connect(sys.argv[1])
t.sendall(b"GET /stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
got = b""
while True:
    part = t.recv(65536)
    if not part:
        break
    got += part
if not got.startswith(b"HTTP/1.1 200 "):
    sys.exit(f"FAIL: {got[:100]}")
END

# Asked by many at once, while a client writes.
"$python" - "${uri[disk]}" <<'END' &
import sys
from pages import *
h = connect(sys.argv[1])
for i in range(200):
    h.pwrite(text(64 * KiB, i), i * 64 * KiB)
END
clients=($!)
for _ in 1 2 3 4; do
  (
    for _ in {1..20}; do
      stats disk | jq -e .disksize >/dev/null
    done
  ) &
  clients+=($!)
done
for c in "${clients[@]}"; do
  wait "$c"
done
stat_is disk orig_data_size $((200 * 65536))

# A socket that somebody serves is refused, and goes on working.
status=0
"$NBDKIT" -U "$tmp/second.sock" zram 1M control="${ctl[disk]}" \
          --run 'echo started' > "$tmp/out" 2> "$tmp/err" || status=$?
cat "$tmp/err"
eq "status with a live control socket" $status 1
eq "output" "$(cat "$tmp/out")" ""
grep -qF "${ctl[disk]}" "$tmp/err" || fail "the message does not name it"
stat_is disk disksize 67108864

# It goes when the server goes.
stop_server disk
[ ! -e "${ctl[disk]}" ] || fail "the socket is still there"

# A server that ends while somebody is connected ends all the same.
start_server disk 1M
"$python" - "${ctl[disk]}" "$tmp/connected" <<'END' &
import socket
import sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b"GET /st")
open(sys.argv[2], "w").close()
s.recv(1)
END
silent=$!
wait_until 20 test -e "$tmp/connected" || fail "no connection"
stop_server disk
wait $silent || :

# Without the parameter there is none.
(cd "$tmp" && mkdir empty && cd empty && "$NBDKIT" -U - zram 1M --run 'ls')
eq "files left behind" "$(ls "$tmp/empty")" ""
