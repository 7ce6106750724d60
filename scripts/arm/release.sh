#!/usr/bin/env bash
# What to run before a release, as root on an x86-64 Debian: both Debian suites, both processors, 4 and 16 KiB pages, the
# package built by the root's own compiler, and the kernels' instructions and cycles. About an hour. What it printed
# last is in docs/raspberry-pi.md and docs/benchmarks.md.
# usage: scripts/arm/release.sh [FOLDER]     for the wheels and what is printed; by default dist/
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
source "$here/root.sh"
out=${1:-dist}
mkdir -p "$out"

bash "$here/wheels.sh" --hub "$out"
for suite in "${SUITES[@]}"; do
  for kind in "cortex-a72 4096" "cortex-a76 4096" "cortex-a76 16384"; do
    read -r cpu page <<<"$kind"
    say "$suite, $cpu, pages of $page bytes"
    bash "$here/check.sh" "$suite" "$cpu" --page "$page" --json "$out/$suite-$cpu-$page.json"
  done
done

# By the emulated compiler: what a user does who has no wheel.
need_arm
for suite in "${SUITES[@]}"; do
  need_root "$suite"
  copy_source
  rm -rf "$root/src/build" "$root/wheels/own"
  say "building with $suite's own compiler, emulated"
  begin=$SECONDS
  inside PATH=/build/bin:/usr/bin:/bin /build/bin/pip wheel -q --no-deps --no-build-isolation -w /wheels/own /src ||
    die "the package cannot be built on $suite"
  say "built on $suite in $((SECONDS - begin)) s: $(cd "$root/wheels/own" && echo *.whl)"
done

need_packages gcc llvm-19
.venv/bin/python benchmarks/arm/measure.py "$ARM_CACHE/kernels" | tee "$out/kernels.txt"
