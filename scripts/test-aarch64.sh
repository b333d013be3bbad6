#!/bin/sh
# Runs the results of `make aarch64` under qemu: the program, whose generated sources must equal those of this machine's
# program; tests of the portable code that replaces x86 instructions; and examples/minimal with a plan that this machine
# compiled, which must give the same bits as on this machine.
#
#   usage: scripts/test-aarch64.sh BUILD ROOT CC TESTS...
#
# BUILD is this machine's build; the aarch64 build is in BUILD/aarch64. ROOT is the folder with aarch64's libraries. CC
# is a compiler for aarch64.
set -eu
cd "$(dirname "$0")/.."
build=$1
root=$2
cc=$3
shift 3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export QEMU_LD_PREFIX="$root"
there() { qemu-aarch64-static "$@"; }
die() {
    printf 'test-aarch64: %s\n' "$*" >&2
    exit 1
}

for file in xq libxq.so libxqrt.so; do
    case $(od -A n -j 18 -N 2 -t u2 "$build/aarch64/$file") in
    *183) ;; # EM_AARCH64
    *) die "$file is not for aarch64" ;;
    esac
done
[ "$(there "$build/aarch64/xq" --version)" = "xq $(sh scripts/version.sh)" ] || die "xq --version"
XQ_CACHE_DIR='' there "$build/aarch64/xq" info --device sim >"$work/info" || die "xq info"
grep -q 'software device' "$work/info" || die "xq info: $(cat "$work/info")"
there "$build/aarch64/xq" gen --quiet --model llama-3.1-8b --out "$work/there" >"$work/log" || die "xq gen"
"$build/xq" gen --quiet --model llama-3.1-8b --out "$work/here" >"$work/log"
diff -r "$work/here" "$work/there" >&2 || die "xq gen writes other sources"

for test in "$@"; do
    there "$test" >"$work/log" 2>&1 || die "$test: $(cat "$work/log")"
    echo "  ok      $test ($(sed -n 's/.*Tested: \([0-9]*\).*/\1/p' "$work/log"))"
done

# program FOLDER LIBRARY OUTPUT COMPILER...: builds examples/minimal as OUTPUT, linked with FOLDER/LIBRARY.
program() {
    library=$1/$2
    output=$3
    shift 3
    "$@" -O1 -Wall -Werror -Iinclude -Dxq_plan_create=create_or_load -c examples/minimal/minimal.c -o "$work/minimal.o"
    "$@" -O1 -Wall -Werror -Iinclude $flags -c tests/install/plan_image.c -o "$work/plan_image.o"
    "$@" "$work/minimal.o" "$work/plan_image.o" -o "$output" "$library" -Wl,-rpath,"$(dirname "$(realpath "$library")")"
}
export PLAN_IMAGE="$work/plan"
flags=-DMAKES_IMAGE
program "$build" libxq.so "$work/makes" "${HOSTCC:-gcc}"
flags=
# shellcheck disable=SC2086  # a command with arguments
program "$build/aarch64/tests" libxqrt_sim.so "$work/loads" $cc
here=$("$work/makes" sim) || die "examples/minimal on this machine"
there=$(there "$work/loads" sim) || die "examples/minimal on aarch64"
[ "$here" = "$there" ] || die "examples/minimal: here: $here; on aarch64: $there"
echo "  ok      examples/minimal: $there"
