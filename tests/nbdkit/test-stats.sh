#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# Each counter has the meaning that Linux zram gives it, on input small
# enough to be counted by hand.

. "$(dirname "$0")/functions.sh"
require curl jq
require_nbdsh

# stored ALGORITHM ALLOCATOR HUGE
stored ()
{
  local huge=$3 compr

  start_server disk 1M "algorithm=$1" "allocator=$2"
  snapshot disk
  now_is disksize 1048576 algorithm "${1%%,*}" allocator "$2" mem_limit 0 \
         orig_data_size 0 compr_data_size 0 mem_used_total 0 same_pages 0 \
         pages_compacted 0 huge_pages 0 huge_pages_since 0 failed_reads 0 \
         failed_writes 0 invalid_io 0 notify_free 0 bd_count 0 bd_reads 0 \
         bd_writes 0

  # 100 pages of zeroes, 50 of one word, 30 of noise, 20 of text.
  "$python" - "${uri[disk]}" <<'END'
import sys
from pages import *
h = connect(sys.argv[1])
h.pwrite(bytes(100 * PAGE) + same(50 * PAGE) + noise(30 * PAGE) +
         text(20 * PAGE), 0)
END
  snapshot disk
  now_is orig_data_size $((200 * 4096)) same_pages 150 \
         huge_pages "$huge" huge_pages_since "$huge"
  compr=${now[compr_data_size]}
  if [ "$huge" -eq 50 ]; then
    eq compr_data_size "$compr" $((50 * 4096))
  else
    # Text needs less than its size, and more than a tenth of it.
    at_least compr_data_size "$compr" $((30 * 4096 + 20 * 410))
    at_most compr_data_size "$compr" $((30 * 4096 + 20 * 3900))
  fi
  at_least mem_used_total "${now[mem_used_total]}" "$compr"
  at_least mem_used_max "${now[mem_used_max]}" "${now[mem_used_total]}"
  at_least slot_table_size "${now[slot_table_size]}" $((200 * 8))
  at_least resident "${now[resident]}" \
           $((now[mem_used_total] + now[slot_table_size]))

  # Reading changes nothing.
  "$python" -c '
import sys
from pages import *
connect(sys.argv[1]).pread(MiB, 0)' "${uri[disk]}"
  stat_is disk compr_data_size "$compr"

  # Trim 10 pages of noise and 5 of zeroes, zero 5 of the word, write
  # zeroes over 4 of noise, and noise over 3 of zeroes.
  "$python" - "${uri[disk]}" <<'END'
import sys
from pages import *
h = connect(sys.argv[1])
h.trim(10 * PAGE, 150 * PAGE)
h.trim(5 * PAGE, 0)
h.zero(5 * PAGE, 100 * PAGE)
h.pwrite(bytes(4 * PAGE), 160 * PAGE)
h.pwrite(noise(3 * PAGE, 1), 10 * PAGE)
END
  snapshot disk
  now_is notify_free 15 \
         orig_data_size $(((200 - 10 - 5 - 5) * 4096)) \
         same_pages $((150 - 5 - 5 + 4 - 3)) \
         huge_pages $((huge - 10 - 4 + 3)) \
         huge_pages_since $((huge + 3)) \
         compr_data_size $((compr - (10 + 4 - 3) * 4096))

  # Nothing was refused.
  now_is failed_reads 0 failed_writes 0 invalid_io 0
  stop_server disk
}

for allocator in zsmalloc zbud; do
  stored none $allocator 50
  stored lz4 $allocator 30
  stored lz4hc $allocator 30
  stored zstd,level=1 $allocator 30
  stored zstd,level=9 $allocator 30
done

# The level is said too, and that of the default.
start_server disk 1M
stat_is disk algorithm zstd
stat_is disk level 1
stat_is disk allocator zsmalloc
stop_server disk
start_server disk 1M algorithm=zstd,level=7
stat_is disk level 7
stop_server disk
