#!/bin/sh
# docs/openapi.json and docs/API.md are what the code says.
set -eu
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
.venv/bin/python -m ingest_api.openapi > "$fresh/openapi.json"
.venv/bin/python -m ingest_api.markdown < "$fresh/openapi.json" > "$fresh/API.md"
if ! cmp -s "$fresh/openapi.json" docs/openapi.json || ! cmp -s "$fresh/API.md" docs/API.md; then
    echo "docs/openapi.json or docs/API.md is out of date. Run: make docs" >&2
    exit 1
fi
