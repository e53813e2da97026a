#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# Each start of a server has a name of its own.  Who asks for the disk by
# that name gets it from this server, and is refused by a later one.

. "$(dirname "$0")/functions.sh"
require nbdinfo

# instance: of the server that runs now.
instance ()
{
  stats disk | jq -r .instance
}

start_server disk 1M
first=$(instance)
[[ $first =~ ^zram-[0-9a-f]{16}$ ]] || fail "the instance is named '$first'"
eq "list of exports" \
   "$(nbdinfo --list --json "${uri[disk]}" | jq -r '.exports[]."export-name"')" \
   "$first"
by_name="nbd+unix:///$first?socket=${sock[disk]}"
nbdinfo --size "$by_name"
nbdinfo --size "${uri[disk]}"
if nbdinfo --size "nbd+unix:///zram-0?socket=${sock[disk]}"; then
  fail "a disk that does not exist was found"
fi
stop_server disk

start_server disk 1M
second=$(instance)
[ "$first" != "$second" ] || fail "two servers have the same name"
if nbdinfo --size "nbd+unix:///$first?socket=${sock[disk]}"; then
  fail "the disk of a server that is gone was found"
fi
grep -F "$second" "$tmp"/*.log || fail "the server does not say why"
stop_server disk
