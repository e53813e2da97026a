#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# mem: 256M
# timeout: 400
# kernel-may-complain

# nbd-zram swapon and swapoff: on a server that could be any machine's,
# with what is refused, and what becomes of it when that server is
# restarted.  (The kernel complains of the one that is killed.)

. "$(dirname "$0")/guest-functions.sh"
. "$(dirname "$0")/../client/client-functions.sh"
require nbd-client mkswap swapon flock perl blkid

# swap_field FIELD-NUMBER: of the only line in /proc/swaps.
swap_field ()
{
  awk -v n="$1" 'NR == 2 { print $n }' /proc/swaps
}

swap_lines ()
{
  awk 'NR > 1' /proc/swaps | wc -l
}

load_nbd
# (The machine swaps to itself here, which local-swap would prepare it for.
# swapon changes nothing, and says so if min_free_kbytes is low.)
vm watermark_boost_factor 0
vm min_free_kbytes 16384
nbdkit_options=(--threads=2)
start_server disk 128M swap=true
one="nbd+unix:///?socket=${sock[disk]}"

echo "== On, and again"
eq "device" "$(nbd_zram swapon "$one" 2> "$tmp/err")" /dev/nbd0
eq "warnings" "$(cat "$tmp/err")" ''
eq "priority" "$(swap_field 5)" 100
eq "size" "$(swap_field 3)" $((128 * 1024 - 4))
nbd_zram swapon "$one"
eq "swaps" "$(swap_lines)" 1
status_of nbd0 kind swap
status_of nbd0 priority 100
status_of nbd0 mountpoint '[SWAP]'

echo "== What is refused"
refused 3 'swapped on' detach /dev/nbd0
refused 3 'swapped on' detach "$one"
mkdir "$tmp/mnt"
refused 3 'swapped on' mount "$one" "$tmp/mnt"
refused 3 'not mounted by' umount "$one"

echo "== Pages go out, and come back when it ends"
# What lies in a tmpfs and nobody looks at is swapped out first.
cat /usr/bin/* 2>/dev/null | head -c 40M > /tmp/files || :
sum=$(sha256sum /tmp/files)
before=$(pages_out)
"$pressure" --ratio=4 --rounds=1 180 || fail "a byte is wrong"
at_least "pages swapped out" $(($(pages_out) - before)) 1024
nbd_zram swapoff "$one"
nbd_zram swapoff "$one"
eq "swaps" "$(swap_lines)" 0
none_attached
stat_is disk orig_data_size 0
eq "checksum" "$(sha256sum /tmp/files)" "$sum"
rm /tmp/files

echo "== Priority, connections; a warning, and nothing is set"
vm watermark_boost_factor 15000
vm min_free_kbytes 2000
eq "device" "$(nbd_zram swapon --priority 7 -C 2 "$one" 2> "$tmp/err")" \
   /dev/nbd0
grep -q 'warning: vm.min_free_kbytes=2000 is low' "$tmp/err"
eq "vm.min_free_kbytes" "$(cat /proc/sys/vm/min_free_kbytes)" 2000
eq "vm.watermark_boost_factor" \
   "$(cat /proc/sys/vm/watermark_boost_factor)" 15000
eq "priority" "$(swap_field 5)" 7
nbd_zram swapoff /dev/nbd0
none_attached
vm watermark_boost_factor 0
vm min_free_kbytes 16384

echo "== Somebody else's swap, and our own of an earlier time"
nbd-client -unix "${sock[disk]}" -b 4096 /dev/nbd3 > "$tmp/client.log" 2>&1
refused 3 'not swapped on by' swapoff /dev/nbd3
mkswap -q -U 00000000-0000-4000-8000-000000000001 /dev/nbd3 > /dev/null
nbd_zram detach /dev/nbd3
refused 3 'swap of another machine' swapon "$one"
none_attached
nbd_zram swapon --force "$one" > /dev/null
# As if this machine had died.
swapoff /dev/nbd0
nbd-client -d /dev/nbd0 > "$tmp/client.log" 2>&1
none_connected
nbd_zram swapon "$one" > /dev/null
nbd_zram swapoff "$one"
none_attached

echo "== A server that tells no instance"
"$NBDKIT" -f -P "$tmp/plain.pid" -U "$tmp/plain.sock" memory 64M &
job[plain]=$!
pid[plain]=$!
wait_until 60 is_ready plain
refused 3 'does not tell its instance' swapon "nbd+unix:///?socket=$tmp/plain.sock"
none_attached
stop_server plain

echo "== The server is restarted"
# Nothing of this script itself may be on it, or it dies.
echo 3 > /proc/sys/vm/drop_caches
echo 0 > /proc/sys/vm/swappiness
nbd_zram swapon "$one" > /dev/null
kill -KILL "${pid[disk]}"
wait "${job[disk]}" || :
unset 'job[disk]'
start_server disk 128M swap=true
refused 3 'the server was restarted' swapon "$one"
status_of nbd0 state restarted 1
# There was nothing on it, so nothing is lost.
nbd_zram swapoff "$one"
none_attached
nbd_zram swapon "$one" > /dev/null
status_of nbd0 state attached
nbd_zram swapoff "$one"
none_attached

stop_server disk
