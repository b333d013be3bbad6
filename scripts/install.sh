#!/bin/sh
# Installs what a build made: the program, the libraries, the headers, pkg-config files and a CMake package, man pages,
# completion for shells, documents and examples. What was put where is written to PREFIX/share/xq/manifest, from which
# scripts/uninstall.sh removes it; files of an earlier installation that are no longer part of xq are removed too.
#
#   usage: scripts/install.sh BUILD PREFIX [LIBDIR]       DESTDIR is prepended to both, as packagers expect
#
#   STATIC_LIBS   what programs that link libxq.a need besides
#
# First it is written down what goes where, then it is seen whether all of it can, and only then are files written.
set -eu
program=install
build=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
. scripts/install-paths.sh
check_path PREFIX "$2"
check_path LIBDIR "${3:-$2/lib}"
prefix=$(plain "$2")
libdir=$(plain "${3:-$2/lib}")
version=$(sh scripts/version.sh)
major=${version%%.*}
static_libs=${STATIC_LIBS:--lcjson -lxxhash -lpthread -ldl -lm}
xqrt_libs='-lpthread -ldl -lm'
manifest=$prefix/share/xq/manifest
[ -d "$build/share/man1" ] || die "$build/share is missing; \`make pages\` makes it"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The manifest of an earlier installation, sorted.
: >"$work/before"
if [ -f "$root$manifest" ]; then
    check_manifest "$root$manifest" "$root$manifest" installed
    LC_ALL=C sort -u "$root$manifest" >"$work/before"
fi

# ---------------------------------------------------------------- what goes where
# Lines of $work/plan: the mode, the place without DESTDIR, the source.
tab=$(printf '\t')

# put MODE SOURCE PATH: a file, or a link as it stands.
put() { printf '%s\t%s\t%s\n' "$1" "$3" "$2" >>"$work/plan"; }
# put_link TARGET PATH
put_link() {
    link=$(mktemp -u "$work/link.XXXXXX")
    ln -s "$1" "$link"
    put - "$link" "$2"
}
# put_text PATH, the text on standard input
put_text() {
    text=$(mktemp "$work/text.XXXXXX")
    cat >"$text"
    put 644 "$text" "$1"
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

put 755 "$build/xq" "$prefix/bin/xq"
put_libraries
put_documents

# ---------------------------------------------------------------- whether it can
# check_way PATH: the folder is there or can be made.
check_way() {
    way=$1
    while [ -n "$way" ] && [ ! -d "$root$way" ]; do
        if [ -e "$root$way" ] || [ -h "$root$way" ]; then
            die "$root$way is no folder, and one has to be there; nothing was installed"
        fi
        way=${way%/*}
    done
}
# check_place PATH: a file can be put there.
check_place() {
    check_way "${1%/*}"
    [ ! -d "$root$1" ] || die "$root$1 is a folder, where a file has to go; nothing was installed"
}

check_place "$manifest"
: >"$work/there"
while IFS=$tab read -r mode path source; do
    check_place "$path"
    if [ -e "$root$path" ] || [ -h "$root$path" ]; then echo "f $path" >>"$work/there"; fi
done <"$work/plan"

# What stands in these places and is not of an earlier installation is replaced, as packages and `make install` do.
foreign=$(LC_ALL=C sort -u "$work/there" | LC_ALL=C comm -23 - "$work/before" | sed 's/^f //')
if [ -n "$foreign" ]; then
    others=$(($(printf '%s\n' "$foreign" | wc -l) - 1))
    printf 'install: replaces %s%s, which no earlier installation of xq put there\n' \
        "$root$(printf '%s\n' "$foreign" | head -n 1)" \
        "$([ $others -eq 0 ] || echo " and $others other file$([ $others -eq 1 ] || echo s)")" >&2
fi

# ---------------------------------------------------------------- putting it there
# The manifest has lines `d FOLDER`, which the installation made, and `f FILE`, without DESTDIR. It is written also where
# a step fails: what is there by then can be uninstalled.
echo "f $manifest" >"$work/new"
finish() {
    status=$?
    if [ $status -ne 0 ] && [ ! -d "$root$prefix/" ]; then
        rm -rf "$work"
        exit $status
    fi
    folder "$prefix/share/xq"
    if [ $status -eq 0 ]; then sed -n '/^d /p' "$work/before"; else cat "$work/before"; fi >>"$work/new"
    LC_ALL=C sort -u "$work/new" >"$work/manifest"
    if [ $status -eq 0 ]; then
        LC_ALL=C comm -23 "$work/before" "$work/manifest" | sed -n 's/^f //p' | while IFS= read -r old; do
            rm -f "$root$old"
        done
    fi
    install -T -m 644 "$work/manifest" "$root$manifest"
    rm -rf "$work"
    exit $status
}

# folder PATH: makes it, and those above it. Folders above PREFIX are not ours, but where the installation made them.
folder() {
    [ -d "$root$1/" ] && return
    case $1 in /*/*) folder "${1%/*}" ;; esac
    mkdir -p "$root$1"
    echo "d $1" >>"$work/new"
}

# What has not changed keeps its time (-C), so that a project need not be built anew.
trap finish EXIT
while IFS=$tab read -r mode path source; do
    folder "${path%/*}"
    if [ -h "$source" ]; then
        cp -P "$source" "$root$path.tmp$$"
        mv -fT "$root$path.tmp$$" "$root$path"
    else
        install -C -T -m "$mode" "$source" "$root$path"
    fi
    echo "f $path" >>"$work/new"
done <"$work/plan"
