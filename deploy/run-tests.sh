#!/bin/sh
# All tests, on a full stack of their own that goes away with them; then the coverage that the core must have.
# Usage: run-tests.sh STACK PERCENT
set -eu

stack=$1
percent=$2
bin=.venv/bin

finish() {
    status=$?
    trap - EXIT INT TERM
    "$bin/dpj" stack down --name "$stack" --wipe >/dev/null || true
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

"$bin/dpj" stack up --name "$stack" --profile full
rm -f .coverage .coverage.*
DPJ_TEST_STACK="$stack" "$bin/pytest" --quiet --cov --cov-report= tests
"$bin/coverage" report --skip-covered --fail-under="$percent"
