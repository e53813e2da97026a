#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# A tier on another server.  When that is killed, and when it was started
# again and is empty, what was there is an error and nothing else is.

. "$(dirname "$0")/functions.sh"
require curl jq nbdcopy
require_nbdsh

head -c 32M /dev/urandom > "$tmp/data"

start_server far 64M algorithm=none

# is_refused WORD [NAME]: the server NAME as a tier, and that is said of it.
is_refused ()
{
  if "$NBDKIT" -U "$tmp/no.sock" zram 256M mem-limit=16M \
               tier="${uri[${2-far}]}" --run true 2> "$tmp/refused"
  then
    fail "somebody's data was overwritten"
  fi
  grep -F "$1" "$tmp/refused"
}

# One that does not take requests of a page, or of a segment, would lose them.
for policy in minimum=16K,maximum=32M minimum=512,maximum=512K; do
  start_nbdkit blocks --filter=blocksize-policy memory 64M \
               blocksize-preferred=64K blocksize-error-policy=error \
               "blocksize-${policy%,*}" "blocksize-${policy#*,}"
  is_refused '4K' blocks
  stop_server blocks
done

# What is on an export is not overwritten, unless that is asked for: nor if it
# is only near its end, where some RAIDs have their superblock.
"$python" -c '
import sys
from pages import *
h = connect(sys.argv[1])
at = 64 * MiB - 64 * 1024
h.pwrite(b"precious", at)' "${uri[far]}"
is_refused tier-force
"$python" -c '
import sys
from pages import *
h = connect(sys.argv[1])
at = 64 * MiB - 64 * 1024
assert h.pread(8, at) == b"precious"
h.trim(PAGE, at)' "${uri[far]}"
nbdcopy "$tmp/data" "${uri[far]}"
is_refused tier-force
nbdcopy "${uri[far]}" "$tmp/copy"
cmp -n $((32 << 20)) "$tmp/copy" "$tmp/data"

"$python" -c '
import sys
from pages import *
connect(sys.argv[1]).trim(32 * MiB - PAGE, PAGE)' "${uri[far]}"
start_server disk 256M mem-limit=16M tier="${uri[far]}" tier-force=true
nbdcopy "$tmp/data" "${uri[disk]}"
at_least "pages on the tier" "$(stat_of disk bd_count)" $((16 << 8))
at_least "what the other server stores" \
         "$(stat_of far orig_data_size)" $((20 << 20))
nbdcopy "${uri[disk]}" "$tmp/copy"
cmp -n $((32 << 20)) "$tmp/data" "$tmp/copy"

# It is not taken for a second tier.
eq "POST /tier/add of the same export" \
   "$(post /tier/add --get --data-urlencode "tier=${uri[far]}" \
           -d tier-force=true)" 409
grep -F already "$tmp/body"
eq "tiers" "$(stats disk | jq '.tiers | length')" 1
nbdcopy "${uri[disk]}" "$tmp/copy"
cmp -n $((32 << 20)) "$tmp/data" "$tmp/copy"

# What is trimmed here is trimmed there.
trimmed ()
{
  [ "$(stat_of far orig_data_size)" -le $((4 << 20)) ]
}
"$python" -c '
import sys
from pages import *
connect(sys.argv[1]).trim(32 * MiB, 0)' "${uri[disk]}"
wait_until 30 trimmed || fail "the other server still stores what is gone"

# look: every page is as it was, or EIO; prints how many are EIO.
look ()
{
  "$python" -c '
import sys
from pages import *
h = connect(sys.argv[1])
data = open(sys.argv[2], "rb")
bad = 0
for i in range(0, 8192, 64):
    data.seek(i * PAGE)
    want = data.read(PAGE)
    try:
        if h.pread(PAGE, i * PAGE) != want:
            sys.exit("page %d is wrong" % i)
    except nbd.Error as e:
        check("the error", e.errno, "EIO")
        bad += 1
print(bad)' "${uri[disk]}" "$tmp/data"
}

nbdcopy "$tmp/data" "${uri[disk]}"
eq "pages that are lost while all is well" "$(look)" 0

# Gone and back, empty, on the same socket.  It is not ours any more, and
# left alone.
kill_server far
start_server far 64M algorithm=none
lost=$(look)
echo "lost: $lost of 128"
at_least "pages that are lost" "$lost" 64
at_most "pages that are lost" "$lost" 127
eq "how often it was said" \
   "$(grep -c 'not the export that it was' "$tmp/disk.log")" 1
stat_is far orig_data_size 0

# The disk works on, with what there is room for in RAM.
"$python" -c '
import sys
from pages import *
h = connect(sys.argv[1])
h.trim(32 * MiB, 0)
h.pwrite(noise(4 * MiB), 0)
check("what was written", h.pread(4 * MiB, 0), noise(4 * MiB))
' "${uri[disk]}"

# The new export can be given to it as another tier, which takes what the
# first one refuses.
curl -sS --fail --max-time 60 --unix-socket "${ctl[disk]}" -X POST --get \
     --data-urlencode "tier=${uri[far]}" http://zram/tier/add
nbdcopy "$tmp/data" "${uri[disk]}"
eq "pages that are lost afterwards" "$(look)" 0
stop_server disk
stop_server far
