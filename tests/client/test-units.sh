#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# The units are what systemd understands; they stop in the right order;
# the example configurations are ones that it can read.

. "$(dirname "$0")/../nbdkit/functions.sh"
. "$(dirname "$0")/client-functions.sh"

units=$abs_top_builddir/nbd-client-scripts
examples=${abs_top_srcdir:-$(cd "$srcdir/../.." && pwd)}/nbd-client-scripts

# Nothing is left to substitute.
for unit in "$units"/*.service; do
  ! grep -nE '@[A-Za-z]+@' "$unit" | grep -v '^[0-9]*:#' ||
    fail "$unit has words that were not substituted"
done

# directive UNIT WORD: the values that the unit gives it.
directive ()
{
  sed -n "s/^$2=//p" "$units/$1" | tr ' ' '\n'
}

# has UNIT WORD VALUE
has ()
{
  directive "$1" "$2" | grep -qxF -- "$3" || fail "$1 has no $2=$3"
}

lacks ()
{
  ! directive "$1" "$2" | grep -qxF -- "$3" || fail "$1 has $2=$3"
}

# Pages come back before the network goes.
has nbd-zram-swap@.service After network.target
has nbd-zram-swap@.service After network-online.target
has nbd-zram-swap@.service Wants network-online.target
has nbd-zram-swap@.service Before remote-fs.target
lacks nbd-zram-swap@.service Before swap.target
# Local swap ends after all services, and its server with it, but never
# before its pages are back.
has nbd-zram-local-swap.service Before swap.target
has nbd-zram-local-swap.service Conflicts shutdown.target
has nbd-zram-local-swap.service Before shutdown.target
has nbd-zram-local-swap.service KillMode process
has nbd-zram-local-swap.service After systemd-sysctl.service
lacks nbd-zram-local-swap.service After local-fs.target
# What swap=true asks for.
has nbdkit-zram@.service LimitMEMLOCK infinity
has nbdkit-zram@.service OOMScoreAdjust -1000
grep -q '^ExecStart=.* --threads=2 ' "$units/nbdkit-zram@.service"

# The examples: variables that the units use, and values as nbd-zram and
# nbdkit take them.
for variable in SIZE PARAMETERS NBDKIT_OPTIONS; do
  grep -q "^$variable=" "$examples/example-server.conf"
done
grep -q '^URI=nbd://' "$examples/example-swap.conf"
for file in "$examples"/example-*.conf; do
  ! grep -nvE '^(#|$|[A-Z_]+=)' "$file" || fail "$file"
done

# systemd itself, with programs that are there.
require systemd-analyze
mkdir "$tmp/units"
for unit in nbdkit-zram@ nbd-zram-swap@ nbd-zram-local-swap; do
  case $unit in
    *@) name=${unit}test.service ;;
    *)  name=$unit.service ;;
  esac
  sed -e "s|=[^ ]*/nbd-zram |=$NBD_ZRAM |" \
      -e "s|^ExecStart=[^ ]*/nbdkit |ExecStart=$(command -v true) |" \
      "$units/$unit.service" > "$tmp/units/$name"
  SYSTEMD_LOG_LEVEL=warning \
    systemd-analyze verify --man=no "$tmp/units/$name" \
                    > "$tmp/verify" 2>&1 || {
    cat "$tmp/verify"
    fail "$unit.service"
  }
  # What it says of other units of this system is not ours.
  ! grep -F "$name" "$tmp/verify" || fail "$unit.service"
  ! grep -i 'cycle' "$tmp/verify" || fail "$unit.service"
done
