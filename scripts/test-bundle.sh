#!/bin/sh
# Checks dist/xq-gpu-bundle. It must be small, need nothing but glibc 2.34 or older, and run on the software
# device when it is copied to another place and started in an empty environment.
#
#   usage: scripts/test-bundle.sh [DIRECTORY]
set -eu
cd "$(dirname "$0")/.."
bundle=${1:-dist/xq-gpu-bundle}
die() {
    echo "test-bundle: $*" >&2
    exit 1
}

size=$(du -sk "$bundle" | cut -f1)
[ "$size" -lt $((40 * 1024)) ] || die "$size KiB; the limit is 40 MiB"

for file in "$bundle/bin/xq" "$bundle/lib/libcjson.so.1"; do
    # The files may only need glibc and the library that is in the bundle.
    extra=$(objdump -p "$file" | awk '/NEEDED/ { print $2 }' |
        grep -vE '^(libc|libm|libpthread|libdl|ld-linux-x86-64|libcjson)\.so\.' || true)
    [ -z "$extra" ] || die "$file needs $extra"
    newest=$(objdump -T "$file" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -uV | tail -n 1)
    [ "$(printf '%s\n2.34\n' "$newest" | sort -V | tail -n 1)" = 2.34 ] || die "$file needs glibc $newest"
    echo "$file: glibc $newest"
done

nvrtc=$(sh scripts/find-nvrtc.sh) || die "no NVRTC on this machine to test with"
elsewhere=$(mktemp -d)
trap 'rm -rf "$elsewhere"' EXIT
cp -r "$bundle" "$elsewhere/bundle"
cd "$elsewhere"
env -i PATH=/usr/bin:/bin XQ_NVRTC="$nvrtc" OUT=results DEVICE=sim ./bundle/run-all.sh
for file in results/*.json; do
    python3 -c 'import json, sys; json.load(open(sys.argv[1]))' "$file" || die "$file is not JSON"
done
echo "bundle: $((size / 1024)) MiB, runs in an empty environment"
