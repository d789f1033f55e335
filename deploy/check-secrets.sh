#!/bin/sh
# No secret in a tracked file: detect-secrets against the reviewed list of false alarms, .secrets.baseline.
set -eu
# On a copy: the hook rewrites the list, and says so with status 3, when a false alarm only moved to another line.
list=$(mktemp)
trap 'rm -f "$list"' EXIT
cp .secrets.baseline "$list"
status=0
# shellcheck disable=SC2046 -- no tracked file has a space in its name
.venv/bin/detect-secrets-hook --baseline "$list" $(git ls-files) || status=$?
case $status in 0 | 3) exit 0 ;; *) exit "$status" ;; esac
