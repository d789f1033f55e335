#!/bin/sh
# Prints the interpreter to run with: the one first on the PATH, unless it was built without its compiler's profile (pyenv's
# default) and the system has one that is new enough: distributions build theirs with it, and the same code costs less there.
# Prints nothing where neither is new enough: uv looks further.
set -eu

new_enough='import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'
with_profile='import sys, sysconfig; sys.exit("--enable-optimizations" not in (sysconfig.get_config_var("CONFIG_ARGS") or ""))'

found=
for python in "$(command -v python3 || true)" /usr/bin/python3; do
    [ -n "$python" ] && "$python" -c "$new_enough" 2>/dev/null || continue
    # One that was built without is better than none.
    found=${found:-$python}
    if [ "$python" = /usr/bin/python3 ] || "$python" -c "$with_profile"; then
        found=$python
        break
    fi
done
echo "$found"
