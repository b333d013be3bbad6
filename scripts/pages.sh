#!/bin/sh
# Makes man pages (DIRECTORY/man1, DIRECTORY/man3) and completion for shells (DIRECTORY/xq.bash, xq.zsh, xq.fish) from
# the program's --help and the public header.
#
#   usage: scripts/pages.sh XQ DIRECTORY
#
# XQ is an xq that runs on this machine. Pages carry the date SOURCE_DATE_EPOCH, or else the date of the header.
set -eu
xq=$1
out=$2
cd "$(dirname "$0")/.."
version=$(sh scripts/version.sh)
date=$(date -u -d "@${SOURCE_DATE_EPOCH:-$(stat -c %Y include/xq/xq.h)}" +%Y-%m-%d)
rm -rf "$out"
mkdir -p "$out/man1" "$out/man3"

sh scripts/pages/help.sh "$xq" "$out/help"
pages=$(cd "$out/help" && printf '%s ' xq*.txt | sed 's/\.txt//g')
for page in $pages; do
    awk -v NAME="$page" -v VERSION="$version" -v DATE="$date" -v PAGES="$pages" \
        -f scripts/pages/roff.awk -f scripts/pages/help.awk "$out/help/$page.txt" >"$out/man1/$page.1"
done

awk -v VERSION="$version" -v DATE="$date" -f scripts/pages/roff.awk -f scripts/pages/header.awk \
    include/xq/xq.h >"$out/man3/xq.h.3"
# Links make `man xq_plan_create` show that page, and the same for every other function.
sed -n 's/^XQ_API .*\(xq_[a-z0-9_]*\)(.*/\1/p' include/xq/xq.h | while read -r function; do
    ln -s xq.h.3 "$out/man3/$function.3"
done

awk -v MODELS="$out/help/models" -f scripts/pages/options.awk "$out/help"/xq*.txt >"$out/options"
for shell in bash zsh fish; do
    awk -f "scripts/pages/$shell.awk" "$out/options" >"$out/xq.$shell"
done
