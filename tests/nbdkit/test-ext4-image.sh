#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# A file system on the disk: made of real files, copied in, checked,
# copied out, and every file compared.

. "$(dirname "$0")/functions.sh"
PATH=$PATH:/usr/sbin:/sbin
require mkfs.ext4 e2fsck debugfs nbdcopy curl jq

# Up to 24 MiB of this system's small files.
mkdir "$tmp/tree"
n=0
for place in /usr/include /usr/share/doc /usr/share/perl5 /etc; do
  [ -d $place ] || continue
  mkdir -p "$tmp/tree$place"
  # shellcheck disable=SC2012      # cp takes whatever the names are
  find $place -maxdepth 2 -type f -size -100k -readable -print0 2>/dev/null |
    head -z -n 700 |
    xargs -0 -r cp -t "$tmp/tree$place" --backup=numbered 2>/dev/null || :
done
n=$(find "$tmp/tree" -type f | wc -l)
at_least "number of files to store" "$n" 20

truncate -s 64M "$tmp/image"
mkfs.ext4 -q -F -d "$tmp/tree" "$tmp/image"

start_server disk 64M
nbdcopy "$tmp/image" "${uri[disk]}"
nbdcopy "${uri[disk]}" "$tmp/back"
cmp "$tmp/image" "$tmp/back"
e2fsck -fn "$tmp/back"

mkdir "$tmp/out"
debugfs -R "rdump / $tmp/out" "$tmp/back" 2> "$tmp/debugfs.log"
diff -r --exclude=lost+found "$tmp/tree" "$tmp/out"
eq "number of files that came back" \
   "$(find "$tmp/out" -type f | wc -l)" "$n"
stop_server disk
