#!/bin/sh
# Checks the formatting (clang-format), static analysis (clang-tidy, cppcheck) and include directions of the C sources,
# the links between the pages, the length of their lines, and the first words of comments. It prints a line for each
# checker and each finding, and exits with 1 if there is a finding.
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
    # shellcheck disable=SC2046  # file names have no white space
    set -- $(find gen runtime sim prepare autotune cli tests examples -name '*.c' 2>/dev/null | sort)
fi
headers=$(find include gen runtime sim prepare autotune cli tests examples templates/lib -name '*.h' 2>/dev/null)

python3 scripts/check-includes.py
result $? "include directions"

python3 scripts/check-links.py
result $? "links between pages"

python3 scripts/check-prose.py
result $? "lines of pages, openings of comments"

# shellcheck disable=SC2086
clang-format --dry-run -Werror "$@" $headers
result $? "clang-format"

# Prints one line for each finding.
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
