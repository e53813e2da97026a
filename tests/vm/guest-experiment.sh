#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# mem: 256M
# timeout: 3000
# disk: 1536M
# kernel-may-complain

# A program that fills most of the memory with what does not compress and
# then holds it, beside another that unpacks a source tree and compiles it;
# with one kind of swap space after the other in the same machine.
# `experiments' starts this and makes a table of the lines that begin with
# "cell|".
#
# VM_CELLS  which of them, by commas; VM_TREE  an archive of the host;
# VM_HOG  MiB that the program holds; VM_POLICY  who goes to our tier.

. "$(dirname "$0")/guest-functions.sh"

hog_size=${VM_HOG-204}
tree=/run/host${VM_TREE?}
work=$tmp/work
disk=/dev/ubdb
slow=$tmp/slow
ram=$(awk '/^MemTotal:/ { print int ($2 / 1024 + 0.5) }' /proc/meminfo)

# This script and its tools live on; it is others that are to be killed.
echo -1000 > /proc/self/oom_score_adj
[ -n "${VM_VERBOSE-}" ] || dmesg -n 1
load_nbd
load lz4
load zram num_devices=2
load_dm cache cache-smq
min_free=$(cat /proc/sys/vm/min_free_kbytes)
boost=$(cat /proc/sys/vm/watermark_boost_factor)
mkdir "$work" "$slow"

# ---- The two programs --------------------------------------------------

# as_victim COMMAND...: it may be killed like any other.
as_victim ()
{
  exec sh -c 'echo 0 > /proc/self/oom_score_adj; exec "$@"' sh "$@"
}

cat > "$tmp/build.sh" <<'END'
set -e
cd "$work"
tar -xzf "$tree"
cd tree
for source in lib/*.c; do
  gcc -O2 -I. -Ilib -Iinclude -c "$source" -o "${source%.c}.o"
done
ld -r -o all.o lib/*.o
END
export work tree

# Who was killed for want of memory since the cell began.
victims ()
{
  dmesg | sed -n 's/.*Out of memory: Killed process [0-9]* (\([^)]*\)).*/\1/p' |
    sort -u | tr '\n' ' '
}

# How many that were, in $kills; as before where that cannot be told now.
# (Without a fork, which may find no memory.)
count_kills ()
{
  local name value

  while read -r name value; do
    [ "$name" != oom_kill ] || kills=$value
  done < /proc/vmstat || :
}

# ---- Samples -----------------------------------------------------------

# sample FILE: the least memory that was available, and the most swap that
# was used, in KiB.  (Nothing but bash: a fork takes long in here.)
sample ()
{
  local name value least=999999999 most=0 total=0 free n=0

  exec 9<> <(:)
  while :; do
    while read -r name value _; do
      case "$name" in
        MemAvailable:) [ "$value" -ge $least ] || least=$value ;;
        SwapTotal:)    total=$value ;;
        SwapFree:)     free=$value
                       [ $((total - free)) -le $most ] ||
                         most=$((total - free)) ;;
      esac
    done < /proc/meminfo
    echo "$least $most" > "$1"
    [ -z "${VM_VERBOSE-}" ] || [ $((++n % 10)) -ne 0 ] ||
      echo "available $least swapped $((total - free))" > /dev/console
    read -r -t 0.5 -u 9 _ || :
  done
}

# Sectors that were written to the disk, in MiB.
disk_written ()
{
  awk '{ print int ($7 / 2048) }' /sys/block/ubdb/stat
}

# Pages that were swapped in and out.
pages_swapped ()
{
  awk '$1 == "pswpin" || $1 == "pswpout" { n += $2 } END { print n }' \
      /proc/vmstat
}

# ---- One cell ----------------------------------------------------------

# Both programs, in what has been set up.  store_peak is what prints how
# many MiB of memory the compressed pages take at most.
measure ()
{
  local cell=$1 store_peak=$2 begin status=0 seconds outcome least most
  local written pages

  dmesg -C
  written=$(disk_written)
  pages=$(pages_swapped)
  sample "$tmp/sample" &
  local sampler=$!

  (as_victim "$pressure" --ratio=1 --rounds=1 --hold "$hog_size") \
    > "$tmp/hog" 2>&1 &
  local hog=$! hog_seconds kills=0 killed
  count_kills
  killed=$kills
  begin=$(uptime_now)
  until grep -q holding "$tmp/hog" || ! kill -0 $hog 2>/dev/null; do
    sleep 0.5
  done
  hog_seconds=$(seconds_since "$begin")

  begin=$(uptime_now)
  (as_victim timeout -k 5 "${VM_LIMIT-900}" sh "$tmp/build.sh") \
    > "$tmp/build" 2>&1 &
  local build=$!
  while kill -0 $build 2>/dev/null; do
    count_kills
    [ "$kills" = "$killed" ] || kill -TERM $build 2>/dev/null || :
    sleep 0.5
  done
  wait $build || status=$?
  seconds=$(seconds_since "$begin")

  outcome=finished
  if [ -n "$(victims)" ]; then
    outcome="OOM: $(victims)"
  elif [ $status -ne 0 ]; then
    outcome="status $status"
    tail -n 3 "$tmp/build"
  fi
  kill $sampler
  wait $sampler 2>/dev/null || :
  read -r least most < "$tmp/sample"
  local peak
  peak=$($store_peak)
  written=$(($(disk_written) - written))
  pages=$(($(pages_swapped) - pages))

  # Whatever was swapped out is right.
  status=0
  if kill -TERM $hog 2>/dev/null; then
    wait $hog || status=$?
    [ $status -eq 0 ] || outcome+=", and the hog: status $status"
  fi
  [ -z "${VM_VERBOSE-}" ] || cat "$tmp/hog"
  echo "cell|$cell|$outcome|$hog_seconds|$seconds|$peak|" \
       "$((ram - least / 1024))|$((most / 1024))|$written|$pages" | sed 's/| /|/'
}

on_tmpfs ()
{
  mount -t tmpfs -o size=75% none "$work"
}

on_disk ()
{
  mkfs.ext2 -q "$1"
  mount "$1" "$work"
}

# What our server wants of the kernel, or what it was.
for_us ()
{
  prepare_vm
}

for_the_kernel ()
{
  vm min_free_kbytes "$min_free"
  vm watermark_boost_factor "$boost"
}

# zram NUMBER SIZE
make_zram ()
{
  echo lz4 > "/sys/block/zram$1/comp_algorithm"
  echo "$2" > "/sys/block/zram$1/disksize"
}

reset_zram ()
{
  echo 1 > "/sys/block/zram$1/reset"
}

zram_peak ()
{
  cat /sys/block/zram*/mm_stat |
    awk '{ n += $5 } END { print int (n / 1048576 + 0.5) }'
}

# All that our processes have, which is more than what they store.
our_peak ()
{
  local name

  for name in "${!pid[@]}"; do
    [ ! -e "/proc/${pid[$name]}/status" ] || cat "/proc/${pid[$name]}/status"
  done | awk '/^VmHWM:/ { n += $2 } END { print int (n / 1024 + 0.5) }'
}

# our_disk NAME SIZE DEVICE [PARAMETER]...: one that can never be full.
our_disk ()
{
  local name=$1 size=$2 device=$3

  shift 3
  start_swap_server "$name" "${size}M" "$@"
  attach "$name" "$device"
  warm_up "$device"
}

drop ()
{
  detach "$2"
  stop_server "$1"
  unset "pid[$1]"
}

# our_swap MIB: no more than that of memory, and no more swap than that can
# hold for certain, as docs/swap.md has it: a server that finds no memory
# hangs the machine.
size_within ()
{
  echo $((($1 - 32) * 100 / 102))
}

our_swap ()
{
  local size

  size=$(size_within "$1")
  our_disk swap "$size" /dev/nbd0 mem-limit="$1M"
  swap_on /dev/nbd0
}

# (1) Compressed swap, and the tree on tmpfs.
cell_1_kernel ()
{
  make_zram 0 "${ram}M"
  swap_on /dev/zram0
  on_tmpfs
  measure 1-kernel zram_peak
  umount "$work"
  swapoff /dev/zram0
  reset_zram 0
}

cell_1_ours ()
{
  for_us
  our_swap $((ram / 2))
  on_tmpfs
  measure 1-ours our_peak
  umount "$work"
  swapoff /dev/nbd0
  drop swap /dev/nbd0
  for_the_kernel
}

# (2) Compressed swap, and the tree in ext2 on a compressed disk.
cell_2_kernel ()
{
  make_zram 0 "${ram}M"
  make_zram 1 "${ram}M"
  swap_on /dev/zram0
  on_disk /dev/zram1
  measure 2-kernel zram_peak
  umount "$work"
  swapoff /dev/zram0
  reset_zram 0
  reset_zram 1
}

cell_2_ours ()
{
  for_us
  our_swap $((ram * 3 / 8))
  our_disk disk "$ram" /dev/nbd1 mem-limit=$((ram / 4))M reserve=4M
  on_disk /dev/nbd1
  measure 2-ours our_peak
  umount "$work"
  swapoff /dev/nbd0
  drop disk /dev/nbd1
  drop swap /dev/nbd0
  for_the_kernel
}

# (3) RAM and a swap file; the tree on tmpfs.  First the file alone.
mount_slow ()
{
  mkfs.ext4 -q $disk
  mount $disk "$slow"
}

cell_3_plain ()
{
  mount_slow
  fallocate -l 1G "$slow/swap"
  chmod 600 "$slow/swap"
  swap_on "$slow/swap"
  on_tmpfs
  measure 3-plain "echo 0"
  umount "$work"
  swapoff "$slow/swap"
  umount "$slow"
}

# cache META FAST: the kernel's, before the disk.
make_cache ()
{
  dd if=/dev/zero of="$1" bs=4096 count=1 oflag=direct status=none
  dmsetup create cached --table "0 $(blockdev --getsz $disk) cache $1 $2 \
$disk 512 1 writeback smq 0"
}

cell_3_kernel ()
{
  make_zram 0 "${ram}M"
  make_zram 1 8M
  make_cache /dev/zram1 /dev/zram0
  swap_on /dev/mapper/cached
  on_tmpfs
  measure 3-kernel zram_peak
  dmsetup status cached
  umount "$work"
  swapoff /dev/mapper/cached
  dmsetup remove cached
  reset_zram 0
  reset_zram 1
}

# The same over two disks of ours; here the disk has no file system.
cell_3_mixed ()
{
  for_us
  our_disk meta 8 /dev/nbd0 reserve=4M
  our_disk fast "$(size_within $((ram * 3 / 8)))" /dev/nbd1 \
           mem-limit=$((ram * 3 / 8))M
  make_cache /dev/nbd0 /dev/nbd1
  swap_on /dev/mapper/cached
  on_tmpfs
  measure 3-mixed our_peak
  dmsetup status cached
  umount "$work"
  swapoff /dev/mapper/cached
  dmsetup remove cached
  drop fast /dev/nbd1
  drop meta /dev/nbd0
  for_the_kernel
}

# Ours, with a file as a tier.
our_tiers ()
{
  mount_slow
  our_disk swap 1024 /dev/nbd0 mem-limit="${VM_LIMIT_MIB-32}M" \
           reserve="${VM_RESERVE-8M}" tier="$slow/tier" tier-size=1G \
           policy="${VM_POLICY-lru}"
}

cell_3_ours ()
{
  for_us
  our_tiers
  swap_on /dev/nbd0
  on_tmpfs
  measure 3-ours our_peak
  stats swap | jq -Mc '{resident, bd_count, bd_reads, bd_writes, tiers}'
  umount "$work"
  swapoff /dev/nbd0
  drop_tiers
  for_the_kernel
}

drop_tiers ()
{
  drop swap /dev/nbd0
  umount "$slow"
}

# What a request of a page costs: on the disk, by a server that does nothing,
# and by ours from RAM and from the tier.
time_requests ()
{
  local begin end

  begin=$(uptime_now)
  dd if="$2" of=/dev/null bs=4096 count=4000 skip="${3-0}" iflag=direct \
     status=none
  end=$(uptime_now)
  awk -v a="$begin" -v b="$end" -v what="$1" \
      'BEGIN { printf "request|%s|%.0f\n", what, (b - a) / 4000 * 1e6 }'
}

cell_3_requests ()
{
  for_us
  time_requests "the disk" $disk
  nbdkit_options=(--threads=4)
  start_nbdkit null null 1G
  attach null /dev/nbd0
  time_requests "nbdkit null" /dev/nbd0
  drop null /dev/nbd0
  our_tiers
  dd if=/dev/urandom of=/dev/nbd0 bs=64k count=1024 oflag=direct status=none
  # The first are on the tier, the last in RAM.
  time_requests "nbdkit zram, from the tier" /dev/nbd0
  time_requests "nbdkit zram, from RAM" /dev/nbd0 12380
  drop_tiers
  for_the_kernel
  echo "cell|3-requests|finished|||||||"
}

# The two programs without the hog, for comparison.
cell_0_alone ()
{
  hog_size=1
  on_tmpfs
  measure 0-alone "echo 0"
  umount "$work"
  hog_size=${VM_HOG-204}
}

for cell in ${VM_CELLS//,/ }; do
  echo "begin|$cell"
  "cell_${cell//-/_}"
done
