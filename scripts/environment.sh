# Sourced by run_all.sh and run_tests.sh, which set $root: find or make the environment, name its $python.

find_python() {
    local candidate
    for candidate in "${PYTHON:-python3}" python3 python3.13 python3.12 python3.11 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$candidate
            return
        fi
    done
    echo "$0: needs Python 3.11 or newer on the PATH, or named in PYTHON" >&2
    exit 2
}

# Whether $1 imports this checkout's sea and has every package it asks for (with extra $2, if given).
has_packages() {
    "$1" -P - "$root" "${2:-}" <<'PY' 2>/dev/null
import importlib.metadata as metadata
import pathlib
import re
import sys

import sea

assert pathlib.Path(sea.__file__).resolve().parent == pathlib.Path(sys.argv[1], "sea").resolve()
for requirement in metadata.requires("sea-companion"):
    package, _, marker = requirement.partition(";")
    if "extra" not in marker or f'"{sys.argv[2]}"' in marker.replace("'", '"'):
        metadata.version(re.match(r"[\w.-]+", package)[0])
PY
}

# Use the active environment if it has everything, else .venv, made from the lock (again, when that changed).
prepare() {
    local extra=${1:-} venv=$root/.venv lock=$root/requirements.lock stamp
    if has_packages "$python" "$extra"; then
        return
    fi
    stamp=$(cat "$lock" "$root/pyproject.toml")
    if [ "$(cat "$venv/installed" 2>/dev/null)" != "$stamp" ] || ! has_packages "$venv/bin/python" "$extra"; then
        echo "Installing into .venv, some minutes the first time ..."
        [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
            -c "$lock" -e "$root${extra:+[$extra]}"
        echo "$stamp" >"$venv/installed"
    fi
    python=$venv/bin/python
}
