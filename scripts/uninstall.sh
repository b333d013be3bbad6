#!/bin/sh
# Removes the files that scripts/install.sh wrote under PREFIX and LIBDIR, as listed in its manifest, and the folders
# that it made, unless they hold other files. If something cannot be removed, the script removes the rest and exits with
# 1. If files are left, the manifest lists them for another try.
#
#   usage: scripts/uninstall.sh PREFIX [LIBDIR]       DESTDIR is prepended to both
set -eu
program=uninstall
cd "$(dirname "$0")/.."
. scripts/install-paths.sh
check_path PREFIX "$1"
check_path LIBDIR "${2:-$1/lib}"
prefix=$(plain "$1")
libdir=$(plain "${2:-$1/lib}")
manifest=$prefix/share/xq/manifest
[ -f "$root$manifest" ] || die "nothing was installed under $root$prefix: there is no $root$manifest"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$root$manifest" "$work/manifest"
check_manifest "$work/manifest" "$root$manifest" removed

: >"$work/left"
# remove COMMAND PATH: removes a path. If the command fails, it prints the reason and the path is noted.
remove() { $1 "$root$2" || echo "$2" >>"$work/left"; }

sed -n 's/^f //p' "$work/manifest" | grep -vxF "$manifest" >"$work/files" || :
while IFS= read -r file; do remove 'rm -f' "$file"; done <"$work/files"
if [ -s "$work/left" ]; then
    { sed 's/^/f /' "$work/left"; echo "f $manifest"; sed -n '/^d /p' "$work/manifest"; } | LC_ALL=C sort -u >"$work/new"
    cp "$work/new" "$root$manifest"
else
    remove 'rm -f' "$manifest"
fi
sed -n 's/^d //p' "$work/manifest" | LC_ALL=C sort -r >"$work/folders"
while IFS= read -r folder; do
    if [ -d "$root$folder" ]; then remove 'rmdir --ignore-fail-on-non-empty' "$folder"; fi
done <"$work/folders"

if [ -s "$work/left" ]; then
    while IFS= read -r path; do printf 'uninstall: left: %s\n' "$root$path"; done <"$work/left" >&2
    exit 1
fi
