#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# With swap=true, a tier is only what can be written without memory: a file
# that has all its blocks, and keeps them, or a block device.

. "$(dirname "$0")/functions.sh"
require curl jq nbdcopy fallocate
require_nbdsh

# A place for files on a file system that can swap to them.
try_place ()
{
  place=$(mktemp -d "$1/tier-swap.XXXXXX")
  on_exit+=("rm -rf '$place'")
  run tier="$place/try" tier-size=2M
}

# run PARAMETER...: a server that starts and ends.
run ()
{
  rm -f "$tmp/once.sock"
  timeout -k 10 60 "$NBDKIT" -U "$tmp/once.sock" zram 256M mem-limit=64M \
          swap=true "$@" --run true 2> "$tmp/err"
}

# refused WORD PARAMETER...
refused ()
{
  local word=$1

  shift
  if run "$@"; then
    fail "$* was not refused"
  fi
  grep 'tier=' "$tmp/err"
  grep 'tier=' "$tmp/err" | grep -qF -- "$word" ||
    fail "what is said of $* does not contain $word"
}

if ! try_place "$tmp" && ! try_place "$abs_top_builddir"; then
  cat "$tmp/err"
  grep -q 'swap to a file' "$tmp/err" || fail "no file can be a tier"
  skip "no file system here can swap to a file"
fi

# fill DISK: more than there is room for in RAM, and all of it comes back.
# Then nothing is left, and it can be done again.
head -c 80M /dev/urandom > "$tmp/data"
fill ()
{
  local i

  for i in 1 2; do
    nbdcopy "$tmp/data" "${uri[$1]}"
    at_least "pages on the tier" "$(stat_of "$1" bd_count)" $((16 << 8))
    nbdcopy "${uri[$1]}" "$tmp/copy"
    cmp -n $((80 << 20)) "$tmp/data" "$tmp/copy"
    "$python" -c '
import sys
from pages import *
connect(sys.argv[1]).trim(80 * MiB, 0)' "${uri[$1]}"
  done
}

# A file that is made has all its blocks, from the beginning to the end.
blocks ()
{
  echo $(($(stat -c '%b * %B' "$place/tier") >> 20))
}
start_server disk 256M mem-limit=64M swap=true \
             tier="$place/tier" tier-size=64M
at_least "MiB that the file has" "$(blocks)" 64
fill disk
at_least "MiB that it has when all was trimmed" "$(blocks)" 64

# One that is added later must have been written before.
add ()
{
  curl -sS --max-time 60 -o "$tmp/body" -w '%{http_code}\n' -X POST \
       --unix-socket "${ctl[disk]}" "http://zram/tier/add?tier=$place/$1"
  cat "$tmp/body" >&2
}
eq "status" "$(add 'later&tier-size=8M')" 400
truncate -s 8M "$place/later"
eq "status" "$(add later)" 400
dd if=/dev/zero of="$place/later" bs=1M count=8 status=none
eq "status" "$(add later)" 200
eq "tiers" "$(stats disk | jq '.tiers | length')" 2
stop_server disk

# It can be used again, whatever its size is said to be.
run tier="$place/tier" || fail "a tier cannot be used again"
run tier="$place/tier" tier-size=64M || fail "a tier cannot be used again"
run tier="$place/tier" tier-size=72M || fail "a tier cannot be made larger"
at_least "MiB that the file has" "$(blocks)" 72

# Holes, and blocks that are only reserved, are refused, or written.
truncate -s 80M "$place/tier"
refused tier-size tier="$place/tier"
run tier="$place/tier" tier-size=80M || fail "holes are not written"
at_least "MiB that the file has" "$(blocks)" 80
run tier="$place/tier" || fail "holes were not written"
if fallocate -l 16M "$place/reserved" 2> /dev/null; then
  refused tier-size tier="$place/reserved"
  run tier="$place/reserved" tier-size=16M || fail "blocks are not written"
fi
truncate -s 16M "$place/holes"
refused tier-size tier="$place/holes"

# What cannot be done is refused, and leaves nothing behind.
refused 'NBD server' tier=nbd://localhost
if [ "$(stat -f -c %T /dev/shm 2> /dev/null)" = tmpfs ]; then
  rm -f "/dev/shm/tier-swap.$$"
  refused 'block device' tier="/dev/shm/tier-swap.$$" tier-size=4M
  [ ! -e "/dev/shm/tier-swap.$$" ] || fail "a file was left behind"
fi

# A block device.
rm -f "$place/tier"
truncate -s 64M "$tmp/image"
if loop=$(losetup --find --show "$tmp/image" 2> "$tmp/losetup"); then
  on_exit+=("losetup -d '$loop'")
  start_server device 256M mem-limit=64M swap=true tier="$loop"
  fill device
  stop_server device
else
  echo "no loop device: $(cat "$tmp/losetup")"
fi
