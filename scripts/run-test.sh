#!/bin/sh
# Runs one test program for run-tests.sh: shows its line (passed of all, and seconds), what it skipped and why, and all its
# output where something failed; leaves `PASSED FAILED` in RESULTS/NAME.
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

# run COMMAND...: into the log; sets status.
run() {
    timeout --kill-after=10 "${TIMEOUT:-900}" "$@" >"$log" 2>&1
    status=$?
}

# Both set passed, failed, and a status other than 0 where nothing says what was tested.
run_criterion() {
    run "$program" -j2 --color=never
    # A test that leaked or raced has passed all the same: its process reports at exit. So has one whose tear-down
    # crashed, of which Criterion only warns.
    if [ $status -eq 0 ] &&
        grep -q 'ERROR: LeakSanitizer\|WARNING: ThreadSanitizer\|crashed during its setup or teardown' "$log"; then
        status=1
    fi
    # [====] Synthesis: Tested: 3 | Passing: 1 | Failing: 2 | Crashing: 1   (crashed ones are failing too)
    sums=$(sed -n 's/.*Synthesis: Tested: \([0-9]*\) | Passing: \([0-9]*\) .*/\1 \2/p' "$log" | tail -n 1)
    if [ -z "$sums" ] && [ $status -eq 0 ]; then
        echo "no summary in its output" >>"$log"
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
    # test_x (tests.test_y.Z.test_x) ... skipped 'why', or "why" where it has a quote in it
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
flock "$results" cat "$report" # whole, whoever ends at the same time
