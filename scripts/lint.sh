#!/bin/sh
# Formatting (clang-format), static analysis (clang-tidy, cppcheck) and include directions of our C sources; links between
# our pages.
# Prints what is wrong and exits 1; prints one line per checker when clean.
#
#   usage: CPPFLAGS='...' scripts/lint.sh [FILE.c...]     default: every C source
set -u
cd "$(dirname "$0")/.."
failed=0
result() {
    printf '  %-7s %s\n' "$([ "$1" -eq 0 ] && echo ok || echo FAILED)" "$2"
    [ "$1" -eq 0 ] || failed=1
}

if [ $# -eq 0 ]; then
    # shellcheck disable=SC2046  # no white space in our file names
    set -- $(find gen runtime sim prepare autotune cli tests examples -name '*.c' 2>/dev/null | sort)
fi
headers=$(find include gen runtime sim prepare autotune cli tests examples templates/lib -name '*.h' 2>/dev/null)

python3 scripts/check-includes.py
result $? "include directions"

python3 scripts/check-links.py
result $? "links between pages"

# shellcheck disable=SC2086
clang-format --dry-run -Werror "$@" $headers
result $? "clang-format"

# One line a finding.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
printf '%s\n' "$@" | xargs -P "${JOBS:-2}" -n 4 sh -c '
    clang-tidy --quiet "$@" -- '"$CPPFLAGS"' 2>/dev/null' sh >"$log"
status=$?
grep ' error: ' "$log" | sort -u
result $status "clang-tidy"

# shellcheck disable=SC2086
cppcheck --quiet --error-exitcode=1 --inline-suppr --std=c11 --enable=warning,performance,portability \
    -j "${JOBS:-2}" --suppressions-list=scripts/cppcheck.txt $(printf '%s\n' $CPPFLAGS | grep '^-I') "$@"
result $? "cppcheck"

exit $failed
