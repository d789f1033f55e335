#!/bin/sh
# Runs uv, which installs the Python parts from the lock file. Uses the machine's own, else one of a pinned version in the cache.
set -eu

here=$(dirname "$0")
python=$("$here/python.sh")
# Where none is new enough, uv looks further and says so.
if [ -n "$python" ]; then export UV_PYTHON="${UV_PYTHON:-$python}"; fi
if command -v uv >/dev/null 2>&1; then
    exec uv "$@"
fi
version=$(sed -n 's/^\([0-9][^ ]*\) .*/\1/p' "$here/uv.txt" | head -n 1)
folder="${DPJ_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dpj}/uv-$version"
if [ ! -x "$folder/bin/uv" ]; then
    python=${python:-python3}
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "Python 3.11 or newer is missing: on Debian and Ubuntu apt-get install python3" >&2
        exit 1
    fi
    echo "Fetching uv $version ..." >&2
    PYTHONPATH="$here/.." "$python" -m deploy.fetch_uv "$folder"
fi
exec "$folder/bin/uv" "$@"
