#!/usr/bin/env bash
# Set up .venv, check style and types, run the tests on every core. Arguments are passed on to pytest.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

case ${1:-} in
    -h | --help)
        sed -n '2s/^# //p' "$0"
        exit 0
        ;;
esac
setup_venv tests
cd "$root"
# the tests run in several processes, so more threads would compete for the same cores
export OMP_NUM_THREADS=1
# and they start many more, each of which would compile the package and its tests again
unset PYTHONDONTWRITEBYTECODE
ruff check .
ruff format --check .
mypy
shellcheck .ci/run scripts/*.sh scripts/*/*.sh
# the tests of a file run in one process, because they share fixtures that are slow to make; in the
# order of their names few long files come last, so that no process waits for another at the end
exec python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder "$@"
