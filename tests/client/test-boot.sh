#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# systemd starts the three units and, when the machine is switched off,
# stops them in the order in which nothing is lost: programs, swap on
# another machine, that server (which happens to be here), the network, and
# at last local swap.
#
# A machine of its own is booted for that (user-mode-linux), with the files
# of this one as its root, read-only, and this script as its first process:
# it writes the units below /run, and becomes systemd.  What the machine
# prints is what is looked at in the end.

if [ $$ -eq 1 ]; then
  PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
  export PATH HOME=/root
  mount -t proc none /proc
  mount -t sysfs none /sys
  mountpoint -q /dev || mount -t devtmpfs none /dev
  mount -t tmpfs none /run
  mount -t tmpfs none /var/log
  ip link set lo up
  insmod "/usr/lib/uml/modules/$(uname -r)/kernel/drivers/block/nbd.ko"
  mkdir -p /run/systemd /run/conf
  cp -r "${zt_units:?}" /run/systemd/system
  cp -r "${zt_conf:?}"/. /run/conf
  exec /lib/systemd/systemd --unit=zt.target --log-target=console \
       --show-status=no
fi

. "$(dirname "$0")/../nbdkit/functions.sh"
. "$(dirname "$0")/client-functions.sh"
PATH=$PATH:/usr/sbin:/sbin
sanitized && skip "a sanitizer needs more memory than there is"
# In CI nothing may be missing, see ../vm/run-vm.
if [ -n "${VM_REQUIRED-}" ]; then
  skip ()
  {
    fail "$*"
  }
fi
require linux.uml nbd-client ip curl
[ -x /lib/systemd/systemd ] || skip "there is no systemd"

built=$abs_top_builddir/nbd-client-scripts
units=$tmp/units
mkdir -p "$units"/{zt,swap,network-online}.target.wants "$tmp/conf"

# Our units, with the programs and the configuration of this test.
for unit in nbdkit-zram@ nbd-zram-swap@ nbd-zram-local-swap; do
  sed -e "s|=[^ ]*/nbd-zram |=$NBD_ZRAM |" \
      -e "s|^EnvironmentFile=.*/|EnvironmentFile=/run/conf/|" \
      -e "s|^ExecStart=[^ ]*/nbdkit |ExecStart=$NBDKIT |" \
      -e "s|^Environment=NBDKIT=.*|Environment=NBDKIT=$NBDKIT|" \
      -e "s|^RequiresMountsFor=.*|RequiresMountsFor=/usr /run|" \
      "$built/$unit.service" > "$units/$unit.service"
done
cat > "$tmp/conf/server.conf" <<'END'
SIZE=64M
PARAMETERS=swap=true
NBDKIT_OPTIONS=--ipaddr=127.0.0.1 --port=10809
END
cat > "$tmp/conf/client.conf" <<'END'
URI=nbd://127.0.0.1/
OPTIONS=--priority 50 --connections 2
END
cat > "$tmp/conf/local-swap.conf" <<'END'
SIZE=64M
OPTIONS=--priority 100
PARAMETERS=
END

# witness NAME UNIT-LINE...: a unit that shows when it stops, and what is
# swapped on then.
witness ()
{
  local name=$1

  shift
  {
    printf '%s\n' '[Unit]' "$@"
    cat <<END
[Service]
Type=oneshot
RemainAfterExit=yes
StandardOutput=tty
TTYPath=/dev/console
ExecStart=/bin/true
ExecStop=/bin/sh -c 'sed "s/^/$name stops: /" /proc/swaps'
END
  } > "$units/$name.service"
}
witness network Before=network.target Before=network-online.target \
        Wants=network.target
witness program

# The server is on another machine, as far as the client's unit knows, so
# it has no order with it; here it needs one.
mkdir "$units/nbd-zram-swap@client.service.d"
cat > "$units/nbd-zram-swap@client.service.d/order.conf" <<'END'
[Unit]
After=nbdkit-zram@server.service
END

# When all is up, say so and switch off.
cat > "$units/off.service" <<'END'
[Unit]
After=program.service nbdkit-zram@server.service
After=nbd-zram-swap@client.service nbd-zram-local-swap.service
[Service]
Type=oneshot
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
ExecStart=/bin/sed "s/^/all is up: /" /proc/swaps
ExecStart=/usr/bin/curl -sS --unix-socket /run/nbdkit-zram/server/control http://zram/stats
ExecStart=/bin/systemctl --no-block --no-wall start poweroff.target
END
cat > "$units/zt.target" <<'END'
[Unit]
Requires=basic.target
After=basic.target
AllowIsolate=yes
END
ln -s ../network.service "$units/network-online.target.wants"
ln -s ../nbd-zram-local-swap.service "$units/swap.target.wants"
ln -s ../program.service ../off.service ../nbdkit-zram@server.service \
   ../nbd-zram-swap@client.service "$units/zt.target.wants"
# What belongs to this system and has no place in that one.
for unit in systemd-udevd systemd-udev-trigger systemd-logind \
            systemd-tmpfiles-setup systemd-update-utmp systemd-timesyncd \
            systemd-journal-flush; do
  ln -s /dev/null "$units/$unit.service"
done

cp "$0" "$tmp/init"
chmod 755 "$tmp/init"
mkdir "$tmp/uml"
status=0
TMPDIR=$tmp setsid timeout -k 5 180 linux.uml mem=256M root=/dev/root \
    rootfstype=hostfs rootflags=/ ro init="$tmp/init" con=null con0=null,fd:1 \
    quiet panic=-1 umid=boot uml_dir="$tmp/uml" \
    zt_units="$units" zt_conf="$tmp/conf" systemd.unit=zt.target \
    < /dev/null > "$tmp/console.log" 2>&1 || status=$?
sed -i 's/\x1b\[[0-9;]*[mK]//g; s/\r//g' "$tmp/console.log"
[ $status -ne 124 ] || fail "the machine does not switch itself off"

# swaps_when EVENT: priorities of what was swapped on then.
swaps_when ()
{
  grep -aq "^$1: Filename" "$tmp/console.log" || fail "never: '$1'"
  sed -n "s|^$1: /dev/.*[[:space:]]||p" "$tmp/console.log" | sort -n |
    tr '\n' ' '
}
eq "swap when all is up" "$(swaps_when 'all is up')" '50 100 '
eq "swap when programs stop" "$(swaps_when 'program stops')" '50 100 '
eq "swap when the network stops" "$(swaps_when 'network stops')" '100 '
for point in memory_locked io_flusher oom_score_adj reserve preallocated \
             realtime; do
  grep -aq "\"$point\": true" "$tmp/console.log" || fail "not $point"
done
# systemd has nothing left to swap off itself when it ends.
grep -aq 'All filesystems, swaps.* detached' "$tmp/console.log"
! grep -aE 'nbd-zram: .*(still|not )|I/O error|ordering cycle' \
  "$tmp/console.log" || fail "see above"
for unit in nbdkit-zram@server nbd-zram-swap@client nbd-zram-local-swap; do
  grep -aqF "$unit.service: Deactivated successfully" "$tmp/console.log" ||
    fail "$unit has failed"
done
