#!/bin/sh
# Runs one test program for run-tests.sh. It prints a line with passed tests, all tests and seconds, the skipped tests
# with their reasons, and the whole output if something failed. It writes `PASSED FAILED` to RESULTS/NAME.
#
#   usage: scripts/run-test.sh RESULTS PROGRAM
#
# PROGRAM is a Criterion runner, or a file of Python tests that $PYTHON runs.
set -u
results=$1
program=$2
name=$(basename "$program")
log=$(mktemp)
report=$(mktemp)
trap 'rm -f "$log" "$report"' EXIT

# run COMMAND...: runs a command with its output in the log, and sets status.
run() {
    timeout --kill-after=10 "${TIMEOUT:-900}" "$@" >"$log" 2>&1
    status=$?
}

# run_criterion and run_python set passed and failed. They set a status other than 0 if the output does not say what was
# tested.
run_criterion() {
    run "$program" -j2 --color=never
    # Criterion counts a test that leaked or raced as passed, because its process only reports that at exit. It also
    # counts a test whose tear-down crashed as passed, and only warns.
    if [ $status -eq 0 ] &&
        grep -q 'ERROR: LeakSanitizer\|WARNING: ThreadSanitizer\|crashed during its setup or teardown' "$log"; then
        status=1
    fi
    # [====] Synthesis: Tested: 3 | Passing: 1 | Failing: 2 | Crashing: 1   (crashed tests count as failing, too)
    sums=$(sed -n 's/.*Synthesis: Tested: \([0-9]*\) | Passing: \([0-9]*\) .*/\1 \2/p' "$log" | tail -n 1)
    if [ -z "$sums" ] && [ $status -eq 0 ]; then
        echo "no summary in its output" >>"$log"
        status=1
    elif [ "${sums% *}" = 0 ] && [ $status -eq 0 ]; then
        echo "no test was run" >>"$log"
        status=1
    fi
    sums=${sums:-0 0}
    passed=${sums#* }
    failed=$((${sums% *} - passed))
}

run_python() {
    run "$PYTHON" -B -m unittest -v "$program"
    failed=$(sed -n 's/^FAILED (\(.*\))$/\1/p' "$log" | tr ',' '\n' |
        sed -n 's/^ *\(failures\|errors\|unexpected successes\)=//p' | awk '{ n += $1 } END { print n + 0 }')
    # test_x (tests.test_y.Z.test_x) ... skipped 'why', or "why" if the reason contains a quote
    reasons=$(sed -n "s/.*\.\.\. skipped ['\"]\(.*\)['\"]\$/\1/p" "$log" | sort | uniq -c | sed 's/^ *//')
    skipped=$(echo "$reasons" | awk '{ n += $1 } END { print n + 0 }')
    # Ran 5 tests in 0.1s ... FAILED (failures=1, errors=2)
    tested=$(sed -n 's/^Ran \([0-9]*\) test.*/\1/p' "$log" | tail -n 1)
    if [ "${tested:-0}" -eq 0 ] && [ "$skipped" -eq 0 ] && [ $status -eq 0 ]; then
        echo "no test was run" >>"$log"
        status=1
    fi
    passed=$((${tested:-0} - failed - skipped))
    passed=$((passed < 0 ? 0 : passed))
}

begun=$(date +%s)
reasons=
case $name in
*.py) run_python ;;
*) run_criterion ;;
esac
if [ $status -ne 0 ] && [ "$failed" -eq 0 ]; then
    failed=1
fi
verdict=ok
if [ "$failed" -ne 0 ]; then
    verdict=FAILED
    printf -- '---- %s: exit status %d\n' "$name" $status >"$report"
    cat "$log" >>"$report"
fi
if [ -n "$reasons" ]; then
    echo "$reasons" | while read -r count reason; do
        printf '  %-7s %s: %d (%s)\n' skipped "$name" "$count" "$reason"
    done >>"$report"
fi
printf '  %-7s %s (%d of %d, %d s)\n' $verdict "$name" "$passed" $((passed + failed)) $(($(date +%s) - begun)) >>"$report"
echo "$passed $failed" >"$results/$name"
flock "$results" cat "$report" # the lock keeps reports apart
