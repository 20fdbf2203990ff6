#!/usr/bin/env bash
# Lint (notebooks too) and tests, one command; arguments go to pytest.
set -euo pipefail
root=$(cd "$(dirname "$0")" && pwd)
cd "$root"
. "$root/scripts/environment.sh"
find_python
prepare test
"$python" -m ruff check .
"$python" -m ruff format --check .
exec "$python" -m pytest "$@"
