#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# Command lines that are wrong: status 2, and one line that names the
# parameter and its value.

. "$(dirname "$0")/../nbdkit/functions.sh"
. "$(dirname "$0")/client-functions.sh"

u=nbd://host/

refused 2 'nosuch: no such command' nosuch
refused 2 'usage: .* attach URI' attach
refused 2 'usage: .* attach URI' attach $u nbd0 more
refused 2 'usage: .* detach DEVICE' detach
refused 2 'usage: .* swapon URI' swapon
refused 2 'usage: .* swapon URI' swapon $u nbd0
refused 2 'usage: .* mount URI DIR' mount $u
refused 2 'usage: .* status' status nbd0
refused 2 'usage: .* local-swap SIZE' local-swap
refused 2 'usage: .* local-swap SIZE' local-swap -- a=b
refused 2 'usage: .* local-swap --off' local-swap --off 1G

refused 2 'DEVICE=sda: ' attach $u sda
refused 2 'DEVICE=/dev/sda: ' detach /dev/sda
refused 2 'DEVICE=nbd0p1: ' detach nbd0p1
refused 2 "DIR=$tmp/nowhere: " mount $u "$tmp/nowhere"
refused 2 '--fs=nosuch: ' mount --fs nosuch $u "$tmp"
refused 2 '--fs=../a: ' mount --fs ../a $u "$tmp"

refused 2 '--nosuch: unknown option' attach --nosuch $u
refused 2 '--nosuch: unknown option' attach --nosuch=1 $u
refused 2 '--json: unknown option, or one without' status --json=yes
refused 2 '-x: unknown option' attach -x $u
refused 2 '--json: not an option of attach' attach --json $u
refused 2 '--priority: not an option of attach' attach --priority 1 $u
refused 2 '--off: not an option of swapon' swapon --off $u
refused 2 '--priority: its value is missing' swapon $u --priority

refused 2 '--connections=0: ' attach --connections 0 $u
refused 2 '--connections=0: ' attach --connections=0 $u
refused 2 '-C=65: ' attach -C 65 $u
refused 2 '-C=x: ' attach -Cx $u
refused 2 '--priority=32768: ' swapon --priority 32768 $u
refused 2 '--priority=-1: ' swapon --priority -1 $u
refused 2 '--timeout=1m: ' swapon --timeout 1m $u
refused 2 '--wait=0: ' attach --wait 0 $u
refused 2 '-o=: ' mount -o '' $u "$tmp"

refused 2 'SIZE=12q: ' local-swap 12q
refused 2 'SIZE=0: ' local-swap 0
refused 2 'SIZE=M: ' local-swap M
refused 2 'SIZE=0%: ' local-swap 0%
refused 2 'SIZE=123456789G: ' local-swap 123456789G
refused 2 'SIZE=1234567890123456: ' local-swap 1234567890123456
refused 2 '--mem-limit=lots: ' local-swap 1G --mem-limit lots
refused 2 'swap=false: ' local-swap 1G -- swap=false
refused 2 'size=2G: ' local-swap 1G -- size=2G
refused 2 'lz4: not a PARAMETER=VALUE' local-swap 1G -- lz4

# A size is taken in any of these ways (and then it is something else that
# is wrong).
for size in 1073741824 1024K 64m 1G 1T 50%; do
  refused 2 'swap=false' local-swap $size -- swap=false
done

# No command at all: the summary.
status=0
nbd_zram 2> "$tmp/err" || status=$?
eq "status" $status 2
grep -q '^Usage:' "$tmp/err"

# Who is not root is told so, whatever the kernel can do.
if [ "$(id -u)" -eq 0 ] && command -v setpriv >/dev/null; then
  chmod a+rx "$tmp"
  cp "$NBD_ZRAM" "$tmp/nbd-zram"
  for command in "attach $u" "detach nbd0" "swapon $u" "swapoff nbd0" \
                 "umount nbd0" status 'local-swap 1G' 'local-swap --off'; do
    status=0
    # shellcheck disable=SC2086     # several words
    setpriv --reuid=65534 --regid=65534 --clear-groups \
            sh "$tmp/nbd-zram" $command 2> "$tmp/err" || status=$?
    eq "status of $command" $status 1
    grep -q 'only root can do this' "$tmp/err"
  done
fi
