#!/usr/bin/env bash
# Every figure and table, one command; ./run_all.sh --help lists the options.
set -euo pipefail
root=$(cd "$(dirname "$0")" && pwd)
. "$root/scripts/environment.sh"
find_python
# a wrong option should not wait for an installation
PYTHONPATH="$root" "$python" -c 'import sea.__main__ as main; main.parse()' "$@"
prepare
exec "$python" -P -m sea "$@"
