#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# A file system made, filled, checked and emptied in place, through FUSE:
# by the kernel's ext4 on a loop device where we may mount one, and by
# e2fsprogs otherwise.

. "$(dirname "$0")/functions.sh"
PATH=$PATH:/usr/sbin:/sbin
require nbdfuse mkfs.ext4 e2fsck debugfs curl jq

if [ ! -r /dev/fuse ] || [ ! -w /dev/fuse ]; then
  skip "there is no /dev/fuse that we may use"
fi
if [ "$(id -u)" -ne 0 ]; then
  require fusermount3
fi

fuse_umount ()
{
  if [ "$(id -u)" -eq 0 ]; then
    umount "$1"
  else
    fusermount3 -u "$1"
  fi
}

start_server disk 128M
mkdir "$tmp/fuse" "$tmp/tree" "$tmp/mnt"
on_exit+=("fuse_umount '$tmp/fuse' 2>/dev/null")
nbdfuse "$tmp/fuse" "${uri[disk]}" > "$tmp/nbdfuse.log" 2>&1 &
nbdfuse=$!
wait_until 20 test -e "$tmp/fuse/nbd" || {
  cat "$tmp/nbdfuse.log"
  skip "nbdfuse cannot mount here"
}
disk=$tmp/fuse/nbd

# Three kinds of file.
real_data "$tmp/tree/mixed" 16
yes "a line that comes again and again" 2>/dev/null |
  head -c 4000000 > "$tmp/tree/text" || :
mkdir "$tmp/tree/dir"
for i in {1..200}; do
  echo "small $i" > "$tmp/tree/dir/$i"
done

mkfs.ext4 -q -F -d "$tmp/tree" "$disk"
e2fsck -fn "$disk"
mkdir "$tmp/out"
debugfs -R "rdump / $tmp/out" "$disk" 2> "$tmp/debugfs.log"
diff -r --exclude=lost+found "$tmp/tree" "$tmp/out"
full=$(stat_of disk orig_data_size)
at_least "data stored" "$full" 16777216

# The kernel's own ext4, if it lets us.
if [ "$(id -u)" -eq 0 ] &&
   mount -o loop,discard "$disk" "$tmp/mnt" 2> "$tmp/mount.log"; then
  on_exit+=("umount '$tmp/mnt' 2>/dev/null")
  diff -r --exclude=lost+found "$tmp/tree" "$tmp/mnt"
  cp -r "$tmp/tree" "$tmp/mnt/again"
  sync -f "$tmp/mnt"
  umount "$tmp/mnt"
  e2fsck -fn "$disk"
  mount -o loop,ro "$disk" "$tmp/mnt"
  diff -r "$tmp/tree" "$tmp/mnt/again"
  umount "$tmp/mnt"
  echo "mounted, filled and compared"
else
  cat "$tmp/mount.log" || :
  echo "no loop mount here, e2fsprogs only"
fi

fuse_umount "$tmp/fuse"
wait $nbdfuse
stop_server disk
