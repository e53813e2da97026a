#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# fio writes blocks of many sizes, at any offset, from several jobs at
# once, over and over, and checks the sum that each block carries.

. "$(dirname "$0")/functions.sh"
require fio curl jq

if [[ $(fio --enghelp) != *nbd* ]]; then
  skip "this fio has no nbd engine"
fi

# verified NAME PARAMETER...: one job description against a new disk.
# The sizes bound the time, not a clock, so that a slow machine does the
# same work.
verified ()
{
  local name=$1

  shift
  start_server disk 64M algorithm=lz4
  if ! (cd "$tmp" &&
        fio --name="$name" --ioengine=nbd --uri="${uri[disk]}" \
            --output="$tmp/fio.log" --verify=crc32c --verify_fatal=1 \
            --verify_state_save=0 --buffer_compress_percentage=60 \
            --refill_buffers --iodepth=16 --group_reporting "$@"); then
    fail "fio $name found a difference"
  fi
  grep -E '(read|write): IOPS' "$tmp/fio.log"
  at_least "data stored" "$(stat_of disk orig_data_size)" 8388608
  stop_server disk
}

verified unaligned-writes --rw=randwrite --bsrange=512-128k --bs_unaligned \
         --size=16M --numjobs=4 --offset_increment=16M --loops=2
verified mixed --rw=randrw --bsrange=512-128k --bs_unaligned \
         --size=16M --numjobs=4 --offset_increment=16M
verified pages --rw=randwrite --bs=4k --size=16M --numjobs=2 \
         --offset_increment=16M --loops=2
# One request at a time: fio does not wait for its trim of a block
# before it writes there.
verified trims --rw=randtrimwrite --bs=4k --size=16M --iodepth=1
verified sequence --rw=write --bs=1M --size=64M
