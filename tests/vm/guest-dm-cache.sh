#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# mem: 256M
# timeout: 240
# disk: 128M

# The kernel's own cache, over two disks of ours: one for its metadata, one
# for what it caches of a disk.  What is written through it is right while
# it is in the cache, and on the disk when the cache has been cleaned.

. "$(dirname "$0")/guest-functions.sh"
require dmsetup mkfs.ext4

load_nbd
load_dm cache cache-smq
slow=/dev/ubdb
sectors=$(blockdev --getsz $slow)

start_server meta 8M
start_server fast 32M mem-limit=48M
attach meta /dev/nbd0
attach fast /dev/nbd1

# cache POLICY: the table; blocks of 256 KiB.
cache ()
{
  echo "0 $sectors cache /dev/nbd0 /dev/nbd1 $slow 512 1 writeback $1 0"
}

# field NUMBER: of the status.
field ()
{
  dmsetup status cached | cut -d ' ' -f "$1"
}

dmsetup create cached --table "$(cache smq)"
mkfs.ext4 -q /dev/mapper/cached
mkdir "$tmp/mnt"
mount /dev/mapper/cached "$tmp/mnt"
head -c 40M /dev/urandom > "$tmp/data"
for i in 1 2 3; do
  cp "$tmp/data" "$tmp/mnt/data"
  for small in 1 2 3 4 5 6 7 8; do
    head -c 100000 "$tmp/data" > "$tmp/mnt/small$small"
  done
  sync
  echo 3 > /proc/sys/vm/drop_caches
  cmp "$tmp/data" "$tmp/mnt/data"
done
umount "$tmp/mnt"
dmsetup status cached
at_least "blocks in the cache" "$(field 7 | cut -d / -f 1)" 1
at_least "what our disk stores" "$(stat_of fast orig_data_size)" 262144

# Clean it, and take it away.
dmsetup suspend cached
dmsetup load cached --table "$(cache cleaner)"
dmsetup resume cached
is_clean ()
{
  [ "$(field 14)" = 0 ]
}
wait_until 60 is_clean || fail "not clean: $(dmsetup status cached)"
dmsetup remove cached
mount -o ro $slow "$tmp/mnt"
cmp "$tmp/data" "$tmp/mnt/data"
umount "$tmp/mnt"
for device in /dev/nbd0 /dev/nbd1; do
  detach $device
done
stop_server meta
stop_server fast
