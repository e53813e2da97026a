#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# mem: 256M
# timeout: 600
# disk: 512M

# nbd-zram local-swap: one command from nothing to compressed swap, under
# pressure, and back to nothing, with every byte as it was; and again with
# a disk below it, and with a file on that.

. "$(dirname "$0")/guest-functions.sh"
. "$(dirname "$0")/../client/client-functions.sh"
require nbd-client mkswap swapon flock perl blkid curl mkfs.ext4

load_nbd
echo 4096 > /proc/sys/vm/min_free_kbytes
echo 15000 > /proc/sys/vm/watermark_boost_factor

# vm_is MIN-FREE WATERMARK-BOOST
vm_is ()
{
  eq "vm.min_free_kbytes" "$(cat /proc/sys/vm/min_free_kbytes)" "$1"
  eq "vm.watermark_boost_factor" \
     "$(cat /proc/sys/vm/watermark_boost_factor)" "$2"
}

none_running ()
{
  ! grep -qsx nbdkit /proc/[0-9]*/comm
}

local_stat ()
{
  curl -sS --unix-socket /run/nbd-zram/local/control http://localhost/stats |
    jq -r ".$1"
}

echo "== What is refused"
refused 2 '--mem-limit=0' local-swap 512M --mem-limit 0
refused 2 'SIZE=12q' local-swap 12q
refused 2 'swap=false' local-swap 512M -- swap=false
none_running
nbd_zram local-swap --off 2> "$tmp/err"
grep -q 'there is no local swap' "$tmp/err"
# The server says what is wrong; nothing is left of it.
if nbd_zram local-swap 512M -- algorithm=nosuch 2> "$tmp/err"; then
  fail "algorithm=nosuch is accepted"
fi
grep -q 'algorithm=nosuch' "$tmp/err"
none_attached
none_running
[ ! -e /run/nbd-zram/local ] || fail "something is left of the server"
vm_is 4096 15000

echo "== On, and again"
begin=$(uptime_now)
nbd_zram local-swap 256M --mem-limit 60% > "$tmp/out" 2> "$tmp/err" ||
  { cat "$tmp/err"; fail "local-swap"; }
echo "local swap is on after $(seconds_since "$begin") s"
eq "device" "$(cat "$tmp/out")" /dev/nbd0
grep -q 'vm.min_free_kbytes is now .* and was 4096' "$tmp/err"
at_least "vm.min_free_kbytes" "$(cat /proc/sys/vm/min_free_kbytes)" 12000
grep -q 'vm.watermark_boost_factor is now 0 and was 15000' "$tmp/err"
eq "vm.watermark_boost_factor" "$(cat /proc/sys/vm/watermark_boost_factor)" 0
nbd_zram local-swap 256M --mem-limit 60%
refused 1 'of another size' local-swap 128M
refused 3 'it is local swap' swapoff /dev/nbd0
refused 3 'it is local swap' detach /dev/nbd0
status_of nbd0 kind local-swap
status_of nbd0 state attached
eq "mode of the directory" "$(stat -c %a /run/nbd-zram/local)" 700
# Where nobody knows any more whose disk is swapped on, the server goes on.
mv /run/nbd-zram/nbd0 "$tmp/state"
refused 3 'nbd0 is swapped on' local-swap --off
refused 3 'nbd0 is swapped on' local-swap 256M --mem-limit 60%
mv "$tmp/state" /run/nbd-zram/nbd0
status_of nbd0 state attached
# What warming it up has written is gone again.
at_most "what is stored" "$(local_stat orig_data_size)" 8192
eq "reserve_waits" "$(local_stat reserve_waits)" 0

echo "== Under pressure"
mib=220
begin=$(uptime_now)
"$pressure" --ratio=4 --rounds=1 $mib || fail "a byte is wrong"
echo "$mib MiB in a machine of 256 MiB: $(seconds_since "$begin") s"
echo "waits for the reserve: $(local_stat reserve_waits)," \
     "least of it: $(local_stat reserve_low)"
status_of nbd0 state attached

echo "== Off: not as long as there is no room"
"$pressure" --ratio=4 --rounds=200 $mib > "$tmp/pressure.log" 2>&1 &
program=$!
enough_swapped ()
{
  [ "$(swap_used)" -gt 40960 ]
}
wait_until 120 enough_swapped || fail "nothing is swapped out"
if nbd_zram local-swap --off --wait 2 2> "$tmp/err"; then
  echo "(there was room)"
  cat "$tmp/pressure.log"
  fail "swap is off while a program needs it"
fi
cat "$tmp/err"
grep -q 'still swapped on, nothing is lost: .* there is room for' "$tmp/err"
grep -q /dev/nbd0 /proc/swaps || fail "swap is off"
kill -0 $program || fail "the program has died: $(cat "$tmp/pressure.log")"
kill $program
wait $program || :

echo "== Off; what was set by somebody else meanwhile stays"
vm watermark_boost_factor 100
nbd_zram local-swap --off
vm_is 4096 100
eq "swaps" "$(awk 'NR > 1' /proc/swaps)" ''
none_attached
none_running
[ ! -e /run/nbd-zram/local ] || fail "something is left of the server"

# with_tier TIER...: what does not compress goes there, under pressure.
with_tier ()
{
  vm watermark_boost_factor 15000
  nbd_zram local-swap 512M --mem-limit 32M -- reserve=8M "$@" \
    > "$tmp/out" 2> "$tmp/err" || { cat "$tmp/err"; fail "local-swap"; }
  ! grep 'more than twice' "$tmp/err" || fail "it warns of the limit"
  begin=$(uptime_now)
  "$pressure" --ratio=1 --rounds=1 $mib || fail "a byte is wrong"
  echo "$mib MiB in a machine of 256 MiB: $(seconds_since "$begin") s"
  at_least "bytes that went to the disk" \
           "$(local_stat 'tiers[0].bytes_in')" $((32 << 20))
  eq failed_writes "$(local_stat failed_writes)" 0
  echo "waits for the reserve: $(local_stat reserve_waits)"
  nbd_zram local-swap --off
  none_running
  vm_is 4096 15000
}

echo "== With a disk below it"
with_tier tier=/dev/ubdb

echo "== With a file on it"
mkfs.ext4 -q /dev/ubdb
mkdir "$tmp/slow"
mount /dev/ubdb "$tmp/slow"
with_tier tier="$tmp/slow/tier" tier-size=384M
umount "$tmp/slow"
