#!/bin/sh
# Installs what a build made: the program, the libraries, the headers, pkg-config files and a CMake package, man pages,
# completion for shells, documents and examples. What was put where is written to PREFIX/share/xq/manifest, from which
# scripts/uninstall.sh removes it; files of an earlier installation that are no longer part of xq are removed too.
#
#   usage: scripts/install.sh BUILD PREFIX [LIBDIR]       DESTDIR is prepended to both, as packagers expect
#
#   STATIC_LIBS   what programs that link libxq.a need besides
set -eu
build=$(cd "$1" && pwd)
prefix=$2
libdir=${3:-$2/lib}
root=${DESTDIR:-}
cd "$(dirname "$0")/.."
version=$(sh scripts/version.sh)
major=${version%%.*}
static_libs=${STATIC_LIBS:--lcjson -lxxhash -lpthread -ldl -lm}
xqrt_libs='-lpthread -ldl -lm'

die() {
    printf 'install: %s\n' "$*" >&2
    exit 1
}
# check_path NAME PATH
check_path() {
    case $2 in
    *[[:space:]]*) die "$1: '$2' has white space, which pkg-config's files cannot hold" ;;
    /*) ;;
    *) die "$1: '$2' is not an absolute path" ;;
    esac
}
check_path PREFIX "$prefix"
check_path LIBDIR "$libdir"
[ -d "$build/share/man1" ] || die "$build/share is missing; \`make pages\` makes it"

# ---------------------------------------------------------------- the manifest
# Lines `d FOLDER`, which the installation made, and `f FILE`, without DESTDIR.
manifest=$prefix/share/xq/manifest
new=$(mktemp)
work=$(mktemp -d)
kept=
if [ -f "$root$manifest" ]; then kept=$(sed -n '/^d /p' "$root$manifest"); fi

# Also where a step fails: what is there by then can be uninstalled.
finish() {
    status=$?
    if [ $status -ne 0 ] && [ ! -d "$root$prefix" ]; then
        rm -rf "$new" "$work"
        exit $status
    fi
    folder "$prefix/share/xq"
    {
        echo "f $manifest"
        if [ -n "$kept" ]; then printf '%s\n' "$kept"; fi
        if [ -f "$root$manifest" ] && [ $status -ne 0 ]; then cat "$root$manifest"; fi
    } >>"$new"
    LC_ALL=C sort -u "$new" >"$work/manifest"
    if [ -f "$root$manifest" ] && [ $status -eq 0 ]; then
        LC_ALL=C comm -23 "$root$manifest" "$work/manifest" | sed -n 's/^f //p' | while IFS= read -r old; do
            rm -f "$root$old"
        done
    fi
    install -m 644 "$work/manifest" "$root$manifest"
    rm -rf "$new" "$work"
    exit $status
}

# folder PATH: makes it, and those above it. Folders above PREFIX are not ours, but where the installation made them.
folder() {
    [ -d "$root$1" ] && return
    case $1 in /*/*) folder "${1%/*}" ;; esac
    mkdir -p "$root$1"
    echo "d $1" >>"$new"
}

# put MODE SOURCE PATH: a file, or a link as it stands. What has not changed keeps its time (-C), so that a project need
# not be built anew.
put() {
    folder "${3%/*}"
    if [ -h "$2" ]; then
        cp -P "$2" "$root$3.tmp$$" && mv -fT "$root$3.tmp$$" "$root$3"
    else
        install -C -m "$1" "$2" "$root$3"
    fi
    echo "f $3" >>"$new"
}
# put_link TARGET PATH
put_link() {
    ln -sf "$1" "$work/link"
    put - "$work/link" "$2"
}
# put_text PATH, the text on standard input
put_text() {
    cat >"$work/text"
    put 644 "$work/text" "$1"
}

# ---------------------------------------------------------------- for building with it
# The path of a folder, as a pkg-config file says it: by ${prefix} where it lies below, so that it can be moved.
below_prefix() {
    case $1 in
    "$prefix"/*) printf '%s' "\${prefix}${1#"$prefix"}" ;;
    *) printf '%s' "$1" ;;
    esac
}

# put_pc NAME DESCRIPTION PRIVATE_LIBS
put_pc() {
    put_text "$libdir/pkgconfig/$1.pc" <<PC
prefix=$prefix
libdir=$(below_prefix "$libdir")
includedir=\${prefix}/include

Name: $1
Description: $2
Version: $version
Cflags: -I\${includedir}
Libs: -L\${libdir} -l$1
Libs.private: $3
PC
}

list() { echo "$*" | tr ' ' ';'; }
put_cmake() {
    sed -e "s|@VERSION@|$version|; s|@MAJOR@|$major|; s|@XQ_STATIC_LIBS@|$(list "$static_libs")|" \
        -e "s|@XQRT_STATIC_LIBS@|$(list "$xqrt_libs")|" \
        -e "s|@INCLUDE_FROM_LIBDIR@|$(realpath -m -s --relative-to="$libdir" "$prefix/include")|" \
        "scripts/cmake/$1.in" | put_text "$libdir/cmake/xq/$1"
}

put_libraries() {
    for header in include/xq/*.h; do put 644 "$header" "$prefix/include/xq/$(basename "$header")"; done
    for name in libxq libxqrt; do
        put 644 "$build/$name.a" "$libdir/$name.a"
        put 755 "$build/$name.so.$version" "$libdir/$name.so.$version"
        put_link "$name.so.$version" "$libdir/$name.so.$major"
        put_link "$name.so.$major" "$libdir/$name.so"
    done
    put_pc xq "Attention over a cache of low-bit quantized activations" "$static_libs"
    put_pc xqrt "Launches kernels that xq compiled, without its generator and compiler" "$xqrt_libs"
    put_cmake xq-config.cmake
    put_cmake xq-config-version.cmake
}

# ---------------------------------------------------------------- for people
# put_tree FOLDER PATH: its files, but for what a build left there.
put_tree() {
    find "$1" \( -name build -o -name __pycache__ -o -name '.*' ! -name . \) -prune -o \
        \( -type f -o -type l \) ! -name '*.o' ! -name '*.d' ! -name '*.a' ! -name '*.so' -print | LC_ALL=C sort |
        while IFS= read -r file; do
            if ! is_program "$file"; then put "$(mode_of "$file")" "$file" "$2${file#"$1"}"; fi
        done
}
mode_of() { if [ -x "$1" ]; then echo 755; else echo 644; fi; }
is_program() { [ "$(head -c 4 "$1" | tr -d '\0')" = "$(printf '\177ELF')" ]; }

put_documents() {
    doc=$prefix/share/doc/xq
    for file in README.md CHANGELOG.md LICENSE; do put 644 "$file" "$doc/$file"; done
    put_tree docs "$doc/docs"
    put_tree examples "$doc/examples"
    for section in 1 3; do
        for page in "$build/share/man$section"/*; do
            put 644 "$page" "$prefix/share/man/man$section/$(basename "$page")"
        done
    done
    put 644 "$build/share/xq.bash" "$prefix/share/bash-completion/completions/xq"
    put 644 "$build/share/xq.zsh" "$prefix/share/zsh/site-functions/_xq"
    put 644 "$build/share/xq.fish" "$prefix/share/fish/vendor_completions.d/xq.fish"
}

trap finish EXIT
put 755 "$build/xq" "$prefix/bin/xq"
put_libraries
put_documents
