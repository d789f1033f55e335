#!/bin/sh
# Runs uv, which installs the Python parts from the lock file. Uses the machine's own, else one of a pinned version in the cache.
set -eu

version=0.13.8
if command -v uv >/dev/null 2>&1; then
    exec uv "$@"
fi
folder="${DPJ_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dpj}/uv-$version"
if [ ! -x "$folder/bin/uv" ]; then
    python=$(command -v python3 || true)
    if [ -z "$python" ]; then
        echo "Python 3.11 or newer is missing. Install it: apt-get install python3 python3-venv" >&2
        exit 1
    fi
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
            apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null
        else
            echo "Python's venv module is missing. Install it: apt-get install python3-venv" >&2
            exit 1
        fi
    fi
    echo "Fetching uv $version ..." >&2
    temporary="$folder.$$"
    "$python" -m venv "$temporary"
    "$temporary/bin/pip" install --quiet --disable-pip-version-check "uv==$version"
    # Scripts of a venv name its folder, but uv is a plain program: it may move.
    mkdir -p "$folder/bin"
    mv "$temporary/bin/uv" "$folder/bin/uv"
    rm -rf "$temporary"
fi
exec "$folder/bin/uv" "$@"
