#!/bin/sh
# Removes what scripts/install.sh put under PREFIX (and LIBDIR), as its manifest lists it: the files, and the folders
# that it made where nothing else is in them now.
#
#   usage: scripts/uninstall.sh PREFIX       DESTDIR is prepended
set -eu
root=${DESTDIR:-}
manifest=$1/share/xq/manifest
if [ ! -f "$root$manifest" ]; then
    printf 'uninstall: nothing was installed under %s: there is no %s\n' "$root$1" "$root$manifest" >&2
    exit 1
fi
list=$(mktemp)
trap 'rm -f "$list"' EXIT
cp "$root$manifest" "$list"
sed -n 's/^f //p' "$list" | while IFS= read -r file; do rm -f "$root$file"; done
sed -n 's/^d //p' "$list" | LC_ALL=C sort -r | while IFS= read -r folder; do
    if [ -d "$root$folder" ]; then rmdir --ignore-fail-on-non-empty "$root$folder"; fi
done
