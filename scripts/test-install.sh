#!/bin/sh
# Installs a build into DIRECTORY, and builds every example there from its installed copy against it alone:
# DIRECTORY/shared/NAME with the shared library, and DIRECTORY/static/embed with the static one. An example is a folder
# with a Makefile or a CMakeLists.txt.
#
#   usage: scripts/test-install.sh BUILD DIRECTORY [CFLAGS]
set -eu
cd "$(dirname "$0")/.."
build=$1
prefix=$2
flags="-O1 -Wall -Wextra -Werror ${3:-}"
DESTDIR='' sh scripts/install.sh "$build" "$prefix"

# Nothing else of this checkout or of the make that runs this is seen.
export PKG_CONFIG_PATH="$prefix/lib/pkgconfig" CMAKE_PREFIX_PATH="$prefix" PATH="$prefix/bin:$PATH"
unset MAKEFLAGS MAKELEVEL BUILD CFLAGS CXXFLAGS LDFLAGS

# build_example KIND NAME STATIC
build_example() {
    folder=$prefix/$1/$2
    mkdir -p "$prefix/$1"
    cp -r "$prefix/share/doc/xq/examples/$2" "$folder"
    if [ -f "$folder/Makefile" ]; then
        make --no-print-directory -s -j2 -C "$folder" CFLAGS="$flags" CXXFLAGS="$flags" STATIC="$3"
    else
        cmake -S "$folder" -B "$folder/build" -DCMAKE_C_FLAGS="$flags" -DCMAKE_CXX_FLAGS="$flags" >"$folder.log" ||
            { cat "$folder.log"; exit 1; }
        make --no-print-directory -s -j2 -C "$folder/build"
    fi
}

for folder in "$prefix"/share/doc/xq/examples/*/; do
    name=$(basename "$folder")
    if [ -f "$folder/Makefile" ] || [ -f "$folder/CMakeLists.txt" ]; then build_example shared "$name" 0; fi
done
build_example static embed 1
