#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# nbd-zram is a POSIX script that shellcheck has nothing to say about, and
# dash can read.

. "$(dirname "$0")/../nbdkit/functions.sh"
. "$(dirname "$0")/client-functions.sh"

sh -n "$NBD_ZRAM"
if command -v dash >/dev/null; then
  dash -n "$NBD_ZRAM"
fi
eq "first line" "$(head -n 1 "$NBD_ZRAM")" '#!/bin/sh'
require shellcheck
shellcheck --norc "$NBD_ZRAM"
