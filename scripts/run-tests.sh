#!/bin/sh
# Runs test programs and closes with one line: `N passed, N failed`. Exits 1 when anything failed.
#
#   usage: scripts/run-tests.sh [--python PYTHON] [PROGRAM...]
#
# PROGRAM is a Criterion runner. With --python, tests/test_*.py run too; where PYTHON does not exist, each of
# those files counts as skipped. A program that ends without
# its summary (a crash, a time-out) counts as one failed test. Passing programs print one line each.
#
#   JOBS      tests of a program that run at the same time (default 2)
#   TIMEOUT   seconds for one program (default 900)
set -u
cd "$(dirname "$0")/.."
python=
if [ "${1:-}" = --python ]; then
    python=$2
    shift 2
fi
passed=0
failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# report NAME STATUS PASSED FAILED: adds to the sums, shows the log of a failure.
report() {
    if [ "$2" -ne 0 ] && [ "$4" -eq 0 ]; then
        set -- "$1" "$2" "$3" 1
    fi
    passed=$((passed + $3))
    failed=$((failed + $4))
    if [ "$4" -ne 0 ]; then
        printf -- '---- %s: exit status %d\n' "$1" "$2"
        cat "$log"
    fi
    printf '  %-7s %s (%d of %d)\n' "$([ "$4" -eq 0 ] && echo ok || echo FAILED)" "$1" "$3" "$(($3 + $4))"
}

for program in "$@"; do
    timeout --kill-after=10 "${TIMEOUT:-900}" "$program" "-j${JOBS:-2}" --color=never >"$log" 2>&1
    status=$?
    # A test that leaked or raced has passed all the same: its process reports at exit.
    if [ $status -eq 0 ] && grep -q 'ERROR: LeakSanitizer\|WARNING: ThreadSanitizer' "$log"; then
        status=1
    fi
    # [====] Synthesis: Tested: 3 | Passing: 1 | Failing: 2 | Crashing: 1   (crashed ones are failing too)
    sums=$(sed -n 's/.*Synthesis: Tested: \([0-9]*\) | Passing: \([0-9]*\) .*/\1 \2/p' "$log" | tail -n 1)
    if [ -z "$sums" ] && [ $status -eq 0 ]; then
        echo "no summary in its output" >>"$log"
        status=1
    fi
    tested=${sums% *}
    passing=${sums#* }
    report "$(basename "$program")" $status "${passing:-0}" $((${tested:-0} - ${passing:-0}))
done

skipped=0
if [ -n "$python" ]; then
    for program in tests/test_*.py; do
        [ -e "$program" ] || continue
        if ! [ -x "$python" ]; then
            printf '  %-7s %s (no %s; `make venv` makes it)\n' skipped "$(basename "$program")" "$python"
            skipped=$((skipped + 1))
            continue
        fi
        timeout --kill-after=10 "${TIMEOUT:-900}" "$python" -B -m unittest "$program" >"$log" 2>&1
        status=$?
        # Ran 5 tests in 0.1s ... FAILED (failures=1, errors=2)
        tested=$(sed -n 's/^Ran \([0-9]*\) test.*/\1/p' "$log" | tail -n 1)
        if [ "${tested:-0}" -eq 0 ] && [ $status -eq 0 ]; then
            echo "no test was run" >>"$log"
            status=1
        fi
        bad=$(sed -n 's/^FAILED (\(.*\))$/\1/p' "$log" | tr ',' '\n' |
            sed -n 's/^ *\(failures\|errors\|unexpected successes\)=//p' | awk '{ n += $1 } END { print n + 0 }')
        good=$((${tested:-0} - bad))
        report "$(basename "$program")" $status $((good < 0 ? 0 : good)) "$bad"
    done
fi

if [ "$skipped" -eq 0 ]; then
    echo "$passed passed, $failed failed"
else
    echo "$passed passed, $failed failed, $skipped skipped"
fi
[ "$failed" -eq 0 ]
