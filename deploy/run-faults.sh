#!/bin/sh
# Every fault. Sites side by side; each has a stack of its own, which goes away with it. Restores go back behind what other tests
# of a site have left, so they get one to themselves, beside the others.
# Usage: run-faults.sh SITES    (environment: DPJ_FAULT_SEED replays a seed)
set -eu

sites=$1
bin=.venv/bin
log=$(mktemp)

"$bin/pytest" --quiet tests/faults/test_restores.py >"$log" 2>&1 &
restores=$!

finish() {
    trap - EXIT INT TERM
    kill "$restores" 2>/dev/null || true
    wait "$restores" 2>/dev/null || true
    rm -f "$log"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

status=0
"$bin/pytest" --quiet tests/faults --ignore=tests/faults/test_restores.py -n "$sites" --no-loadscope-reorder || status=$?
wait "$restores" || status=$?
cat "$log"
exit "$status"
