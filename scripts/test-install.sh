#!/bin/sh
# Installs a build into DIRECTORY, and builds examples there from their installed copies against it alone:
# DIRECTORY/shared/NAME with the shared library, DIRECTORY/static/NAME with the static one.
#
#   usage: scripts/test-install.sh BUILD DIRECTORY [CFLAGS [KIND/NAME...]]
#
# Without KIND/NAME: every example that has a Makefile with the shared library, and embed with the static one too.
# (tests/test_examples.c builds the one that is a CMake project.)
set -eu
cd "$(dirname "$0")/.."
build=$1
prefix=$2
flags="-O1 -Wall -Wextra -Werror ${3:-}"
shift "$(($# < 3 ? $# : 3))"
DESTDIR='' sh scripts/install.sh "$build" "$prefix"
examples=$prefix/share/doc/xq/examples
if [ $# -eq 0 ]; then
    for makefile in "$examples"/*/Makefile; do set -- "$@" "shared/$(basename "$(dirname "$makefile")")"; done
    set -- "$@" static/embed
fi

# Nothing else of this checkout or of the make that runs this is seen.
export PKG_CONFIG_PATH="$prefix/lib/pkgconfig" PATH="$prefix/bin:$PATH"
unset MAKEFLAGS MAKELEVEL BUILD CFLAGS CXXFLAGS LDFLAGS
cp -r "$examples" "$prefix/shared" # all of them: some use files of others
cp -r "$examples" "$prefix/static"
for example in "$@"; do
    make --no-print-directory -s -j2 -C "$prefix/$example" CFLAGS="$flags" CXXFLAGS="$flags" \
        STATIC="$([ "${example%/*}" = static ] && echo 1 || echo 0)"
done
