#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# A mistake in a parameter ends nbdkit at once with status 1 and one
# line, which names the parameter and the value that is wrong.

. "$(dirname "$0")/functions.sh"

# A socket with a name: nbdkit leaves the directory of an unnamed one
# (-U -) behind when a parameter is wrong.
run ()
{
  rm -f "$tmp/disk.sock"
  timeout -k 10 60 "$NBDKIT" -U "$tmp/disk.sock" zram "$@" \
          --run 'echo started'
}

# refused WORD... -- PARAMETER...: the one line must contain each word.
refused ()
{
  local words=() status=0 word

  while [ "$1" != -- ]; do
    words+=("$1")
    shift
  done
  shift
  run "$@" > "$tmp/out" 2> "$tmp/err" || status=$?
  cat "$tmp/err"
  eq "status of zram $*" $status 1
  eq "output of zram $*" "$(cat "$tmp/out")" ""
  eq "number of lines that zram $* says" "$(wc -l < "$tmp/err")" 1
  for word in "${words[@]}"; do
    grep -qF -- "$word" "$tmp/err" ||
      fail "what zram $* says does not contain $word"
  done
}

# accepted PARAMETER...
accepted ()
{
  eq "output of zram $*" "$(run "$@")" started
}

long=$(printf 'x%.0s' {1..108})
echo "not empty" > "$tmp/file"

refused frobnicate -- 1G frobnicate=1
refused size --
refused size 0 -- size=0
refused size -1 -- size=-1
refused size abc -- size=abc
refused size abc -- abc
refused size 9E -- size=9E
refused size 9223372036854775808 -- size=9223372036854775808

refused algorithm gzip -- 1G algorithm=gzip
refused algorithm -- 1G algorithm=
refused algorithm LZ5 -- 1G algorithm=LZ5,level=1
refused algorithm 99 -- 1G algorithm=zstd,level=99
refused algorithm 99 -- 1G algorithm=lz4hc,level=99
refused algorithm -1 -- 1G algorithm=lz4,level=-1
refused algorithm 99999999999999999999 \
        -- 1G algorithm=zstd,level=99999999999999999999
refused algorithm none -- 1G algorithm=none,level=1
refused algorithm abc -- 1G algorithm=zstd,level=abc
refused algorithm 1x -- 1G algorithm=zstd,level=1x
refused algorithm level= -- 1G algorithm=zstd,level=
refused algorithm depth=1 -- 1G algorithm=zstd,depth=1

: > "$tmp/empty"
head -c 1048577 /dev/zero > "$tmp/large"
printf '\067\244\060\354garbage' > "$tmp/garbage"
refused dictionary "$tmp/none" -- 1G dictionary="$tmp/none"
refused dictionary "$tmp/empty" -- 1G dictionary="$tmp/empty"
refused dictionary "$tmp/large" 1048576 -- 1G dictionary="$tmp/large"
refused dictionary "$tmp/garbage" -- 1G dictionary="$tmp/garbage"
refused dictionary "$tmp" -- 1G dictionary="$tmp"
refused dictionary -- 1G dictionary=
refused dictionary="$tmp/file" lz4 -- 1G algorithm=lz4 dictionary="$tmp/file"
refused dictionary AUTO -- 1G dictionary=AUTO
refused dictionary=auto lz4 -- 1G algorithm=lz4 dictionary=auto
refused dictionary=auto lz4hc -- 1G dictionary=auto algorithm=lz4hc,level=9
refused dictionary=auto none -- 1G algorithm=none dictionary=auto

refused recompress gzip -- 1G recompress=gzip
refused recompress -- 1G recompress=
refused recompress 99 -- 1G recompress=zstd,level=99
refused recompress age 0 -- 1G recompress=zstd,age=0
refused recompress age 1h -- 1G recompress=zstd,age=1h
refused recompress group 32 -- 1G recompress=zstd,group=32
refused recompress group 12 -- 1G recompress=zstd,group=12
refused recompress group -- 1G recompress=zstd,group
refused recompress '' -- 1G recompress=zstd,
refused recompress zbud -- 1G recompress=zstd allocator=zbud
refused background-cpu 0 -- 1G background-cpu=0
refused background-cpu 101 -- 1G background-cpu=101
refused background-cpu all -- 1G background-cpu=all

refused allocator foo -- 1G allocator=foo
refused allocator -- 1G allocator=

refused swap maybe -- 1G swap=maybe
refused swap -- 1G swap=
refused reserve 1M -- 1G reserve=1M
refused reserve abc -- 1G swap=true reserve=abc
refused reserve 1023K 1M -- 1G swap=true reserve=1023K
refused reserve 65G 64G -- 1G swap=true reserve=65G
refused tier mem-limit -- 1G tier="$tmp/tier" tier-size=8M
refused tier nbd://localhost swap \
        -- 1G mem-limit=64M swap=true tier=nbd://localhost
refused tier "$tmp/tier" -- 1G mem-limit=64M swap=true tier="$tmp/tier"
refused tier "$tmp/tier" tier-size -- 1G mem-limit=64M tier="$tmp/tier"
refused tier-size=1M 2M -- 1G mem-limit=64M tier="$tmp/tier" tier-size=1M
refused tier-size=0 2M -- 1G mem-limit=64M tier="$tmp/tier" tier-size=0
refused tier "$tmp/none/t" -- 1G mem-limit=64M tier="$tmp/none/t" tier-size=8M
refused tier "$tmp/file" tier-force \
        -- 1G mem-limit=64M tier="$tmp/file" tier-size=8M
refused tier "$tmp" -- 1G mem-limit=64M tier="$tmp"
refused tier -- 1G mem-limit=64M tier=
refused tier-size 8M -- 1G mem-limit=64M tier-size=8M
refused tier nbd+unix -- 1G mem-limit=64M tier="nbd+unix:///?socket=$tmp/no"
refused tier foo -- 1G mem-limit=64M tier=foo://bar
refused tier-size 8M -- 1G mem-limit=64M tier=nbd://localhost tier-size=8M
refused tier-size many -- 1G mem-limit=64M tier="$tmp/tier" tier-size=many
refused tier-force true -- 1G mem-limit=64M tier-force=true
refused tier-force maybe -- 1G mem-limit=64M tier="$tmp/tier" tier-force=maybe

refused policy fifo smq -- 1G mem-limit=64M tier="$tmp/tier" policy=fifo
refused policy lru tier -- 1G policy=lru
refused writeback-limit 1G /day \
        -- 1G mem-limit=64M tier="$tmp/tier" writeback-limit=1G
refused writeback-limit 1G/hour /day \
        -- 1G mem-limit=64M tier="$tmp/tier" writeback-limit=1G/hour
refused writeback-limit 1Gday -- 1G writeback-limit=1Gday
refused writeback-limit many -- 1G writeback-limit=many/day
refused writeback-limit -- 1G writeback-limit=/day
refused writeback-limit 0/day 1M -- 1G writeback-limit=0/day
refused writeback-limit 1023K 1M -- 1G writeback-limit=1023K/day
refused writeback-limit 1G/day tier -- 1G writeback-limit=1G/day
refused writeback-limit tier -- 1G mem-limit=64M writeback-limit=1G/day

refused mem-limit 16M -- 1G swap=true mem-limit=16M
refused mem-limit 40M -- 1G swap=true reserve=40M mem-limit=40M

refused mem-limit 1 -- 1G mem-limit=1
refused mem-limit=3M "with a tier" \
        -- 1G mem-limit=3M tier="$tmp/least" tier-size=8M
least=$(sed -n 's/.*(use \(.*\) or more).*/\1/p' "$tmp/err")
refused mem-limit abc -- 1G mem-limit=abc
refused mem-limit -5 -- 1G mem-limit=-5
refused mem-limit 9E -- 1G mem-limit=9E

refused control "$tmp" -- 1G control="$tmp"
refused control xxx -- 1G control="/tmp/$long"
refused control "$tmp/file" -- 1G control="$tmp/file"
refused control "$tmp/none/ctl" -- 1G control="$tmp/none/ctl"
[ -f "$tmp/file" ] || fail "the regular file was removed"

# What is right next to the borders of what is wrong.
accepted 1
accepted size=9223372036854775807
accepted 1G algorithm=none
accepted 1G algorithm=lz4
accepted 1G algorithm=lz4,level=1
accepted 1G algorithm=lz4hc,level=12
accepted 1G algorithm=zstd,level=19
accepted 1G algorithm=zstd,level=-1
accepted 1G dictionary=auto
accepted 1G dictionary=auto algorithm=zstd,level=3
accepted 1G dictionary=none
accepted 1G dictionary=none algorithm=lz4
accepted 1G algorithm=lz4 dictionary=auto dictionary=none
accepted 1G allocator=zbud mem-limit=1G
accepted 1G recompress=none
accepted 1G recompress=none allocator=zbud
accepted 1G recompress=zstd
accepted 1G recompress=lz4hc,group=2,level=12,age=1
accepted 1G recompress=lz4,age=31622400 background-cpu=100
accepted 1G dictionary="$tmp/file" background-cpu=1
accepted 1G mem-limit="${least?}" tier="$tmp/least" tier-size=8M
accepted 1G mem-limit=64M tier="$tmp/a,b=c" tier-size=8M
accepted 1G mem-limit=64M tier="$tmp/a,b=c"
accepted 1G mem-limit=64M tier="$tmp/file" tier-size=8M tier-force=true
accepted 1G mem-limit=64M tier="$tmp/file" policy=lru writeback-limit=1M/day
accepted 1G policy=lru writeback-limit=1T/day control="$tmp/ctl"
accepted 1G swap=false
accepted 1G swap=true 2> "$tmp/privileges"
accepted 1G swap=on reserve=1M mem-limit=16M 2> "$tmp/privileges"
accepted 1G control="$tmp/ctl"
