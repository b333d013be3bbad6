#!/bin/sh
# Runs test programs. The last line is `N passed, N failed`, with the number of skipped files if there are any. Exits
# with 1 if anything failed.
#
#   usage: scripts/run-tests.sh [--python PYTHON] [PROGRAM...]
#
# PROGRAM is a Criterion runner. With --python, the test_*.py in the folders of tests/ run as well; if PYTHON does not
# exist, each of these files counts as skipped. A program that ends without its summary (a crash, a time-out) counts as
# one failed test. Lines come in the order in which programs end.
#
#   JOBS      programs that run at the same time (default 2, because a program's last test leaves a core idle)
#   TIMEOUT   seconds for one program (default 900)
set -u
cd "$(dirname "$0")/.."
export XQ_TUNED= # tests use the families' default parameters, except those that name a table
unset XQ_KERNELS XQ_NO_COMPILE
PYTHON=
if [ "${1:-}" = --python ]; then
    PYTHON=$2
    shift 2
fi
export PYTHON
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
skipped=0
if [ -n "$PYTHON" ]; then
    for program in tests/*/test_*.py tests/*/*/test_*.py; do
        [ -e "$program" ] || continue
        if [ -x "$PYTHON" ]; then
            set -- "$@" "$program"
        else
            printf '  %-7s %s (no %s; `make venv` makes it)\n' skipped "$(basename "$program")" "$PYTHON"
            skipped=$((skipped + 1))
        fi
    done
fi
if [ $# -gt 0 ]; then
    printf '%s\0' "$@" | xargs -0 -n 1 -P "${JOBS:-2}" sh scripts/run-test.sh "$results"
fi

# A program that left no result was killed together with the shell that ran it.
for program in "$@"; do
    [ -e "$results/$(basename "$program")" ] || echo "0 1" >"$results/$(basename "$program")"
done
sums=$(find "$results" -type f -exec cat {} + | awk '{ p += $1; f += $2 } END { printf "%d passed, %d failed", p, f }')
if [ "$skipped" -eq 0 ]; then
    echo "$sums"
else
    echo "$sums, $skipped skipped"
fi
case $sums in
*' 0 failed') ;;
*) exit 1 ;;
esac
