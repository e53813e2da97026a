#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# URIs: what is no good is refused with status 2 and a line that names it,
# before anything is done; what is good gets further than that.

. "$(dirname "$0")/../nbdkit/functions.sh"
. "$(dirname "$0")/client-functions.sh"

# no URI PATTERN
no ()
{
  refused 2 "$2" attach "$1"
  grep -qF -- "URI=$1" "$tmp/refused.err" ||
    fail "'$(cat "$tmp/refused.err")' does not name $1"
}

no host                          'not a URI'
no /run/sock                     'not a URI'
no http://host/                  'unknown scheme http'
no 'nbds+unix:///?socket=/a'     'TLS on a Unix socket'
no 'nbd+vsock://2/'              'unknown scheme'
no 'nbd:///'                     'the host is missing'
no 'nbd://:10809/'               'the host is missing'
no 'nbd://host:port/'            'port is not a port'
no 'nbd://host:0/'               '0 is not a port'
no 'nbd://host:65536/'           '65536 is not a port'
no 'nbd://host:/'                'is not a port'
no 'nbd://::1/'                  'needs brackets'
no 'nbd://user@host/'            'no users'
no 'nbd://-l/'                   'is not a host'
no 'nbd://ho;st/'                'is not a host'
no 'nbd://host/a b'              'blanks'
no 'nbd://host/%4'               'stands for no'
no 'nbd://host/%zz'              'stands for no'
no 'nbd://host/%00'              'stands for no'
no 'nbd://host/%0a'              'stands for no'
no 'nbd://host/#a'               'must be no #'
no 'nbd://host/?socket=/a'       'unknown parameter socket'
no 'nbd://host/?nosuch=1'        'unknown parameter nosuch'
no 'nbd+unix:///'                'socket=PATH is missing'
no 'nbd+unix:///?socket='        'socket=PATH is missing'
no 'nbd+unix:///?socket=a/b'     'not an absolute path'
no 'nbd+unix://host/?socket=/a'  'has no host'
no "nbd+unix:///?socket=/$(printf '%0120d' 0)" 'longer than 107'
no 'nbds://host/'                'tls-certificates=DIR is missing'
no 'nbds://host/?tls-certificates=pki'     'not an absolute path'
no 'nbds://host/?tls-psk-file=/keys'       'pre-shared'

# Swap over TLS, with the reason and the way out.
refused 3 'no swap over TLS.*WireGuard' \
        swapon 'nbds://host/?tls-certificates=/pki'

# These are fine, so what is wrong is something else: no root, no kernel
# with nbd, or no server.
good ()
{
  local status=0

  # A run directory that cannot be made, so that nothing is ever attached.
  NBD_ZRAM_RUNDIR=/dev/null/nowhere \
    nbd_zram attach "$1" 2> "$tmp/err" || status=$?
  eq "status of attach $1" $status 1
  eq "lines of the error of attach $1" "$(grep -c '^nbd-zram: ' "$tmp/err")" 1
  ! grep -q 'URI=' "$tmp/err" || fail "$1 is refused: $(cat "$tmp/err")"
}

good nbd://host
good nbd://host/
good nbd://host:1234/export
good nbd://192.0.2.1/a%20b/c
good 'nbd://[::1]/'
good 'nbd://[2001:db8::1]:10809/zram-0123456789abcdef'
good 'nbd+unix:///?socket=/run/a%20b'
good 'nbd+unix:///export?socket=/run/sock'
# (There are no certificates.)
good 'nbds://host/?tls-certificates=/etc/pki/nbdkit'
