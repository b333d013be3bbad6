#!/bin/sh
# Prints what a GPU will issue of a kernel: the instruction mix of its hottest loop (SASS, by nvdisasm).
set -eu
usage() {
    cat <<'EOF'
usage: scripts/sass.sh [--arch ARCH[,ARCH]] [--family NAME[,NAME]] [--listing] SPEC-OPTION...
       scripts/sass.sh [--listing] FILE.cubin...

Prints the instruction mix of the hottest loop of compiled kernels, the share of matrix instructions, and how many
instructions of the kernel access local memory (register spills).

The hottest loop is the innermost loop with the most matrix instructions. If several have as many, or no loop has any,
it is the one of them with the most instructions. Counts are instructions in the code of the loop, not how often they
run. The rows are the classes of `xq compare --profile --json`; moves, nop, local and constant memory have rows too.

  --arch ARCH[,ARCH]      architectures to compile for (sm_80,sm_89,sm_90,sm_120)
  --family NAME[,NAME]    kernels to compile (attend)
  --listing               also print the loops, with the lines of the templates
  SPEC-OPTION             options of `xq gen` that describe a model and its cache: --model llama-3.1-8b --bits 4
  FILE.cubin              file that `xq gen --cubin` wrote

environment:
  XQ         the program (build/xq)
  NVDISASM   the disassembler (the first in VIRTUAL_ENV or .venv, CUDA_HOME, PATH)
EOF
}
die() { # STATUS MESSAGE
    printf 'sass: %s\n' "$2" >&2
    exit "$1"
}
here=$(cd "$(dirname "$0")" && pwd)
xq=${XQ:-$here/../build/xq}

# ---------------------------------------------------------------- options
arch=sm_80,sm_89,sm_90,sm_120
family=attend
listing=
compiles=
left=$#
while [ "$left" -gt 0 ]; do # other arguments move to the end
    case $1 in
    --help | -h)
        usage
        exit
        ;;
    --arch | --family)
        if [ "$left" -lt 2 ] || [ -z "$2" ]; then
            die 2 "$1: needs a value; \`scripts/sass.sh --help\` shows it"
        fi
        if [ "$1" = --arch ]; then arch=$2; else family=$2; fi
        compiles=$1
        shift
        left=$((left - 1))
        ;;
    --arch=?* | --family=?*)
        compiles=${1%%=*}
        if [ "$compiles" = --arch ]; then arch=${1#*=}; else family=${1#*=}; fi
        ;;
    --listing) listing=--listing ;;
    *) set -- "$@" "$1" ;;
    esac
    shift
    left=$((left - 1))
done
[ $# -gt 0 ] || die 2 "there is nothing to show; give FILE.cubin, or a spec, for example --model llama-3.1-8b"

# ---------------------------------------------------------------- tools
find_nvdisasm() {
    for candidate in "${VIRTUAL_ENV:-$here/../.venv}"/lib/python3*/site-packages/nvidia/*/bin/nvdisasm \
        "${CUDA_HOME:-/usr/local/cuda}/bin/nvdisasm"; do
        if [ -x "$candidate" ]; then
            echo "$candidate"
            return
        fi
    done
    command -v nvdisasm
}
if [ -n "${NVDISASM:-}" ]; then
    [ -x "$NVDISASM" ] || die 3 "NVDISASM=$NVDISASM is no program"
else
    NVDISASM=$(find_nvdisasm) ||
        die 3 "nvdisasm is missing: \`sh scripts/deps.sh sass\` installs it (nvidia-cuda-nvdisasm of PyPI)"
fi

# ---------------------------------------------------------------- cubins
case $1 in
*.cubin)
    [ -z "$compiles" ] || die 2 "$compiles: has no effect on cubins, which are compiled already; leave it out"
    for file; do
        case $file in
        *.cubin) ;;
        *) die 2 "$file: this is no cubin, and cubins are given; give only cubins, or only a spec" ;;
        esac
    done
    ;;
*)
    [ -x "$xq" ] || die 3 "$xq is not built (\`make\`); XQ names another"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    "$xq" gen --quiet --cubin --out "$work" --arch "$arch" --family "$family" "$@"
    set --
    for name in $(echo "$family" | tr ',' ' '); do
        for one in $(echo "$arch" | tr ',' ' '); do
            set -- "$@" "$work/$name.$one.cubin"
        done
    done
    ;;
esac
python3 "$here/sass.py" --nvdisasm "$NVDISASM" $listing "$@"
