#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# mem: 768M
# timeout: 900

# Not a test: records what a kernel asks of its swap device (see
# bench/traces/README.md).
#
# Four compilers at a time, and beside them an interpreter with some data
# that it looks at now and then, have 72 MiB of memory.  The machine has
# more, so neither the server nor its log is ever short of it.

. "$(dirname "$0")/guest-functions.sh"
require gcc python3

# Words of header files, of which some are wanted more often than others.
cat > /tmp/session.py <<'END'
import glob, random, re, time
random.seed (1)
words = {}
for name in sorted (glob.glob ('/usr/include/*.h'))[:250]:
    for i, line in enumerate (open (name, errors='replace')):
        for word in re.findall (r'\w+', line):
            words.setdefault (word, []).append ((name, i, line))
keys = sorted (words)
print (len (keys), 'words', flush=True)
while True:
    for _ in range (300):
        key = keys[int (len (keys) * random.random () ** 4)]
        sum (len (line) for name, i, line in words[key])
    time.sleep (0.2)
END

cat > /tmp/compile <<END
cd '$abs_top_builddir/lib'
ls *.c | xargs -P 4 -I '{}' gcc -O2 -g -c -I .. -I . -o /dev/null '{}'
END

load_nbd
nbdkit_options=(--threads=4 --filter=log)
start_server swap 160M logfile=/tmp/swap.log
attach swap /dev/nbd0
swap_on /dev/nbd0
make_small_group 72M

in_small_group python3 /tmp/session.py &
session=$!
sleep 8
for round in 1 2; do
  begin=$(uptime_now)
  (in_small_group bash -e /tmp/compile)
  echo "round $round: $(seconds_since "$begin") s," \
       "$(pages_out) pages were swapped out"
done
kill $session
wait $session || :
swapoff /dev/nbd0
detach /dev/nbd0
stop_server swap
cp /tmp/swap.log /run/out/swap.log
