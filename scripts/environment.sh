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

# Whether $1 imports this checkout's sea and has every package that pyproject.toml asks for (with extra $2, if given),
# in a version that it allows. Without the package packaging, which matplotlib needs, the answer is no.
has_packages() {
    "$1" -P - "$root" "${2:-}" <<'PY' 2>/dev/null
import importlib.metadata as metadata
import pathlib
import sys
import tomllib

import sea
from packaging.requirements import Requirement

root, extra = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2]
assert pathlib.Path(sea.__file__).resolve().parent == root / "sea"
project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
for line in project["dependencies"] + (project["optional-dependencies"][extra] if extra else []):
    wanted = Requirement(line)
    if wanted.marker is None or wanted.marker.evaluate():
        assert wanted.specifier.contains(metadata.version(wanted.name), prereleases=True)
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
    set_up_lab "$venv"
    python=$venv/bin/python
}

# Let the JupyterLab of environment $1 open at the first notebook. From the folder it is started in it reads no settings.
set_up_lab() {
    mkdir -p "$1/etc/jupyter"
    cp "$root/scripts/jupyter_lab_config.json" "$1/etc/jupyter/"
}
