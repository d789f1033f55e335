#!/bin/sh
# Installs the Python parts of uv.lock into .venv. Options (--compile-bytecode, say) go to uv.
set -eu
cd "$(dirname "$0")/.."
uv=deploy/uv.sh
if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ]; then
    exec "$uv" sync --locked --quiet "$@"
fi
# uv.lock names PyPI's files, and `uv sync --locked` refuses another index. The same versions come from the user's own by their
# hashes instead.
list=$(mktemp)
trap 'rm -f "$list"' EXIT
"$uv" export --frozen --quiet --no-emit-project >"$list"
[ -x .venv/bin/python ] || "$uv" venv --quiet --clear .venv
"$uv" pip sync --quiet --require-hashes "$@" "$list"
"$uv" pip install --quiet --no-deps --editable .
