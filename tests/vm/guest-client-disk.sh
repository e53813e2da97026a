#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# mem: 256M
# timeout: 400
# kernel-may-complain

# nbd-zram attach, detach, mount, umount and status: what can be done
# twice, what is refused and why, and that nothing is left behind by what
# fails.  (The kernel complains of the servers that are killed.)

. "$(dirname "$0")/guest-functions.sh"
. "$(dirname "$0")/../client/client-functions.sh"
require nbd-client mkfs.ext4 flock perl blkid

load_nbd
start_server disk 512M
start_server other 64M
one="nbd+unix:///?socket=${sock[disk]}"
two="nbd+unix:///?socket=${sock[other]}"

echo "== Attach, and again"
eq "first device" "$(nbd_zram attach "$one")" /dev/nbd0
eq "size" "$(blockdev --getsize64 /dev/nbd0)" $((512 * 1048576))
eq "block size" "$(cat /sys/block/nbd0/queue/logical_block_size)" 4096
eq "same device" "$(nbd_zram attach "$one")" /dev/nbd0
none_attached_but nbd0
# By its instance it is the same disk.
instance=$(instance_of "$one")
eq "by instance" \
   "$(nbd_zram attach "nbd+unix:///$instance?socket=${sock[disk]}")" /dev/nbd0
none_attached_but nbd0
status_of nbd0 state attached
status_of nbd0 kind attach
status_of nbd0 instance "$instance"

echo "== A device that is taken, one that is not there"
refused 3 'attached to something else' attach "$two" /dev/nbd0
refused 1 'already attached' attach "$one" /dev/nbd1
refused 1 'no such device' attach "$two" /dev/nbd77
none_attached_but nbd0
eq "chosen device" "$(nbd_zram attach "$two" nbd2)" /dev/nbd2
none_attached_but nbd0 nbd2
nbd_zram detach "$two"
none_attached_but nbd0

echo "== Detach, and again"
exec 7< /dev/nbd0
refused 3 'has it open' detach /dev/nbd0
exec 7<&-
nbd_zram detach /dev/nbd0
nbd_zram detach /dev/nbd0
nbd_zram detach "$one"
none_attached
[ ! -e /run/nbd-zram/nbd0 ] || fail "state of nbd0 is left"

echo "== A socket whose name must be escaped, as one likes"
ln -s "${sock[disk]}" "$tmp/a b&c"
eq "device" "$(nbd_zram attach "nbd+unix:///?socket=$tmp/a%20b%26c")" /dev/nbd0
eq "same device" \
   "$(nbd_zram attach "nbd+unix:///?socket=$tmp/%61%20b%26c")" /dev/nbd0
status_of nbd0 uri "nbd+unix:///?socket=$tmp/a%20b%26c"
status_of nbd0 state attached
nbd_zram detach "nbd+unix:///?socket=$tmp/a%20b%26c"
none_attached

echo "== Two at once"
nbd_zram attach "$one" > "$tmp/at-one" &
first=$!
nbd_zram attach "$two" > "$tmp/at-two" &
second=$!
wait $first
wait $second
eq "devices" "$(sort "$tmp/at-one" "$tmp/at-two" | tr '\n' ' ')" \
   "/dev/nbd0 /dev/nbd1 "
nbd_zram detach "$one"
nbd_zram detach "$two"
# The same disk twice at once is one device.
nbd_zram attach "$one" > "$tmp/at-one" &
first=$!
nbd_zram attach "$one" > "$tmp/at-two" &
second=$!
wait $first
wait $second
eq "devices" "$(sort "$tmp/at-one" "$tmp/at-two" | tr '\n' ' ')" \
   "/dev/nbd0 /dev/nbd0 "
nbd_zram detach "$one"
none_attached

echo "== Held by the device mapper"
if load dm-mod 2>/dev/null && command -v dmsetup >/dev/null; then
  nbd_zram attach "$one" > /dev/null
  dmsetup create held --table '0 2048 linear /dev/nbd0 0'
  refused 3 'held by dm-0' detach /dev/nbd0
  dmsetup remove held
  nbd_zram detach /dev/nbd0
else
  echo "(no dmsetup)"
fi

echo "== Mount, and again"
mkdir "$tmp/mnt" "$tmp/mnt2"
nbd_zram mount "$one" "$tmp/mnt" > /dev/null
mountpoint -q "$tmp/mnt"
echo something > "$tmp/mnt/file"
nbd_zram mount "$one" "$tmp/mnt" > /dev/null
refused 3 "mounted on $tmp/mnt" mount "$one" "$tmp/mnt2"
refused 3 "mounted on $tmp/mnt" detach "$one"
refused 3 "mounted on $tmp/mnt" detach /dev/nbd0
refused 3 "mounted on $tmp/mnt" swapon "$one"
status_of nbd0 kind mount
status_of nbd0 mountpoint "$tmp/mnt"
exec 7< "$tmp/mnt/file"
refused 1 'still mounted, nothing is lost' umount "$tmp/mnt"
exec 7<&-
nbd_zram umount "$tmp/mnt"
nbd_zram umount "$tmp/mnt"
none_attached
echo "== What was written is still there, as long as the server is"
nbd_zram mount "$one" "$tmp/mnt" > /dev/null
eq "contents" "$(cat "$tmp/mnt/file")" something
nbd_zram umount "$one"
refused 3 'there is ext4 on it' mount --fs ext2 "$one" "$tmp/mnt"
none_attached
refused 3 'there is a file system on it, ext4' swapon "$one"
none_attached

echo "== TCP, four connections"
"$NBDKIT" -f -P "$tmp/tcp.pid" -i 127.0.0.1 -p 10810 \
          zram 64M 2> "$tmp/tcp.log" &
job[tcp]=$!
pid[tcp]=$!
wait_until 60 is_ready tcp
eq "device" "$(nbd_zram attach -C 4 nbd://127.0.0.1:10810/)" /dev/nbd0
dd if=/dev/urandom of="$tmp/noise" bs=1M count=16 status=none
dd if="$tmp/noise" of=/dev/nbd0 bs=1M oflag=direct status=none
dd if=/dev/nbd0 of="$tmp/back" bs=1M count=16 iflag=direct status=none
cmp "$tmp/noise" "$tmp/back"
rm "$tmp/noise" "$tmp/back"
eq "connections" "$(connections_to 10810)" 4
status_of nbd0 connections 4
nbd_zram detach nbd://127.0.0.1:10810/
none_attached
stop_server tcp

echo "== Nothing is left of what fails"
refused 1 'there is no socket' attach "nbd+unix:///?socket=$tmp/nowhere"
refused 1 'nbd-client' attach nbd://127.0.0.1:10811/
refused 1 'nbd-client' attach "nbd+unix:///nosuchexport?socket=${sock[disk]}"
refused 3 'restarted, or is another one' \
        attach "nbd+unix:///zram-0000000000000000?socket=${sock[disk]}"
none_attached
# One that accepts and says nothing.
perl -MIO::Socket::UNIX -e '
  $s = IO::Socket::UNIX->new (Local => $ARGV[0], Listen => 5) or die;
  push @c, $s->accept () while 1;' "$tmp/silent" &
silent=$!
wait_until 10 test -S "$tmp/silent"
refused 1 'no answer within 2 seconds' \
        attach --wait 2 "nbd+unix:///?socket=$tmp/silent"
kill $silent
none_attached

echo "== The server is restarted: not attached again, and why"
nbd_zram mount "$one" "$tmp/mnt" > /dev/null
kill -KILL "${pid[disk]}"
wait "${job[disk]}" || :
unset 'job[disk]'
status_of nbd0 state unreachable 1
start_server disk 512M
status_of nbd0 state restarted 1
refused 3 'the server was restarted' attach "$one"
refused 3 'the server was restarted' mount "$one" "$tmp/mnt"
refused 3 'restarted, or is another one' \
        attach "nbd+unix:///$instance?socket=${sock[disk]}"
# The file system is gone; what is left is to unmount it.
umount -l "$tmp/mnt" || :
wait_until 20 nbd_zram umount "$one" || fail "cannot be unmounted"
none_attached
eq "device" "$(nbd_zram attach "$one")" /dev/nbd0
[ "$(instance_of "$one")" != "$instance" ] || fail "the instance is the same"
nbd_zram detach "$one"
none_attached

stop_server disk
stop_server other
