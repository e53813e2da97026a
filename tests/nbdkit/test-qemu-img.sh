#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# qemu-img copies to and from the disk, finds it equal to what it copied,
# and sees its holes.

. "$(dirname "$0")/functions.sh"
require qemu-img jq curl
require_nbdsh

start_server disk 64M

# An image with data at 0, 20 and 63 MiB, one MiB each.
"$python" - "$tmp/image" <<'END'
import sys
from pages import *

with open(sys.argv[1], "wb") as f:
    for at in 0, 20, 63:
        f.seek(at * MiB)
        f.write(noise(MiB, at))
END
qemu-img convert -n -f raw -O raw "$tmp/image" "${uri[disk]}"
qemu-img compare -f raw -F raw "$tmp/image" "${uri[disk]}"

# What reads as zeroes is a hole, not data that happens to be zero.
qemu-img map -f raw --output=json "${uri[disk]}" > "$tmp/map"
cat "$tmp/map"
eq "what qemu sees" \
   "$(jq -c '[.[] | [.start / 1048576, .length / 1048576, .zero, .data]]' \
         "$tmp/map")" \
   "[[0,1,false,true],[1,19,true,false],[20,1,false,true],\
[21,42,true,false],[63,1,false,true]]"

# From the disk into another format and back onto an empty disk.
qemu-img convert -f raw -O qcow2 "${uri[disk]}" "$tmp/image.qcow2"
stop_server disk
start_server disk 64M
qemu-img convert -n -f qcow2 -O raw "$tmp/image.qcow2" "${uri[disk]}"
qemu-img convert -f raw -O raw "${uri[disk]}" "$tmp/back"
cmp "$tmp/image" "$tmp/back"

# Only the three MiB take memory.
stat_is disk orig_data_size 3145728

# compare does find a difference.
status=0
printf x | dd of="$tmp/image" bs=1 seek=30000000 conv=notrunc status=none
qemu-img compare -f raw -F raw "$tmp/image" "${uri[disk]}" || status=$?
eq "status of qemu-img compare" $status 1
stop_server disk
