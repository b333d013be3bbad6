#!/bin/sh
# Prints the path of an NVRTC library (libnvrtc.so.12 or .13), or fails. It searches the same places as the
# runtime. XQ_HIDE_TOOLKIT=1 leaves out all but the Python environment, to test the set-up without a toolkit.
set -eu
VENV=${VENV:-.venv}
if [ "${XQ_HIDE_TOOLKIT:-0}" != 1 ]; then
    if [ -e "${XQ_NVRTC:-}" ]; then
        echo "$XQ_NVRTC"
        exit 0
    fi
    for directory in ${CUDA_HOME:+"$CUDA_HOME/lib64" "$CUDA_HOME/lib"} \
        /usr/local/cuda/lib64 /usr/local/cuda-1[23]*/lib64 /usr/local/cuda-1[23]*/lib \
        /usr/lib/x86_64-linux-gnu /usr/lib/aarch64-linux-gnu /usr/lib64; do
        for library in "$directory"/libnvrtc.so.1[23]; do
            if [ -e "$library" ]; then
                realpath -s "$library"
                exit 0
            fi
        done
    done
fi
for library in "$VENV"/lib/python3*/site-packages/nvidia/*/lib/libnvrtc.so.1[23]; do
    if [ -e "$library" ]; then
        realpath -s "$library"
        exit 0
    fi
done
exit 1
