#!/bin/sh
# Prints the version, MAJOR.MINOR.PATCH, which stands in include/xq/xq.h alone.
cd "$(dirname "$0")/.." &&
    awk '/define XQ_VERSION_M|define XQ_VERSION_P/ { printf "%s%s", dot, $3; dot = "." } END { print "" }' include/xq/xq.h
