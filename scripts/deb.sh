#!/bin/sh
# Makes Debian packages out of an installed tree:
#
#   xq                 the program, its man pages, completion
#   libxq0, libxqrt0   the shared libraries; the number is the major version
#   libxq-dev          headers, static libraries, pkg-config and CMake files, xq.h.3
#   xq-doc             the manual and the examples
#
#   usage: scripts/deb.sh TREE LIBDIR WORK OUT
#
# TREE is the result of `make install DESTDIR=TREE PREFIX=/usr LIBDIR=LIBDIR`. WORK is a folder that the script
# replaces. OUT receives the packages. MAINTAINER sets the field of that name. SOURCE_DATE_EPOCH sets the dates in the
# packages.
set -eu
tree=$(cd "$1" && pwd)
libdir=$2
work=$3
out=$4
cd "$(dirname "$0")/.."
version=$(sh scripts/version.sh)
major=${version%%.*}
release=$version-1
architecture=$(dpkg --print-architecture)
maintainer=${MAINTAINER:-xq packagers <packagers@xq.example>}
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(stat -c %Y include/xq/xq.h)}"

rm -rf "$work"
mkdir -p "$work/debian" "$out"
work=$(cd "$work" && pwd)
packages=$work/debian # it has a folder for each package

# Prints the package that a file belongs to, or none.
package_of() {
    case $1 in
    # Only `make uninstall` needs the manifest. Packages have a copyright file instead of LICENSE.
    /usr/share/xq/manifest | */doc/xq/LICENSE) echo none ;;
    "$libdir"/libxq.so.*) echo "libxq$major" ;;
    "$libdir"/libxqrt.so.*) echo "libxqrt$major" ;;
    "$libdir"/* | /usr/include/* | /usr/share/man/man3/*) echo libxq-dev ;;
    /usr/share/doc/*) echo xq-doc ;;
    *) echo xq ;;
    esac
}

# Prints the path at which Debian's shells look for a file.
debian_path() {
    printf '%s' "$1" | sed 's|/zsh/site-functions/|/zsh/vendor-completions/|'
}

(cd "$tree" && find . \( -type f -o -type l \) | sed 's/^\.//') | while IFS= read -r file; do
    package=$(package_of "$file")
    [ "$package" != none ] || continue
    target=$packages/$package$(debian_path "$file")
    mkdir -p "${target%/*}"
    cp -P "$tree$file" "$target"
done
find "$packages" -path '*/man/*' -type f -exec gzip -9n {} +
find "$packages" -path '*/man/*' -type l | while IFS= read -r link; do
    ln -s "$(readlink "$link").gz" "$link.gz"
    rm "$link"
done
strip --strip-unneeded --remove-section=.comment --remove-section=.note \
    "$packages/xq/usr/bin/xq" "$packages/libxq$major$libdir/libxq.so.$version" \
    "$packages/libxqrt$major$libdir/libxqrt.so.$version"
strip --strip-debug --enable-deterministic-archives "$packages/libxq-dev$libdir"/*.a

# ---------------------------------------------------------------- control data
{
    printf 'Source: xq\n'
    for package in xq "libxq$major" "libxqrt$major" libxq-dev xq-doc; do
        printf '\nPackage: %s\nArchitecture: any\n' "$package"
    done
} >"$packages/control"
# needs PACKAGE PATH: sets `needs` to the packages that have the shared libraries of the file.
needs() {
    mkdir -p "$packages/$1/DEBIAN"
    (cd "$work" && dpkg-shlibdeps -O "debian/$1$2" >"$work/needs")
    needs=$(sed -n 's/^shlibs:Depends=//p' "$work/needs")
    [ -n "$needs" ] || {
        echo "deb: dpkg-shlibdeps names no package for $2" >&2
        exit 1
    }
}

put_copyright() {
    cat <<'TEXT'
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: xq

Files: *
Copyright: 2026 the authors of xq
License: Apache-2.0

License: Apache-2.0
 On Debian systems the text of the Apache License, version 2.0, is in
 /usr/share/common-licenses/Apache-2.0.
TEXT
    [ "$1" = libxq-dev ] || return 0
    printf '\nComment: libxq.a contains Lua 5.4, of the package liblua5.4-dev:\n'
    sed 's/^$/./; s/^/ /' /usr/share/doc/liblua5.4-dev/copyright
}

# put_package NAME ARCHITECTURE SECTION DEPENDS SUMMARY: builds a package. Further fields and the description come from
# `about`: lines of fields, an empty line, the text.
put_package() {
    folder=$packages/$1
    doc=$folder/usr/share/doc/$1
    mkdir -p "$folder/DEBIAN" "$doc"
    put_copyright "$1" >"$doc/copyright"
    printf 'xq (%s) unstable; urgency=medium\n\n  * Version %s.\n\n -- %s  %s\n' "$release" "$version" "$maintainer" \
        "$(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$doc/changelog.Debian.gz"
    gzip -9nc CHANGELOG.md >"$doc/changelog.gz"
    if [ -d "$folder$libdir" ] && [ "$1" != libxq-dev ]; then
        # Packages whose files link the library depend on this package. Installing it updates the loader's cache.
        printf '%s %s %s\n' "${1%"$major"}" "$major" "$1 (>= $version)" >"$folder/DEBIAN/shlibs"
        echo 'activate-noawait ldconfig' >"$folder/DEBIAN/triggers"
    fi
    chmod -R u=rwX,go=rX "$folder"
    find "$folder" -name '*.so.*' -type f -exec chmod 644 {} +
    size=$(du -sk --apparent-size "$folder" | cut -f1)
    {
        printf 'Package: %s\nSource: xq\nVersion: %s\nArchitecture: %s\nMaintainer: %s\nInstalled-Size: %s\n' \
            "$1" "$release" "$2" "$maintainer" "$size"
        if [ -n "$4" ]; then printf 'Depends: %s\n' "$4"; fi
        printf 'Section: %s\nPriority: optional\n' "$3"
        sed -n '1,/^$/{/^$/!p}' "$work/about"
        printf 'Description: %s\n' "$5"
        sed -n '1,/^$/!s/^/ /p' "$work/about"
    } >"$folder/DEBIAN/control"
    (cd "$folder" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$folder/DEBIAN/md5sums"
    find "$folder" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    dpkg-deb --root-owner-group --build "$folder" "$out/${1}_${release}_$2.deb" >/dev/null
    echo "  DEB     $out/${1}_${release}_$2.deb"
}

about() { cat >"$work/about"; }
what='xq attends over a cache of low-bit quantized activations and rematerializes
keys inside the attention kernel. It writes, compiles, checks and times CUDA
kernels for a model, a bit width and a GPU.'

about <<TEXT
Multi-Arch: foreign
Suggests: gnuplot-nox, xq-doc

$what
.
This package has the command line. NVRTC, which compiles kernels, is NVIDIA's
and not part of it.
TEXT
needs xq /usr/bin/xq
put_package xq "$architecture" science "$needs" \
    "attention over a cache of quantized activations: command line"

about <<TEXT
Multi-Arch: same

$what
.
This package has the library that goes from a spec to a launch.
TEXT
needs "libxq$major" "$libdir/libxq.so.$version"
put_package "libxq$major" "$architecture" libs "$needs" \
    "attention over a cache of quantized activations: library"

about <<TEXT
Multi-Arch: same

$what
.
This package has the library that launches plans which were compiled elsewhere.
TEXT
needs "libxqrt$major" "$libdir/libxqrt.so.$version"
put_package "libxqrt$major" "$architecture" libs "$needs" \
    "attention over a cache of quantized activations: launcher"

about <<TEXT
Multi-Arch: same
Recommends: libcjson-dev, libxxhash-dev
Suggests: xq-doc, pkgconf

$what
.
This package has the header, the static libraries, and files for pkg-config
and CMake. Programs that link libxq.a need libcjson-dev and libxxhash-dev.
TEXT
put_package libxq-dev "$architecture" libdevel \
    "libxq$major (= $release), libxqrt$major (= $release), libc6-dev" \
    "attention over a cache of quantized activations: development files"

about <<TEXT
Multi-Arch: foreign

$what
.
This package has the manual and the examples.
TEXT
put_package xq-doc all doc "" "attention over a cache of quantized activations: manual"
