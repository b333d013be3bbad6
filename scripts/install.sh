#!/bin/sh
# Installs what a build made: the program, the libraries, the header, the pkg-config files.
#
#   usage: scripts/install.sh BUILD PREFIX [LIBDIR]       DESTDIR is prepended to both, as packagers expect
#
#   STATIC_LIBS   what programs that link libxq.a need besides
set -eu
build=$1
prefix=$2
libdir=${3:-$2/lib}
root=${DESTDIR:-}
cd "$(dirname "$0")/.."
version=$(awk '/define XQ_VERSION_M|define XQ_VERSION_P/ { printf "%s%s", dot, $3; dot = "." }' include/xq/xq.h)

# write_pc NAME DESCRIPTION PRIVATE_LIBS
write_pc() {
    cat >"$root$libdir/pkgconfig/$1.pc" <<PC
prefix=$prefix
libdir=$libdir
includedir=\${prefix}/include

Name: $1
Description: $2
Version: $version
Cflags: -I\${includedir}
Libs: -L\${libdir} -l$1
Libs.private: $3
PC
}

install -d "$root$prefix/bin" "$root$prefix/include/xq" "$root$libdir/pkgconfig"
install -m 755 "$build/xq" "$root$prefix/bin/xq"
# -C: what has not changed keeps its time, so that a project need not be built anew.
install -C -m 644 include/xq/*.h "$root$prefix/include/xq/"
for name in libxq libxqrt; do
    install -C -m 644 "$build/$name.a" "$root$libdir/$name.a"
    install -m 755 "$build/$name.so.$version" "$root$libdir/$name.so.$version"
    ln -sf "$name.so.$version" "$root$libdir/$name.so.${version%%.*}"
    ln -sf "$name.so.${version%%.*}" "$root$libdir/$name.so"
done
write_pc xq "Attention over a cache of low-bit quantized activations" \
    "${STATIC_LIBS:--lcjson -lxxhash -lpthread -ldl -lm}"
write_pc xqrt "Launches kernels that xq compiled, without its generator and compiler" "-lpthread -ldl -lm"
