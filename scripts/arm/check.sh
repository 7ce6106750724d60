#!/usr/bin/env bash
# Builds HALO's wheel for 64-bit ARM, installs it in a Debian root that is emulated as a Raspberry Pi, and runs it there:
# as a hub, and as the worker of a hub here. scripts/arm/check.py says what is compared. Needs root and x86-64 Debian 12.
# usage: scripts/arm/check.sh [bookworm|trixie] [cortex-a72|cortex-a76] [arguments of check.py]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/root.sh"
source "$ARM/build.sh"
suite=${1:-bookworm} cpu=${2:-cortex-a72}
case "$suite" in bookworm | trixie) ;; *) sed -n 2,5p "$ARM/check.sh" >&2; exit 2 ;; esac
shift $(($# < 2 ? $# : 2))
need_arm
need_environment hub,dev
need_root "$suite"
need_llama_wheel
build_wheel

# /worker has what a worker needs, as its user would install it; /venv the hub's packages, too. Nothing may be compiled.
cp "$llama_wheel" "$root/wheels/"
say "installing ${wheel##*/} as a $cpu"
wanted=$(cat pyproject.toml "$llama_wheel" | sha256sum)
for environment in worker venv; do
  extra=""
  [ $environment = worker ] || extra="[hub]"
  [ -x "$root/$environment/bin/python" ] || inside python3 -m venv --without-pip /$environment
  install=(inside /build/bin/pip --python /$environment/bin/python install -q --only-binary :all: --find-links /wheels)
  if [ "$(cat "$root/$environment/wanted" 2>/dev/null)" != "$wanted" ]; then
    "${install[@]}" "/wheels/new/${wheel##*/}$extra" || die "pip could not install HALO in the root"
    echo "$wanted" >"$root/$environment/wanted"
  fi
  "${install[@]}" --no-deps --force-reinstall "/wheels/new/${wheel##*/}" || die "pip could not install HALO in the root"
done
.venv/bin/python "$ARM/check.py" "$root" --cpu "$cpu" "$@"
