#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# mem: 256M
# timeout: 150

# As a disk of the kernel, by a Unix socket and by TCP with four
# connections: a file system takes a tree, gives it back, is checked,
# trimmed, and what was trimmed is not stored any more.

. "$(dirname "$0")/guest-functions.sh"
require nbd-client mkfs.ext4 fsck.ext4 fstrim tar

# A tree of some 10 MB, of whatever is there: taken from the read-only
# root, so it is the same each time it is read.
make_tree ()
{
  local dir

  for dir in /usr/include /usr/share/doc /usr/share/perl /usr/lib/python3; do
    [ ! -d "$dir" ] || tar -C / -cf - "${dir#/}" 2>/dev/null || :
  done | head -c 12M > /tmp/tree.tar || :
  mkdir -p "$1"
  # The archive was cut off.
  tar -C "$1" -xf /tmp/tree.tar 2>/dev/null || :
}

no_more_than ()
{
  [ "$(stat_of disk orig_data_size)" -le "$1" ]
}

# use DEVICE: all that is done with a disk.
use ()
{
  local empty full

  mkfs.ext4 -q -F -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 "$1"
  mkdir -p /tmp/mnt
  mount "$1" /tmp/mnt
  sync
  empty=$(stat_of disk orig_data_size)
  cp -a /tmp/tree /tmp/mnt/tree
  sync
  echo 3 > /proc/sys/vm/drop_caches
  full=$(stat_of disk orig_data_size)
  at_least "what is stored" "$full" $((empty + 10 * 1048576))
  diff -r --no-dereference /tmp/tree /tmp/mnt/tree
  umount /tmp/mnt
  fsck.ext4 -f -n "$1"

  mount "$1" /tmp/mnt
  diff -r --no-dereference /tmp/tree /tmp/mnt/tree
  rm -r /tmp/mnt/tree
  sync
  fstrim -v /tmp/mnt
  # The journal and the tables of inodes were written meanwhile.
  wait_until 10 no_more_than $((empty + 6 * 1048576)) ||
    fail "$(stat_of disk orig_data_size) bytes stored after the trim," \
         "$full before, $empty at first"
  umount /tmp/mnt
  fsck.ext4 -f -n "$1"
  blkdiscard -f "$1"
  wait_until 10 no_more_than 0 || fail "something is left of a blkdiscard"
}

load_nbd
make_tree /tmp/tree
rm /tmp/tree.tar

start_server disk 512M
begin=$(uptime_now)
attach disk /dev/nbd0
use /dev/nbd0
detach /dev/nbd0
echo "Unix socket: $(seconds_since "$begin") s"
stop_server disk

# TCP, four connections.
tcp_server ()
{
  ctl[disk]=$tmp/disk.ctl
  "$NBDKIT" -f -P "$tmp/disk.pid" -i 127.0.0.1 -p 10809 \
            zram 512M control="${ctl[disk]}" 2> "$tmp/disk.log" &
  job[disk]=$!
  pid[disk]=$!
  wait_until 60 is_ready disk || fail "the server does not start"
}
rm -f "$tmp/disk.pid"
tcp_server
begin=$(uptime_now)
nbd-client 127.0.0.1 10809 /dev/nbd1 -b 4096 -C 4 > "$tmp/nbd-client.log" 2>&1
wait_until 10 is_attached /dev/nbd1
use /dev/nbd1
detach /dev/nbd1
echo "TCP, four connections: $(seconds_since "$begin") s"
stop_server disk
