#!/bin/sh
# Installs a build: the program, the libraries, the headers, pkg-config files and a CMake package, man pages, completion
# for shells, documents and examples. The installed files are listed in PREFIX/share/xq/manifest, from which
# scripts/uninstall.sh removes them. Files of an earlier installation that are no longer part of xq are removed, too.
#
#   usage: scripts/install.sh BUILD PREFIX [LIBDIR]       DESTDIR is prepended to both, as packagers expect
#
#   STATIC_LIBS   the libraries that programs need in addition to libxq.a
#
# The script first plans which file goes where, then checks that all files can go there, and only then writes files.
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

# ----------------------------------------------------------------------- the plan
# Each line of $work/plan has the mode, the path without DESTDIR, and the source.
tab=$(printf '\t')

# put MODE SOURCE PATH: plans a file, or a link that is copied as a link.
put() { printf '%s\t%s\t%s\n' "$1" "$3" "$2" >>"$work/plan"; }
# put_link TARGET PATH: plans a link to TARGET.
put_link() {
    link=$(mktemp -u "$work/link.XXXXXX")
    ln -s "$1" "$link"
    put - "$link" "$2"
}
# put_text PATH: plans a file with the text on standard input.
put_text() {
    text=$(mktemp "$work/text.XXXXXX")
    cat >"$text"
    put 644 "$text" "$1"
}

# ---------------------------------------------------------------- files for building programs
# Prints the path of a folder for a pkg-config file. Folders below the prefix begin with ${prefix}, so that the prefix
# can be moved.
below_prefix() {
    case $1 in
    "$prefix"/*) printf '%s' "\${prefix}${1#"$prefix"}" ;;
    *) printf '%s' "$1" ;;
    esac
}

# put_pc NAME DESCRIPTION PRIVATE_LIBS: plans a pkg-config file.
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

# ---------------------------------------------------------------- files for people
# put_tree FOLDER PATH: plans the files of a folder, except those that a build left there.
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

# ---------------------------------------------------------------- checks
# check_way PATH: checks that the folder exists or can be made.
check_way() {
    way=$1
    while [ -n "$way" ] && [ ! -d "$root$way" ]; do
        if [ -e "$root$way" ] || [ -h "$root$way" ]; then
            die "$root$way is no folder, and must be one; nothing was installed"
        fi
        way=${way%/*}
    done
}
# check_place PATH: checks that a file can be written there.
check_place() {
    check_way "${1%/*}"
    [ ! -d "$root$1" ] || die "$root$1 is a folder, and must be a file; nothing was installed"
}

check_place "$manifest"
: >"$work/there"
while IFS=$tab read -r mode path source; do
    check_place "$path"
    if [ -e "$root$path" ] || [ -h "$root$path" ]; then echo "f $path" >>"$work/there"; fi
done <"$work/plan"

# Files in these places that no earlier installation wrote are replaced with a note.
foreign=$(LC_ALL=C sort -u "$work/there" | LC_ALL=C comm -23 - "$work/before" | sed 's/^f //')
if [ -n "$foreign" ]; then
    others=$(($(printf '%s\n' "$foreign" | wc -l) - 1))
    printf 'install: replaces %s%s, which no earlier installation of xq put there\n' \
        "$root$(printf '%s\n' "$foreign" | head -n 1)" \
        "$([ $others -eq 0 ] || echo " and $others other file$([ $others -eq 1 ] || echo s)")" >&2
fi

# ---------------------------------------------------------------- writing files
# The manifest has lines `d FOLDER` for folders that the installation made, and `f FILE`, without DESTDIR. It is also
# written if a step fails, so that the files written by then can be uninstalled.
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

# folder PATH: makes a folder and its parents, and lists those that it made in the manifest. Folders that existed before
# are not listed, so uninstalling leaves them.
folder() {
    [ -d "$root$1/" ] && return
    case $1 in /*/*) folder "${1%/*}" ;; esac
    mkdir -p "$root$1"
    echo "d $1" >>"$work/new"
}

# Files that have not changed keep their time (-C), so that projects that depend on them are not rebuilt.
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
