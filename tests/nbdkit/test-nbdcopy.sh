#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# Real data there and back, with each algorithm and each allocator.

. "$(dirname "$0")/functions.sh"
require nbdcopy curl jq

real_data "$tmp/data" 16

for allocator in zsmalloc zbud; do
  for algorithm in none lz4 lz4,level=9 lz4hc zstd zstd,level=6; do
    start_server disk 16M "algorithm=$algorithm" "allocator=$allocator"
    nbdcopy "$tmp/data" "${uri[disk]}"
    nbdcopy "${uri[disk]}" "$tmp/back"
    cmp "$tmp/data" "$tmp/back"

    # It is what was asked for, and it does compress.
    stat_is disk allocator $allocator
    stat_is disk algorithm "${algorithm%%,*}"
    orig=$(stat_of disk orig_data_size)
    compr=$(stat_of disk compr_data_size)
    echo "$allocator $algorithm: $orig in $compr, $(stat_of disk resident)"
    at_most "data stored" "$orig" 16777216
    if [ $algorithm = none ]; then
      # All but the zeroes and the repeated words, as they are.
      eq "compr_data_size" "$compr" \
         $((4096 * ($(stat_of disk huge_pages))))
      at_least "compr_data_size" "$compr" 2097152
    else
      # An eighth is noise, two eighths are same-filled, and of the rest
      # every codec saves something.
      at_most "compr_data_size" "$compr" $((12582912 - 1048576))
    fi

    # Written again over itself, it takes no more.  (It takes less if a
    # dictionary has been made of it.)
    nbdcopy "$tmp/data" "${uri[disk]}"
    at_most "compr_data_size" "$(stat_of disk compr_data_size)" "$compr"
    stat_is disk orig_data_size "$orig"
    nbdcopy "${uri[disk]}" "$tmp/back"
    cmp "$tmp/data" "$tmp/back"
    stop_server disk
  done
done
