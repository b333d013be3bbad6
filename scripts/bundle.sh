#!/bin/sh
# Assembles the GPU bundle around an xq whose libraries are linked statically (make gpu-bundle).
#
#   usage: scripts/bundle.sh XQ DIRECTORY
set -eu
cd "$(dirname "$0")/.."
xq=$1
out=$2

rm -rf "$out.new"
mkdir -p "$out.new/bin" "$out.new/lib"
strip -o "$out.new/bin/xq" "$xq"
# cJSON is the only library without a static version in Debian.
cjson=$(ldd "$xq" | sed -n 's/.*libcjson\.so\.1 => \([^ ]*\).*/\1/p')
cp -L "$cjson" "$out.new/lib/libcjson.so.1"
cp scripts/bundle/run-all.sh scripts/bundle/README.md scripts/peers.py LICENSE "$out.new/"
chmod 755 "$out.new/run-all.sh" "$out.new/bin/xq"
rm -rf "$out"
mv "$out.new" "$out"
du -sh "$out"
