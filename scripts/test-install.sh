#!/bin/sh
# Installs a build into DIRECTORY, and builds the installed examples there against this installation only:
# DIRECTORY/shared/NAME with the shared library, and DIRECTORY/static/NAME with the static one.
#
#   usage: scripts/test-install.sh BUILD DIRECTORY [CFLAGS [KIND/NAME...]]
#
# Without KIND/NAME, it builds every example that has a Makefile with the shared library, and embed also with the static
# one. (tests/examples/test_examples.c builds the example that is a CMake project.)
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

# The builds must not see other files of this checkout, nor the variables of the make that runs this script.
export PKG_CONFIG_PATH="$prefix/lib/pkgconfig" PATH="$prefix/bin:$PATH"
unset MAKEFLAGS MAKELEVEL BUILD CFLAGS CXXFLAGS LDFLAGS
cp -r "$examples" "$prefix/shared" # all examples, because some use files of others
cp -r "$examples" "$prefix/static"
for example in "$@"; do
    make --no-print-directory -s -j2 -C "$prefix/$example" CFLAGS="$flags" CXXFLAGS="$flags" \
        STATIC="$([ "${example%/*}" = static ] && echo 1 || echo 0)"
done
