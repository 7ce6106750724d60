#!/usr/bin/env bash
# Builds HALO's wheel for 64-bit ARM, installs it in a Debian root that is emulated as a Raspberry Pi, and runs it there:
# as a hub, and as the worker of a hub here. scripts/arm/check.py says what is compared. Needs root, x86-64 and Debian.
# usage: scripts/arm/check.sh [bookworm|trixie] [cortex-a72|cortex-a76] [arguments of check.py]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/root.sh"
source "$(dirname "${BASH_SOURCE[0]}")/build.sh"
suite=${1:-bookworm} cpu=${2:-cortex-a72}
shift $(($# < 2 ? $# : 2))
need_arm
need_environment hub,dev
need_root "$suite"
need_llama_wheel
build_wheel

# /worker has what a worker needs, as its user would install it; /venv the hub's packages, too.
cp "$llama_wheel" "$root/wheels/"
say "installing ${wheel##*/} as a $cpu"
[ -x "$root/worker/bin/python" ] || inside python3 -m venv --without-pip /worker
[ -x "$root/venv/bin/python" ] || inside python3 -m venv --without-pip /venv
for environment in worker venv; do
  extra=""
  [ $environment = worker ] || extra="[hub]"
  inside /build/bin/pip --python /$environment/bin/python install -q --find-links /wheels "/wheels/new/${wheel##*/}$extra" &&
    inside /build/bin/pip --python /$environment/bin/python install -q --no-deps --force-reinstall "/wheels/new/${wheel##*/}" ||
    die "pip could not install HALO in the root"
done
.venv/bin/python scripts/arm/check.py "$root" --cpu "$cpu" "$@"
