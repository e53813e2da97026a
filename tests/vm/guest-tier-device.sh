#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# mem: 256M
# timeout: 240

# A block device as a tier.  What is in use, or has somebody's data on it,
# is refused and stays as it was; what is free is used, with direct I/O,
# and told what is not needed any more.

. "$(dirname "$0")/guest-functions.sh"
require dmsetup losetup mkfs.ext4
require_nbdsh

load brd rd_nr=1 rd_size=65536
load loop
load_dm
device=/dev/ram0

# refuse TIER WORD [PARAMETER]...: the server does not start, and says WORD.
refuse ()
{
  local tier=$1 word=$2

  shift 2
  if "$NBDKIT" -U "$tmp/no.sock" zram 256M mem-limit=16M tier="$tier" "$@" \
               --run true 2> "$tmp/refused"
  then
    fail "$tier was taken"
  fi
  grep -F "tier=$tier: $word" "$tmp/refused" || {
    cat "$tmp/refused"
    fail "it was refused for another reason than $word"
  }
}

# same_as_before: what is on the device.
same_as_before ()
{
  eq "what is on the device" "$(md5sum < $device)" "$before"
}

# A file system: mounted, it cannot be had even by force; not mounted, it
# takes force.
mkfs.ext4 -q $device
mkdir -p "$tmp/mnt"
mount $device "$tmp/mnt"
echo precious > "$tmp/mnt/file"
refuse $device "it is in use"
refuse $device "it is in use" tier-force=true
eq "what is in the file" "$(cat "$tmp/mnt/file")" precious
umount "$tmp/mnt"
before=$(md5sum < $device)
refuse $device "there is something on it"
same_as_before

# Below something else.
dmsetup create above --table "0 131072 linear $device 0"
refuse $device "it is in use" tier-force=true
dmsetup remove above
same_as_before

# Swap: in use, and formatted.
mkswap $device > "$tmp/mkswap"
swapon $device
refuse $device "it is in use"
refuse $device "it is in use" tier-force=true
swapoff $device
before=$(md5sum < $device)
refuse $device "there is something on it"
same_as_before

# By force, and then it is known again without.
start_server disk 256M mem-limit=16M tier=$device tier-force=true
refuse $device "it is in use" tier-force=true
stop_server disk
start_server disk 256M mem-limit=16M tier=$device
cached=$(awk '/^(Cached|Buffers):/ { n += $2 } END { print n }' /proc/meminfo)
"$python" -c '
import sys
from pages import *

h = connect(sys.argv[1])
data = [noise(MiB, i) for i in range(48)]
for i in range(48):
    h.pwrite(data[i], i * MiB)
for i in range(48):
    check("what was written", h.pread(MiB, i * MiB), data[i])
' "${uri[disk]}"
at_least "pages on the device" "$(stat_of disk bd_count)" $((32 << 8))
cached=$(($(awk '/^(Cached|Buffers):/ { n += $2 } END { print n }' \
                /proc/meminfo) - cached))
at_most "KiB of page cache that this took" $cached 8192

stop_server disk

# What is trimmed leaves the storage, here what is behind a loop device.
truncate -s 32M "$tmp/file"
losetup /dev/loop0 "$tmp/file"
start_server disk 256M mem-limit=16M tier=/dev/loop0
in_file ()
{
  du -k "$tmp/file" | cut -f 1
}
"$python" -c '
import sys
from pages import *
h = connect(sys.argv[1])
for i in range(24):
    h.pwrite(noise(MiB, i), i * MiB)
' "${uri[disk]}"
at_least "KiB behind the device" "$(in_file)" 12288
"$python" -c '
import sys
from pages import *
connect(sys.argv[1]).trim(24 * MiB, 0)' "${uri[disk]}"
is_trimmed ()
{
  [ "$(in_file)" -le 1024 ]
}
wait_until 30 is_trimmed || fail "$(in_file) KiB are still there"
stop_server disk
losetup -d /dev/loop0
