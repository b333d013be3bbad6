#!/bin/sh
# Prints the version, MAJOR.MINOR.PATCH, which is defined only in include/xq/xq.h. With `-` it prints the version of a
# header on standard input.
cd "$(dirname "$0")/.." || exit
awk '/define XQ_VERSION_M|define XQ_VERSION_P/ { printf "%s%s", dot, $3; dot = "." } END { print "" }' \
    "${1:-include/xq/xq.h}"
