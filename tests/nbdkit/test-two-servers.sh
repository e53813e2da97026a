#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# Two servers at once know nothing of each other.

. "$(dirname "$0")/functions.sh"
require nbdcopy curl jq

real_data "$tmp/one.data" 8
head -c 8388608 /dev/urandom > "$tmp/two.data"
start_server one 8M algorithm=lz4
start_server two 8M algorithm=zstd,level=3 allocator=zbud

nbdcopy "$tmp/one.data" "${uri[one]}" &
copy=$!
nbdcopy "$tmp/two.data" "${uri[two]}"
wait $copy

stat_is one algorithm lz4
stat_is two algorithm zstd
stat_is two huge_pages 2048
nbdcopy "${uri[one]}" - | cmp - "$tmp/one.data"
nbdcopy "${uri[two]}" - | cmp - "$tmp/two.data"

# From one to the other, and one ends while the other serves.
nbdcopy "${uri[one]}" "${uri[two]}"
stop_server one
nbdcopy "${uri[two]}" - | cmp - "$tmp/one.data"
stop_server two
