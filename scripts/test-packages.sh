#!/bin/sh
# Checks the source archive and the Debian packages. `make dist` must give the same bytes twice. From the archive,
# without git, `make` must build and install the same files as from here. The packages must together have exactly the
# installed files, and lintian must find no error.
#
#   usage: scripts/test-packages.sh BUILD          after `make deb dist`, whose results are in dist and BUILD/deb
set -eu
cd "$(dirname "$0")/.."
build=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
version=$(sh scripts/version.sh)
triplet=$(${CC:-gcc} -dumpmachine)
die() {
    printf 'test-packages: %s\n' "$*" >&2
    exit 1
}

# ---------------------------------------------------------------- the packages
files() { dpkg-deb --fsys-tarfile dist/"$1"_"$version"-1_"$2".deb | tar -t | sed -n 's|^\./||; /[^/]$/p'; }
# has PACKAGE ARCHITECTURE PATH...: checks that a package has these files.
has() {
    package=$1
    files "$1" "$2" >"$work/files"
    shift 2
    for path in "$@"; do grep -Fxq "$path" "$work/files" || die "$package lacks $path"; done
}
architecture=$(dpkg --print-architecture)
major=${version%%.*}
lib=usr/lib/$triplet
has xq "$architecture" usr/bin/xq usr/share/man/man1/xq-tune-report.1.gz usr/share/doc/xq/copyright \
    usr/share/bash-completion/completions/xq usr/share/zsh/vendor-completions/_xq \
    usr/share/fish/vendor_completions.d/xq.fish
for name in xq xqrt; do
    has "lib$name$major" "$architecture" "$lib/lib$name.so.$version" "$lib/lib$name.so.$major"
    has libxq-dev "$architecture" "$lib/lib$name.so" "$lib/lib$name.a" "$lib/pkgconfig/$name.pc"
done
has libxq-dev "$architecture" usr/include/xq/xq.h "$lib/cmake/xq/xq-config.cmake" usr/share/man/man3/xq.h.3.gz \
    usr/share/man/man3/xq_plan_create.3.gz
has xq-doc all usr/share/doc/xq/docs/building.md usr/share/doc/xq/docs/idea.svg usr/share/doc/xq/examples/minimal/minimal.c

# The packages together are the installed tree, and each file is in one package.
for package in xq libxq"$major" libxqrt"$major" libxq-dev; do files $package "$architecture"; done >"$work/packaged"
files xq-doc all >>"$work/packaged"
twice=$(sort "$work/packaged" | uniq -d)
[ -z "$twice" ] || die "in two packages: $twice"
grep -v 'usr/share/doc/[^/]*/\(copyright\|changelog\(.Debian\)\?.gz\)$' "$work/packaged" |
    sed 's|\(/man/.*\)\.gz$|\1|; s|zsh/vendor-completions|zsh/site-functions|' | LC_ALL=C sort >"$work/there"
sed -n 's|^f /||p' "$build/deb/tree/usr/share/xq/manifest" | grep -v 'share/xq/manifest$\|doc/xq/LICENSE$' |
    LC_ALL=C sort >"$work/expected"
diff "$work/expected" "$work/there" >&2 || die "the packages are not the installed tree"

dpkg-deb --field dist/libxq"$major"_"$version"-1_"$architecture".deb Depends >"$work/depends"
grep -q 'libc6 .*liblua5.4-0 .*libxxhash0' "$work/depends" || die "libxq$major depends on: $(cat "$work/depends")"
lintian --no-cfg --fail-on error --suppress-tags initial-upload-closes-no-bugs \
    dist/*_"$version"-1_"$architecture".deb dist/xq-doc_"$version"-1_all.deb >"$work/lintian" 2>&1 ||
    die "$(cat "$work/lintian")"

# ---------------------------------------------------------------- the archive
sh scripts/dist.sh "$work" >/dev/null
cmp dist/xq-"$version".tar.gz "$work/xq-$version.tar.gz" || die "the archive of one commit has two forms"
tar -C "$work" -xf dist/xq-"$version".tar.gz
[ -e "$work/xq-$version/Makefile" ] || die "the archive has no xq-$version/Makefile"
mkdir "$work/bin"
printf '#!/bin/sh\necho git was called: "$@" >&2\nexit 1\n' >"$work/bin/git"
chmod 755 "$work/bin/git"
# The program runs little here, so it is compiled without optimization, which is quick.
PATH="$work/bin:$PATH" make --no-print-directory -s -j2 -C "$work/xq-$version" CFLAGS=-O0 WERROR=0 \
    install DESTDIR="$work/tree" PREFIX=/usr LIBDIR="/usr/lib/$triplet" >"$work/log" 2>&1 || die "$(tail -n 20 "$work/log")"
! grep -q 'git was called' "$work/log" || die "$(grep 'git was called' "$work/log")"
"$work/tree/usr/bin/xq" --version | grep -qx "xq $version" || die "the program of the archive does not run"
if git diff --quiet HEAD && [ -z "$(git ls-files --others --exclude-standard)" ]; then
    diff "$build/deb/tree/usr/share/xq/manifest" "$work/tree/usr/share/xq/manifest" >&2 ||
        die "the archive installs other files than this folder"
fi
make --no-print-directory -s -C "$work/xq-$version" uninstall DESTDIR="$work/tree" PREFIX=/usr
[ -z "$(find "$work/tree" -mindepth 1)" ] || die "left by uninstall: $(find "$work/tree" -mindepth 1 | head)"
echo "packages and archive are well"
