#!/bin/sh
# Makes the source archive OUT/xq-VERSION.tar.gz of the commit that is checked out. The same commit always gives the
# same bytes, because files carry the date of the commit. `make` builds from the archive without git.
#
#   usage: scripts/dist.sh OUT
set -eu
cd "$(dirname "$0")/.."
out=$1
name=xq-$(git show HEAD:include/xq/xq.h | sh scripts/version.sh -)
if [ -n "$(git status --porcelain --untracked-files=no)" ]; then
    echo "dist: changes that are not committed are not part of the archive" >&2
fi
mkdir -p "$out"
git archive --format=tar --prefix="$name/" HEAD | gzip -9n >"$out/$name.tar.gz.tmp"
mv "$out/$name.tar.gz.tmp" "$out/$name.tar.gz"
echo "  DIST    $out/$name.tar.gz"
