#!/bin/sh
# docs/openapi.json, docs/API.md, docs/lifecycle.svg and the dashboards are what the code says.
set -eu
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
.venv/bin/python -m ingest_api.openapi > "$fresh/openapi.json"
.venv/bin/python -m ingest_api.markdown < "$fresh/openapi.json" > "$fresh/API.md"
.venv/bin/python -m ingest_api.lifecycle_picture > "$fresh/lifecycle.svg"
mkdir "$fresh/dashboards"
.venv/bin/python -m deploy.observability.dashboards.generate "$fresh/dashboards"
if ! diff -rq "$fresh/dashboards" deploy/observability/grafana/dashboards >&2; then
    echo "deploy/observability/grafana/dashboards is out of date. Run: make docs" >&2
    exit 1
fi
for file in openapi.json API.md lifecycle.svg; do
    if ! cmp -s "$fresh/$file" "docs/$file"; then
        echo "docs/$file is out of date. Run: make docs" >&2
        exit 1
    fi
done
