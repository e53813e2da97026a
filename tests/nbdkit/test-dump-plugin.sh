#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# The plugin loads into the installed nbdkit with no symbol missing, and
# says what it is to programs that probe it.

. "$(dirname "$0")/functions.sh"

# By its file name, without our wrapper: what `nbdkit zram` will do once
# it is installed.  (A sanitizer's library must come first in a process,
# which the wrapper sees to.)
if ! sanitized; then
  env -u LD_PRELOAD nbdkit "$PLUGIN_SO" --dump-plugin > "$tmp/by-name"
  grep -qx 'name=zram' "$tmp/by-name" || fail "no name=zram"
fi

"$NBDKIT" zram --dump-plugin > "$tmp/dump"
cat "$tmp/dump"
for line in name=zram api_version=2 thread_model=parallel \
            errno_is_preserved=1 magic_config_key=size \
            has_extents=1 has_can_fast_zero=1 has_can_multi_conn=1 \
            zram_dictionary=auto,none zram_swap=true,false \
            zram_default_reserve=16777216 \
            zram_policies=lru,mfu,smq zram_default_policy=lru \
            zram_default_recompress=zstd,level=6,age=60,group=16; do
  grep -qx "$line" "$tmp/dump" || fail "no line $line"
done

# Ours have a prefix of ours, so that they clash with no later nbdkit's.
grep -q '^zram_' "$tmp/dump" || fail "no line begins with zram_"
