#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# What a client is told when it connects.

. "$(dirname "$0")/functions.sh"
require nbdinfo jq curl

start_server disk 1G
nbdinfo --json "${uri[disk]}" > "$tmp/info"
cat "$tmp/info"

# is FIELD VALUE
is ()
{
  eq "$1" "$(jq -r ".exports[0][\"$1\"]" "$tmp/info")" "$2"
}

is export-size 1073741824
is is_read_only false
is is_rotational false
is can_multi_conn true
is can_flush true
is can_fua true
is can_trim true
is can_zero true
is can_fast_zero true
is can_cache true
is can_df true
is block_size_minimum 1
is block_size_preferred 4096
is block_size_maximum 67108864
jq -e '.exports[0].contexts | index ("base:allocation")' "$tmp/info" ||
  fail "no map is offered"
stop_server disk

# The client asked, and nobody wrote.
"$NBDKIT" -r -U - zram 1M --run 'nbdinfo --json "$uri"' |
  jq -e '.exports[0].is_read_only' || fail "-r is not read-only"
