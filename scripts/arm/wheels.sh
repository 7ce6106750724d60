#!/usr/bin/env bash
# Builds wheels for 64-bit ARM on an x86-64 Debian, as root: HALO for Python 3.11 (Raspberry Pi OS bookworm) and 3.13
# (trixie), and with --hub one of llama-cpp-python, which has none on the registry and takes a Pi 4 forty minutes.
# usage: scripts/arm/wheels.sh [--hub] [--suite bookworm|trixie] [FOLDER]     into FOLDER, by default dist/
# The first time takes some ten minutes; what is kept (HALO_ARM, ~/.cache/halo/arm) makes the next ones quick.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/root.sh"
source "$(dirname "${BASH_SOURCE[0]}")/build.sh"

hub="" suites=("${SUITES[@]}") out=dist
while [ $# -gt 0 ]; do
  case "$1" in
    --hub) hub=1 ;;
    --suite) suites=("${2:?which suite}"); shift ;;
    -*) sed -n 2,5p "$0" >&2; exit 2 ;;
    *) out=$1 ;;
  esac
  shift
done
need_arm
need_environment hub,dev
mkdir -p "$out"
for suite in "${suites[@]}"; do
  need_root "$suite"
  build_wheel
  cp "$wheel" "$out/"
  say "built $out/${wheel##*/}"
done
if [ -n "$hub" ]; then
  need_llama_wheel
  cp "$llama_wheel" "$out/"
  say "built $out/${llama_wheel##*/}"
fi
