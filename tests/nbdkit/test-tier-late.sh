#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# A tier's server does not answer a trim, and carries it out when other data
# could have been written to the same place.  It was not, so nothing is lost.

. "$(dirname "$0")/functions.sh"
require curl jq nbdcopy dd
require_nbdsh

export IMAGE=$tmp/image SLOW=$tmp/slow CAME=$tmp/came CARRIED=$tmp/carried
truncate -s 8M "$IMAGE"
# shellcheck disable=SC2016
"$NBDKIT" -f -P "$tmp/far.pid" -U "$tmp/far.sock" eval \
  thread_model='echo parallel' get_size='echo 8388608' \
  can_write='exit 0' can_trim='exit 0' can_multi_conn='exit 0' \
  pread='dd if="$IMAGE" iflag=skip_bytes,count_bytes skip=$4 count=$3 \
            bs=64K status=none' \
  pwrite='dd of="$IMAGE" oflag=seek_bytes seek=$4 conv=notrunc \
             bs=64K status=none' \
  trim='if mv "$SLOW" "$CAME" 2>/dev/null; then sleep 14; fi
        dd if=/dev/zero iflag=count_bytes count=$3 of="$IMAGE" \
           oflag=seek_bytes seek=$4 conv=notrunc bs=64K status=none
        ! [ -e "$CAME" ] || mv "$CAME" "$CARRIED"' 2>> "$tmp/far.log" &
job[far]=$!
wait_until 60 test -s "$tmp/far.pid" || fail "the far server does not start"
pid[far]=$(cat "$tmp/far.pid")

start_server disk 64M mem-limit=16M \
             tier="nbd+unix:///?socket=$tmp/far.sock"
head -c 512K /dev/urandom > "$tmp/first"
head -c 6M /dev/urandom > "$tmp/second"
nbdcopy "$tmp/first" "${uri[disk]}"
done_by '/writeback?type=all'
eq "pages that left" "$(jq .moved_pages "$tmp/body")" 128

# Its segment is discarded, and the server falls silent.
: > "$SLOW"
"$python" -c '
import sys
from pages import *
connect(sys.argv[1]).trim(MiB, 0)' "${uri[disk]}"
abandoned ()
{
  [ "$(stats disk | jq '.tiers[0].abandoned_segments')" = 1 ]
}
wait_until 40 abandoned || fail "the segment is not abandoned"
[ -e "$CAME" ] || fail "the trim has been carried out already"

# All other segments are used, and this one is not.
nbdcopy "$tmp/second" "${uri[disk]}"
filled ()
{
  post '/writeback?type=all' > "$tmp/status"
  [ "$(stats disk | jq '.tiers[0].pages')" -ge 512 ]
}
wait_until 40 filled || fail "nothing leaves RAM"
stats disk | jq -c '.tiers[0]'
wait_until 40 test -e "$CARRIED" || fail "the trim is never carried out"
nbdcopy "${uri[disk]}" "$tmp/back"
cmp -n $((6 << 20)) "$tmp/second" "$tmp/back"
stop_server disk
stop_server far
