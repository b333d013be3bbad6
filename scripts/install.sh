#!/bin/sh
# Installs what a build made: the program, the libraries, the header, the pkg-config file.
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
soname=libxq.so.${version%%.*}

install -d "$root$prefix/bin" "$root$prefix/include/xq" "$root$libdir/pkgconfig"
install -m 755 "$build/xq" "$root$prefix/bin/xq"
# -C: what has not changed keeps its time, so that a project need not be built anew.
install -C -m 644 include/xq/*.h "$root$prefix/include/xq/"
install -C -m 644 "$build/libxq.a" "$root$libdir/libxq.a"
install -m 755 "$build/libxq.so.$version" "$root$libdir/libxq.so.$version"
ln -sf "libxq.so.$version" "$root$libdir/$soname"
ln -sf "$soname" "$root$libdir/libxq.so"
cat >"$root$libdir/pkgconfig/xq.pc" <<PC
prefix=$prefix
libdir=$libdir
includedir=\${prefix}/include

Name: xq
Description: Attention over a cache of low-bit quantized activations
Version: $version
Cflags: -I\${includedir}
Libs: -L\${libdir} -lxq
Libs.private: ${STATIC_LIBS:--lcjson -lxxhash -lpthread -ldl -lm}
PC
