#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# mem: 384M
# timeout: 400
# kernel-may-complain

# A device that fails as the kernel's device mapper makes it fail: writes
# that fail for a while (flakey), all of it gone (error), one block that
# cannot be read (dust), slower than those who write (delay).  And a file
# that has holes, on a file system that has no room for them.  Nothing
# acknowledged is lost, nothing wrong is returned, and when the device is
# well again, all is well.

. "$(dirname "$0")/guest-functions.sh"
require dmsetup mkfs.ext2
require_nbdsh

load brd rd_nr=2 rd_size=65536
load_dm flakey dust delay
dmesg -n 1

sectors=131072
linear="0 $sectors linear /dev/ram0 0"
dmsetup create tier --table "$linear"

# becomes TABLE: from now on.
becomes ()
{
  dmsetup load tier --table "$1"
  dmsetup resume tier
}

say ()
{
  printf '\n==> %s s: %s\n' "$(uptime_now)" "$*"
}

begin ()
{
  say "$*"
  start_server disk 256M mem-limit=16M tier=/dev/mapper/tier
}

tier_stat ()
{
  stats disk | jq ".tiers[0].$1"
}

# all_right MIB: every page of so many.
all_right ()
{
  eq "pages that are lost" "$(tier_client lost disk 0 "$1")" ""
}

begin "writes fail, and then no longer"
eq "MiB that fit" "$(tier_client fill disk 0 12)" 12
becomes "0 $sectors flakey /dev/ram0 0 0 60 1 error_writes"
n=$(tier_client fill disk 12 40)
echo "$n MiB fit while writes fail"
at_most "MiB that fit" "$n" 8
all_right $((12 + n))
at_least "writes that failed" "$(tier_stat write_errors)" 1
becomes "$linear"
eq "MiB that fit" "$(tier_client fill disk $((12 + n)) 40)" $((28 - n))
all_right 40

say "all of it is gone, and comes back"
becomes "0 $sectors error"
lost=$(tier_client lost disk 0 40 16 | wc -w)
echo "lost while it is gone: $lost of 640"
at_least "pages that are lost" "$lost" 320
at_most "pages that are lost" "$lost" 639
becomes "$linear"
all_right 40
stop_server disk

begin "a block cannot be read"
eq "MiB that fit" "$(tier_client fill disk 0 24)" 24
# In the middle of a segment that was written early.
block=$(((2 << 8) + 99))
becomes "0 $sectors dust /dev/ram0 0 4096"
dmsetup message tier 0 addbadblock $block
dmsetup message tier 0 enable
lost=$(tier_client lost disk 0 24)
echo "lost: $lost"
n=$(wc -w <<< "$lost")
at_least "pages that are lost" "$n" 1
# A record is larger than a block, so that two can meet in one.
at_most "pages that are lost" "$n" 2
at_least "reads that failed" "$(tier_stat read_errors)" "$n"
eq "the same pages, again" "$(tier_client lost disk 0 24)" "$lost"
dmsetup message tier 0 removebadblock $block
all_right 24
becomes "$linear"
stop_server disk

begin "it is slower than those who write"
becomes "0 $sectors delay /dev/ram0 0 0 /dev/ram0 0 400"
tier_client slow disk 10 0.25
stat_is disk failed_writes 0
stat_is disk failed_reads 0
eq "errors of the tier" "$(($(tier_stat read_errors) +
                            $(tier_stat write_errors)))" 0
begin=$(uptime_now)
stop_server disk
echo "it ended within $(seconds_since "$begin") s"
becomes "$linear"

say "no room for what a file has holes for"
mkfs.ext2 -q /dev/ram1 24M
mkdir "$tmp/small"
mount /dev/ram1 "$tmp/small"
truncate -s 60M "$tmp/small/tier"
start_server disk 256M mem-limit=16M tier="$tmp/small/tier"
for round in 1 2; do
  n=$(tier_client fill disk 0 64)
  echo "round $round: $n MiB fit"
  at_least "MiB that fit" "$n" 24
  at_most "MiB that fit" "$n" 36
  all_right "$n"
  "$python" -c '
import sys
from pages import *
connect(sys.argv[1]).trim(64 * MiB, 0)' "${uri[disk]}"
done
at_least "writes that failed" "$(tier_stat write_errors)" 1
stop_server disk
umount "$tmp/small"
uptime_now
