#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# --help names every parameter and its values.

. "$(dirname "$0")/functions.sh"

"$NBDKIT" zram --help > "$tmp/help"
cat "$tmp/help"
for word in size= mem-limit= algorithm= allocator= control= dictionary= \
            swap= reserve= recompress= background-cpu= \
            tier= tier-size= tier-force= policy= writeback-limit= \
            lru mfu smq /day \
            auto lz4 lz4hc zstd none zsmalloc zbud; do
  grep -qF -- "$word" "$tmp/help" || fail "--help does not name $word"
done
