#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# A tier on another server by TLS (nbds://), where only who has the key is let
# in: nothing that leaves RAM can be read on the way.

. "$(dirname "$0")/functions.sh"
require curl jq nbdcopy
require_nbdsh
"$NBDKIT" --dump-config | grep -qx tls=yes || skip "nbdkit has no TLS"

# make_key FILE
make_key ()
{
  (umask 077; printf 'alice:%s\n' "$(od -An -v -tx1 -N32 /dev/urandom |
                                     tr -d ' \n')" > "$1")
}
make_key "$tmp/keys"
make_key "$tmp/other-keys"

# is_refused URI: the server does not start, and names the tier.
is_refused ()
{
  if "$NBDKIT" -U "$tmp/no.sock" zram 256M mem-limit=16M tier="$1" \
               --run true 2> "$tmp/refused"
  then
    fail "$1 was taken"
  fi
  grep -F "tier=$1: " "$tmp/refused"
}

nbdkit_options=(--tls=require --tls-psk="$tmp/keys")
start_nbdkit far memory 64M
nbdkit_options=()
place="?socket=${sock[far]}"
is_refused "nbd+unix:///$place"
is_refused "nbds+unix://alice@/$place&tls-psk-file=$tmp/other-keys"
is_refused "nbds+unix://alice@/$place&tls-psk-file=$tmp/no-keys"

start_server disk 256M mem-limit=16M \
             tier="nbds+unix://alice@/$place&tls-psk-file=$tmp/keys"
holds_more_than_ram disk
stop_server disk
stop_server far
