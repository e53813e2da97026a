#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# What can be asked for on the control socket: who mistypes something is told
# what, with a status that says whose fault it is, and nothing is done.

. "$(dirname "$0")/functions.sh"
require curl jq

# refused STATUS WORD... -- PATH [ARGUMENT...]: the error has each word.
refused ()
{
  local status=$1 words=() word

  shift
  while [ "$1" != -- ]; do
    words+=("$1")
    shift
  done
  shift
  eq "status of POST $*" "$(post "$@")" "$status"
  jq -c . "$tmp/body"
  jq -re .error "$tmp/body" > "$tmp/error" ||
    fail "the answer to POST $* has no error"
  for word in "${words[@]}"; do
    grep -qF -- "$word" "$tmp/error" ||
      fail "the answer to POST $* does not contain $word"
  done
}

start_server disk 64M mem-limit=32M

# Every request is in the list, and is not to be had by GET.
curl -sS --unix-socket "${ctl[disk]}" http://zram/ > "$tmp/index"
cat "$tmp/index"
for path in /idle /writeback /promote /migrate /compact /tier/add \
            /tier/remove; do
  grep -qF "POST $path" "$tmp/index" || fail "GET / does not name $path"
  curl -sS -i --unix-socket "${ctl[disk]}" "http://zram$path" > "$tmp/answer"
  grep -q '^HTTP/1.1 405' "$tmp/answer" || fail "GET $path is not a 405"
  grep -qi '^Allow: POST' "$tmp/answer" || fail "GET $path: no Allow"
done

refused 404 -- /nothing
refused 404 -- /tier
refused 405 -- /stats

refused 400 age=-1 -- '/idle?age=-1'
refused 400 age=1h -- '/idle?age=1h'
refused 400 age=61 60 -- '/idle?age=61'
refused 400 age= -- '/idle?age='
refused 400 age= -- '/idle?age'
refused 400 age=2 already -- '/idle?age=1&age=2'
refused 400 type=huge -- '/idle?type=huge'
refused 400 body -- /idle -d age=60

refused 400 type= missing incompressible -- /writeback
refused 400 type=big incompressible -- '/writeback?type=big'
refused 400 limit=0 -- '/writeback?type=huge&limit=0'
refused 400 limit=1K -- '/writeback?type=huge&limit=1K'
refused 400 limit= -- '/writeback?type=huge&limit='
refused 400 limit=9 -- "/writeback?type=huge&limit=$(printf '9%.0s' {1..30})"
refused 400 from=ram -- '/writeback?type=huge&from=ram'
refused 409 tier -- '/writeback?type=huge'

refused 400 range=5 -- '/promote?range=5'
refused 400 range=-5 -- '/promote?range=-5'
refused 400 range=x -- '/promote?range=x-5'
refused 400 range=5x -- '/promote?range=1-5x'
refused 400 range=1M-1M -- '/promote?range=1M-1M'
refused 400 range=2M-1M -- '/promote?range=2M-1M'
refused 400 range=0-65M 67108864 -- '/promote?range=0-65M'
refused 400 range=64M- 67108864 -- '/promote?range=64M-'
refused 409 tier -- '/promote?range=63M-64M'
refused 409 tier -- /promote

refused 400 from= missing -- '/migrate?to=ram'
refused 400 to= missing -- '/migrate?from=ram'
refused 400 from=rom -- '/migrate?from=rom&to=ram'
refused 400 from=-1 -- '/migrate?from=-1&to=ram'
refused 400 to=1x -- '/migrate?from=ram&to=1x'
refused 400 to=99999999999 -- '/migrate?from=ram&to=99999999999'
refused 400 'from=ram&to=ram' same -- '/migrate?from=ram&to=ram'
refused 400 'from=3&to=3' same -- '/migrate?from=3&to=3'
refused 400 type=idle from=ram -- '/migrate?from=3&to=ram&type=idle'
refused 400 from=3 -- '/migrate?from=3&to=ram'
refused 400 to=7 -- '/migrate?from=ram&to=7'

refused 400 tier= missing -- /tier/add
refused 400 tier= empty -- '/tier/add?tier='
refused 400 tier=here absolute -- '/tier/add?tier=here&tier-size=8M'
refused 400 socket=here absolute \
        -- /tier/add --get --data-urlencode 'tier=nbd+unix:///?socket=here'
refused 400 tier-size=many -- "/tier/add?tier=$tmp/t&tier-size=many"
refused 400 tier-force=maybe -- "/tier/add?tier=$tmp/t&tier-force=maybe"
refused 400 tier-size=8M export -- '/tier/add?tier=nbd://x&tier-size=8M'
refused 400 "tier=$tmp/none/t" -- "/tier/add?tier=$tmp/none/t&tier-size=8M"
refused 400 "tier=$tmp/t" tier-size -- "/tier/add?tier=$tmp/t"
refused 400 "tier=$tmp/t" 'too large' -- "/tier/add?tier=$tmp/t&tier-size=7E"
refused 400 tier-size=1M 2M -- "/tier/add?tier=$tmp/t&tier-size=1M"
refused 400 "tier=nbd+unix:///?socket=$tmp/none" -- /tier/add --get \
        --data-urlencode "tier=nbd+unix:///?socket=$tmp/none"
refused 502 tier=nbd://127.0.0.1:1 -- '/tier/add?tier=nbd://127.0.0.1:1'
refused 400 tier=nbd+unix:/// URI -- '/tier/add?tier=nbd%2Bunix:///'
yes 'not empty' | head -c 8M > "$tmp/data" || :
refused 409 "tier=$tmp/data" tier-force -- "/tier/add?tier=$tmp/data"
eq "size of somebody's file" "$(stat -c %s "$tmp/data")" $((8 << 20))
[ ! -e "$tmp/t" ] || fail "a file was made by a request that was refused"

refused 400 tier= missing -- /tier/remove
refused 400 tier=one -- '/tier/remove?tier=one'
refused 400 tier=0 -- '/tier/remove?tier=0'
refused 400 force=maybe -- '/tier/remove?tier=0&force=maybe'
refused 400 tier-force -- '/tier/remove?tier=0&tier-force=true'

# What was sent comes back in the error, and that is JSON all the same.
refused 400 'a"b\c' -- '/writeback?type=a%22b%5Cc'
refused 400 'type=??' -- '/writeback?type=%FF%0A'
refused 400 type= 3000 2048 -- "/writeback?type=$(printf 'x%.0s' {1..3000})"
refused 400 type=xxxx incompressible \
        -- "/writeback?type=$(printf 'x%.0s' {1..2048})"
refused 400 type=idle zero -- '/writeback?type=idle%00huge'

# Nothing of this was done, and what needs nothing works.
eq "tiers" "$(stats disk | jq '.tiers | length')" 0
eq "POST /compact" "$(post /compact)" 200
jq -e '.pages_compacted | type == "number"' "$tmp/body"
eq "POST /idle" "$(post '/idle?age=60')" 200
eq "age" "$(jq .age "$tmp/body")" 60
eq "POST /idle" "$(post /idle)" 200
eq "age" "$(jq .age "$tmp/body")" 0

# A ninth tier is one too many, and is not made.
for n in {1..8}; do
  eq "tier $n" "$(post "/tier/add?tier=$tmp/tier$n&tier-size=2M")" 200
done
refused 409 "tier=$tmp/tier9" "8 tiers" \
        -- "/tier/add?tier=$tmp/tier9&tier-size=2M"
[ ! -e "$tmp/tier9" ] || fail "a file was made for a tier that was refused"
stop_server disk

# Without a limit there can be no tier.
start_server disk 64M policy=smq writeback-limit=5G/day
stat_is disk policy smq
stat_is disk writeback_limit $((5 << 30))
refused 400 mem-limit -- "/tier/add?tier=$tmp/t&tier-size=8M"
stop_server disk

# Asked for by many at once, while others read statistics: all are answered,
# with what was done or that it is too much.  The server ends in the middle.
start_server disk 64M mem-limit=32M
clients=()
for _ in {1..6}; do
  (
    for _ in {1..20}; do
      s=$(post /compact -o /dev/null)
      [ "$s" = 200 ] || [ "$s" = 503 ] || fail "POST /compact: $s"
      stats disk > /dev/null
    done
  ) &
  clients+=($!)
done
for c in "${clients[@]}"; do
  wait "$c"
done
(while :; do post /compact -o /dev/null || :; done) > /dev/null 2>&1 &
busy=$!
on_exit+=("kill $busy 2>/dev/null")
stop_server disk
