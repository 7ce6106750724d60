#!/usr/bin/env bash
# What to run before a release, as root on an x86-64 Debian 12: both Debian suites, both processors, 4 and 16 KiB pages,
# the package built by the root's own compiler, and the kernels' instructions and cycles. Half an hour once the roots are
# made, of a commit: nothing may be changed meanwhile. What it printed last is in docs/raspberry-pi.md and docs/benchmarks.md.
# usage: scripts/arm/release.sh [FOLDER]     for the wheels and what is printed; by default dist/
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/root.sh"
out=$PWD/dist
[ $# = 0 ] || out=$(cd "$CALLER" && realpath -m "$1")
[ -z "$(git status --porcelain)" ] || die "there are changes that are not committed: a release is of a commit"
need_packages gcc llvm-19 qemu-user
mkdir -p "$out"
commit=$(git rev-parse --short HEAD)
say "of commit $commit"

bash "$ARM/wheels.sh" --hub "$out"
for suite in "${SUITES[@]}"; do
  for kind in "cortex-a72 4096" "cortex-a76 4096" "cortex-a76 16384"; do
    read -r cpu page <<<"$kind"
    say "$suite, $cpu, pages of $page bytes"
    bash "$ARM/check.sh" "$suite" "$cpu" --page "$page" --json "$out/$suite-$cpu-$page.json"
  done
done

need_environment hub,dev
.venv/bin/python benchmarks/arm/measure.py "$out/kernels" | tee "$out/kernels.txt"

# By the emulated compiler: what a user does who has no wheel.
need_arm
for suite in "${SUITES[@]}"; do
  need_root "$suite"
  rm -rf "$root/own" "$root/wheels/own"
  copy_source own
  mount -t tmpfs tmpfs "$root/usr/aarch64-linux-gnu" # where the root's compiler would find the cross compiler's linker
  say "building with $suite's own compiler, emulated"
  begin=$SECONDS
  inside PATH=/build/bin:/usr/bin:/bin /build/bin/pip wheel -q --no-deps --no-build-isolation -w /wheels/own /own ||
    die "the package cannot be built on $suite"
  say "built on $suite in $((SECONDS - begin)) s: $(cd "$root/wheels/own" && echo *.whl)"
done
[ "$commit" = "$(git rev-parse --short HEAD)" ] && [ -z "$(git status --porcelain)" ] || die "something was changed meanwhile"
