#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# mem: 256M
# timeout: 240

# What a server with swap=true is to the kernel, in the foreground, in the
# background and under --run: all threads marked, memory locked, spared
# when memory runs out, and small.  What --run runs is nothing of this.

. "$(dirname "$0")/guest-functions.sh"

load_nbd
reserve=16384   # KiB

# In the foreground, with four clients, and as many threads for each as
# nbdkit makes if nobody says how many.
start_server swap 512M swap=true
check_swap_safe swap
echo "foreground, no client: $(pss "${pid[swap]}") KiB"
for device in /dev/nbd0 /dev/nbd1 /dev/nbd2 /dev/nbd3; do
  attach swap $device
done
check_thread_flags "${pid[swap]}"
size=$(pss "${pid[swap]}")
echo "four clients: $size KiB," \
     "$(threads "${pid[swap]}" | wc -l) threads"
at_most "KiB resident with four clients" "$size" $((12288 + reserve))

# All its threads have worked, on the largest requests of the kernel.
for device in /dev/nbd0 /dev/nbd1 /dev/nbd2 /dev/nbd3; do
  warm_up $device
done
check_thread_flags "${pid[swap]}"
check_resident "${pid[swap]}"
echo "four clients that have read: $(pss "${pid[swap]}") KiB," \
     "$(threads "${pid[swap]}" | wc -l) threads"
for device in /dev/nbd0 /dev/nbd1 /dev/nbd2 /dev/nbd3; do
  detach $device
done
stop_server swap

# In the background.  (nbdkit forks after the plugin has been configured,
# and a child inherits no locks.)
sock[daemon]=$tmp/daemon.sock
ctl[daemon]=$tmp/daemon.ctl
"$NBDKIT" -P "$tmp/daemon.pid" -U "${sock[daemon]}" \
          zram 512M swap=true control="${ctl[daemon]}"
daemon=$(cat "$tmp/daemon.pid")
check_swap_safe daemon
attach daemon /dev/nbd0
warm_up /dev/nbd0
check_thread_flags "$daemon"
check_resident "$daemon"
at_least "KiB locked" "$(awk '/^VmLck:/ { print $2 }' "/proc/$daemon/status")" \
         "$(pss "$daemon")"
detach /dev/nbd0
kill -TERM "$daemon"
wait_until 20 is_gone "$daemon" || fail "the daemon does not end"

# Under --run.
cat > "$tmp/command" <<'END'
cat /proc/self/oom_score_adj > $tmp/command.oom
sed 's/.*) //' /proc/self/stat | cut -d ' ' -f 7 > $tmp/command.flags
sed 's/.*) //' /proc/self/stat | cut -d ' ' -f 39 > $tmp/command.policy
curl -sS --fail --unix-socket $tmp/run.ctl http://localhost/stats \
     > $tmp/command.stats
END
export tmp
"$NBDKIT" -U - zram 512M swap=true control="$tmp/run.ctl" \
          --run 'sh $tmp/command'
eq "oom_score_adj of the command" "$(cat "$tmp/command.oom")" 0
eq "flags of the command" \
   $(($(cat "$tmp/command.flags") & 0x180000)) 0
eq "scheduling policy of the command" "$(cat "$tmp/command.policy")" 0
eq "what the server could do" \
   "$(jq -c '[.swap_safe[]] | unique' "$tmp/command.stats")" '[true]'
