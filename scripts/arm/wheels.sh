#!/usr/bin/env bash
# Builds wheels for 64-bit ARM on an x86-64 Debian 12, as root: HALO for Python 3.11 (Raspberry Pi OS bookworm) and 3.13
# (trixie), and with --hub one of llama-cpp-python, which has none on the registry and is long in compiling on a Pi.
# usage: scripts/arm/wheels.sh [--hub] [--suite bookworm|trixie] [FOLDER]     into FOLDER, by default dist/
# The first time takes some ten minutes; what is kept (HALO_ARM, ~/.cache/halo/arm) makes the next ones quick.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/root.sh"
source "$ARM/build.sh"

hub="" suites=("${SUITES[@]}") out=$PWD/dist
while [ $# -gt 0 ]; do
  case "$1" in
    --hub) hub=1 ;;
    --suite) suites=("${2:?which suite}"); shift ;;
    -*) sed -n 2,5p "$ARM/wheels.sh" >&2; exit 2 ;;
    *) out=$(cd "$CALLER" && realpath -m "$1") ;;
  esac
  shift
done
need_arm
mkdir -p "$out"
put() {
  cp "$1" "$out/"
  [ -z "${SUDO_UID:-}" ] || chown "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$out" "$out/${1##*/}"
  say "built $out/${1##*/}"
}
for suite in "${suites[@]}"; do
  need_root "$suite"
  build_wheel
  put "$wheel"
done
if [ -n "$hub" ]; then
  need_llama_wheel
  put "$llama_wheel"
fi
