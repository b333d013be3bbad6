#!/bin/sh
# Installs a build into DIRECTORY, and builds the examples there against it: DIRECTORY/shared/embed with the
# shared library, DIRECTORY/static/embed with the static one; DIRECTORY/minimal/minimal, the same as C++
# (minimal-cpp), and DIRECTORY/llama/llama with the shared one.
#
#   usage: scripts/test-install.sh BUILD DIRECTORY [CFLAGS]
set -eu
cd "$(dirname "$0")/.."
build=$1
prefix=$2
DESTDIR='' sh scripts/install.sh "$build" "$prefix"
for kind in shared static; do
    cp -r examples/embed "$prefix/$kind"
    rm -f "$prefix/$kind/embed" "$prefix/$kind/layers"
    env -u MAKEFLAGS PKG_CONFIG_PATH="$prefix/lib/pkgconfig" make --no-print-directory -s -C "$prefix/$kind" \
        CFLAGS="-O1 -Wall -Wextra -Werror ${3:-}" STATIC="$([ "$kind" = static ] && echo 1 || echo 0)"
done
cp -r examples/minimal "$prefix/minimal"
rm -f "$prefix/minimal/minimal" "$prefix/minimal/minimal-cpp"
env -u MAKEFLAGS PKG_CONFIG_PATH="$prefix/lib/pkgconfig" make --no-print-directory -s -C "$prefix/minimal" \
    CFLAGS="-O1 -Wall -Wextra -Werror ${3:-}" CXXFLAGS="-O1 -Wall -Wextra -Werror ${3:-}"
env -u MAKEFLAGS PKG_CONFIG_PATH="$prefix/lib/pkgconfig" make --no-print-directory -s -j2 -C examples/llama \
    BUILD="$prefix/llama" CFLAGS="-O1 -Wall -Wextra -Werror ${3:-}" STATIC=0
