#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# mem: 256M
# timeout: 900

# Not a test: records what a kernel asks of a disk (see
# bench/traces/README.md).
#
# A source tree is unpacked on ext4, compiled, compiled again after some
# of it has changed, searched and deleted, by processes that have 48 MiB
# of memory, the page cache included.

. "$(dirname "$0")/guest-functions.sh"
require gcc make mkfs.ext4

make_archive ()
{
  tar -C "$abs_top_builddir" -cf /tmp/tree.tar --exclude='*.o' lib plugin \
      tests/unit config.h 2>/dev/null
  tar -C /usr -rf /tmp/tree.tar include/linux include/c++ 2>/dev/null
}

cat > /tmp/work <<'END'
cd /tmp/mnt
tar -xf /tmp/tree.tar
sync
cat > Makefile <<'MAKEFILE'
objects := $(patsubst %.c,%.o,$(wildcard lib/*.c tests/unit/*.c))
all.o: $(objects)
	ld -r -o $@ $^ -z muldefs
%.o: %.c
	gcc -O1 -g -I . -I lib -c -o $@ $<
MAKEFILE
make -s -k -j 2 > /tmp/make.log 2>&1
touch lib/slot.c lib/page.c lib/a*.c tests/unit/test-*.c
make -s -k -j 2 >> /tmp/make.log 2>&1
grep -r -l epoch_ticket . | wc -l
grep -r -l unlikely_to_be_found . | wc -l
rm -r tests include
sync
touch lib/z*.c
make -s -k -j 2 >> /tmp/make.log 2>&1
sync
END

load_nbd
make_archive
nbdkit_options=(--threads=4 --filter=log)
start_server disk 256M logfile=/tmp/disk.log
attach disk /dev/nbd0
mkfs.ext4 -q -F -E nodiscard /dev/nbd0
mkdir -p /tmp/mnt
mount -o discard /dev/nbd0 /tmp/mnt
make_small_group 48M
begin=$(uptime_now)
(in_small_group bash /tmp/work)
echo "$(seconds_since "$begin") s"
umount /tmp/mnt
detach /dev/nbd0
stop_server disk
cp /tmp/disk.log /run/out/disk.log
