#!/usr/bin/env bash
# Lint (notebooks too) and tests on two cores, one command; arguments go to pytest.
set -euo pipefail
root=$(cd "$(dirname "$0")" && pwd)
cd "$root"
. "$root/scripts/environment.sh"
find_python
prepare test
checks() {
    "$python" -m ruff check . && "$python" -m ruff format --check . && "$python" -m pytest -n 2 --dist loadfile "$@"
}
TIMEFORMAT="Took %0lR; CPU: %0U s, and %0S s of the system's."
time checks "$@" || exit
