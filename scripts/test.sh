#!/usr/bin/env bash
# Sets HALO up for development, then runs every check: formats, lints, types, tests.
# usage: scripts/test.sh [arguments of pytest]; with arguments only pytest runs.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

ARM_PACKAGES=(g++-aarch64-linux-gnu qemu-user) # the kernels for ARM run emulated
[ "$(uname -m)" = x86_64 ] || ARM_PACKAGES=()
need_packages "${BASE_PACKAGES[@]}" iproute2 procps openssl "${ARM_PACKAGES[@]}"
need_environment hub,dev
export PATH="$PWD/.venv/bin:$PATH"
[ $# = 0 ] || exec python -m pytest "$@"
ruff check .
ruff format --check .
find native benchmarks -name '*.h' -o -name '*.cpp' -o -name '*.c' | xargs clang-format --dry-run --Werror
mypy
# Most tests wait more than they compute, and do so two files at a time; those that compare times have the machine alone.
ALONE=(tests/lab tests/bench)
failed=0
python -m pytest -n 2 --dist loadfile "${ALONE[@]/#/--ignore=}" || failed=$?
python -m pytest "${ALONE[@]}" || failed=$?
exit $failed
