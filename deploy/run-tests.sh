#!/bin/sh
# All tests. Unit and property tests run while the servers are still built, and those of the core measure its coverage; the others
# run on as many full stacks as there are workers, which go away with them.
# Usage: run-tests.sh STACK PERCENT    (environment: DPJ_TEST_WORKERS, DPJ_TEST_OPTIONS)
set -eu

stack=$1
percent=$2
bin=.venv/bin
workers=${DPJ_TEST_WORKERS:-3}
options=${DPJ_TEST_OPTIONS:-}
logs=$(mktemp -d)

# What can't be had without root skips its tests, which are counted at the end.
without=
if [ "$(id -u)" != 0 ] && ! PATH="$PATH:/usr/sbin" command -v clamd >/dev/null; then
    echo "ClamAV's daemon is not here and only root can install it (clamav-daemon): its tests are skipped." >&2
    without="--without clamd"
fi

each() {
    number=0
    while [ "$number" -lt "$workers" ]; do
        "$@" "$stack-gw$number" || return
        number=$((number + 1))
    done
}

# shellcheck disable=SC2086 -- options are words
up() { DPJ_STACK_NO_FSYNC=1 "$bin/dpj" stack up --profile full $without --name "$1"; }
down() { "$bin/dpj" stack down --wipe --name "$1" >/dev/null || true; }

finish() {
    status=$?
    trap - EXIT INT TERM
    if [ -n "${building:-}" ]; then
        kill "$building" 2>/dev/null || true
        wait "$building" 2>/dev/null || true
    fi
    each down
    rm -rf "$logs"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The servers: built once, then started once a worker.
each up >"$logs/stacks" 2>&1 &
building=$!

# What tests assert is rewritten by pytest when they are loaded: done once here, not by each worker.
unset PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX
# What can't be collected is told by the runs themselves.
"$bin/pytest" --quiet --collect-only tests/contract tests/e2e tests/integration >/dev/null 2>&1 &
"$bin/pytest" --quiet --collect-only tests/unit tests/property >/dev/null 2>&1 || true
wait $! || true

rm -f .coverage .coverage.*
# These only calculate: one for each processor.
# shellcheck disable=SC2086 -- options are words
"$bin/pytest" --quiet -n auto --core measured --cov --cov-report= $options tests/unit tests/property
# shellcheck disable=SC2086 -- options are words
"$bin/pytest" --quiet -n auto --core others $options tests/unit tests/property
"$bin/coverage" report --skip-covered --fail-under="$percent"

status=0
wait "$building" || status=$?
building=
cat "$logs/stacks"
[ "$status" = 0 ] || exit "$status"

# shellcheck disable=SC2086
DPJ_TEST_STACK="$stack" "$bin/pytest" --quiet -n "$workers" --dist loadgroup --no-loadscope-reorder $options \
    tests/contract tests/e2e tests/integration
