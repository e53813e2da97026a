#!/usr/bin/env bash
# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# nbd-zram --help, its manual page, and what it accepts agree.

. "$(dirname "$0")/../nbdkit/functions.sh"
. "$(dirname "$0")/client-functions.sh"

pod=${abs_top_srcdir:-$(cd "$srcdir/../.." && pwd)}/docs/nbd-zram.pod

nbd_zram --help > "$tmp/help"
nbd_zram -h | cmp - "$tmp/help"
nbd_zram status --help | cmp - "$tmp/help"
version=$(sed -n "s/^PACKAGE_VERSION = //p" "$abs_top_builddir/Makefile")
eq "version" "$(nbd_zram --version)" "nbd-zram $version"
eq "version" "$(nbd_zram -V)" "nbd-zram $version"
at_most "longest line of --help" "$(wc -L < "$tmp/help")" 80

# The synopsis is the same, but for what begins the line.
sed -n '/^=head1 SYNOPSIS/,/^=head1 DESCRIPTION/p' "$pod" |
  sed -n 's/^  *//p' > "$tmp/synopsis.pod"
sed -n '/^Usage:/,/^$/p' "$tmp/help" |
  sed -n 's/^\(Usage:\)\{0,1\}  *//p' > "$tmp/synopsis.help"
diff "$tmp/synopsis.pod" "$tmp/synopsis.help"

# Options: those in --help, those with an item in the manual page, and
# those that the script knows.
grep -oE '(^|[^-[:alnum:]])--?[a-zA-Z][a-z-]*' "$tmp/help" |
  grep -oE -- '--?[a-zA-Z][a-z-]*' | sort -u > "$tmp/options.help"
sed -n 's/^=item B<\(-[^>]*\)>.*/\1/p' "$pod" | sort -u > "$tmp/options.pod"
# (-h and -V are the usual ones, and only in the manual.)
grep -vxE -- '-h|-V' "$tmp/options.pod" | diff - "$tmp/options.help"
while read -r option; do
  status=0
  nbd_zram nosuch "$option" 2> "$tmp/err" || status=$?
  eq "status of an unknown command" $status 2
  case $option in
    --help | --version | -h | -V) ;;
    *)
      # An option that is known is refused for another reason.
      nbd_zram attach "$option" 2> "$tmp/err" || :
      ! grep -q 'unknown option' "$tmp/err" ||
        fail "$option is not known: $(cat "$tmp/err")" ;;
  esac
done < "$tmp/options.pod"

# Commands.
sed -n '/^=head1 COMMANDS/,/^=head1 OPTIONS/s/^=item B<\([^>]*\)>.*/\1/p' \
    "$pod" | sort -u > "$tmp/commands.pod"
grep -oE 'nbd-zram [a-z][a-z-]+' "$tmp/help" | cut -d ' ' -f 2 | sort -u |
  diff "$tmp/commands.pod" -
