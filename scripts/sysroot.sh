#!/bin/sh
# Makes a folder with the headers and libraries of another Debian architecture, with which xq is built and run. Packages
# are downloaded with apt-get, which keeps its state in DIRECTORY.apt, and unpacked into DIRECTORY. Nothing is installed
# on this machine. The script is quick if the folder is complete.
#
#   usage: scripts/sysroot.sh ARCHITECTURE TRIPLET DIRECTORY        e.g. arm64 aarch64-linux-gnu build/aarch64/sysroot
set -eu
architecture=$1
libraries=usr/lib/$2
packages='libc6-dev liblua5.4-dev libcjson-dev libxxhash-dev libsqlite3-dev liblapacke-dev libopenblas-dev'
[ "$(cat "$3/complete" 2>/dev/null)" = "$packages" ] && exit
die() {
    printf 'sysroot: %s\n' "$*" >&2
    exit 3
}
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || die "apt-get and dpkg-deb are missing; they come with Debian and Ubuntu"

rm -rf "$3"
mkdir -p "$3"
root=$(cd "$3" && pwd)
state=$root.apt
log=$root.log
rm -rf "$state"
mkdir -p "$state/lists/partial" "$state/archives/partial"
: >"$state/status" # no package counts as installed, so all dependencies are downloaded
apt() {
    apt-get -o APT::Architecture="$architecture" -o APT::Architectures="$architecture" -o Dir::State="$state" \
        -o Dir::State::status="$state/status" -o Dir::State::lists="$state/lists" -o Dir::Cache="$state" \
        -o Dir::Cache::archives="$state/archives" -o Debug::NoLocking=1 -o APT::Sandbox::User="$(id -un)" "$@" \
        >"$log" 2>&1 || die "$(tail -n 5 "$log")"
}
printf '  %-7s %s\n' SYSROOT "$3"
apt update
# shellcheck disable=SC2086  # a list of words
apt install -y --no-install-recommends --download-only $packages
for package in "$state"/archives/*.deb; do dpkg-deb -x "$package" "$root"; done

# Absolute links are made to point into this folder.
find "$root" -type l -lname '/*' | while IFS= read -r link; do ln -sfrT "$root$(readlink "$link")" "$link"; done

# Debian selects an implementation of BLAS by links that installing a package makes. These are the same links.
for header in "$root/usr/include/$2/openblas-pthread"/*.h; do
    ln -sf "openblas-pthread/${header##*/}" "$root/usr/include/$2/${header##*/}"
done
for name in libopenblas.so libopenblas.so.0 libblas.so.3 liblapack.so.3; do
    ln -sf "openblas-pthread/$name" "$root/$libraries/$name"
done
rm -rf "$state" "$log"
echo "$packages" >"$root/complete"
