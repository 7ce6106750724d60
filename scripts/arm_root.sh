#!/usr/bin/env bash
# Installs HALO in a Debian root for 64-bit ARM, emulated as a Raspberry Pi, and lets its worker compute for a hub here:
# the text must be the one that this machine makes alone. For releases: some 5 minutes. Needs root, x86-64 and Debian.
# usage: scripts/arm_root.sh FOLDER [bookworm|trixie] [cortex-a72|cortex-a76]
# FOLDER is made if need be and kept, outside the repository: unmount what is below it before removing it.
set -euo pipefail
[ $# -ge 1 ] || { sed -n 2,5p "$0" >&2; exit 2; }
mkdir -p "$1"
root=$(readlink -f "$1") suite=${2:-bookworm} cpu=${3:-cortex-a72}
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
[ "$(id -u)" = 0 ] || die "needs root, for mounts"
need_packages "${BASE_PACKAGES[@]}" g++-aarch64-linux-gnu qemu-user-static binfmt-support mmdebstrap
need_environment hub,dev

# The processor's code is run by the emulator, whoever starts it.
registered=/proc/sys/fs/binfmt_misc
mountpoint -q $registered || mount -t binfmt_misc binfmt_misc $registered
update-binfmts --enable qemu-aarch64

worker="" broker=""
finish() {
  [ -z "$worker" ] || kill "$worker" 2>/dev/null || true
  [ -z "$broker" ] || kill "$broker" 2>/dev/null || true
  wait
  awk -v r="$root/" 'index($2, r) == 1 {print $2}' /proc/mounts | sort -r | while read -r m; do umount "$m"; done
}
trap finish EXIT

# Packages are unpacked only: none of their scripts runs, which would be slow. What matters of them is done by hand.
if [ ! -x "$root/usr/bin/python3" ]; then
  say "making an arm64 root of $suite in $root"
  mmdebstrap --quiet --mode=root --variant=extract --arch=arm64 \
    --setup-hook='cd "$1" && mkdir -p usr/bin usr/sbin usr/lib proc dev sys tmp root && ln -s usr/bin usr/sbin usr/lib .' \
    --include=base-files,base-passwd,bash,dash,coreutils,grep,sed,findutils,tar,gzip,libc-bin,ca-certificates \
    --include=python3,python3-venv,python3-pip,python3-dev,g++,make \
    --aptopt='Apt::Install-Recommends "false"' --dpkgopt='path-exclude=/usr/share/doc/*' "$suite" "$root"
  for name in sh:dash c++:g++ cc:gcc; do ln -sf "${name#*:}" "$root/usr/bin/${name%:*}"; done
  cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
  cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
  mkdir -p "$root/etc/ssl/certs"
fi
chmod 1777 "$root/tmp"
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
mountpoint -q "$root/dev" || mount --bind /dev "$root/dev"

# This machine's cross compiler, inside: emulated, the compilation alone would take ten minutes.
for path in lib64 usr/lib/x86_64-linux-gnu usr/lib/gcc-cross usr/aarch64-linux-gnu/include usr/aarch64-linux-gnu/lib; do
  mkdir -p "$root/$path"
  mountpoint -q "$root/$path" || mount --bind "/$path" "$root/$path"
done
mkdir -p "$root/host" "$root/usr/aarch64-linux-gnu/bin" "$root/usr/local/bin"
mountpoint -q "$root/host" || mount --bind /usr/bin "$root/host"
for tool in as ld ld.bfd nm ar ranlib strip objcopy; do
  ln -sf "/host/aarch64-linux-gnu-$tool" "$root/usr/aarch64-linux-gnu/bin/$tool"
done
printf '#!/bin/sh\nexec /host/aarch64-linux-gnu-g++ --sysroot=/ "$@"\n' >"$root/usr/local/bin/cross"
chmod +x "$root/usr/local/bin/cross"

# An array and no function: of what runs in the background, the process's own id is known.
inside=(env -i PATH=/usr/local/bin:/usr/bin:/bin HOME=/root LC_ALL=C.UTF-8 QEMU_CPU="$cpu" CXX=/usr/local/bin/cross
  PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_DEFAULT_TIMEOUT=180 PIP_DISABLE_PIP_VERSION_CHECK=1
  ${PIP_INDEX_URL:+PIP_INDEX_URL="$PIP_INDEX_URL"} /usr/sbin/chroot "$root")

say "pip install, as a $cpu"
mkdir -p "$root/src"
git ls-files -z | tar --null --files-from=- -c | tar -x -C "$root/src"
[ -x "$root/venv/bin/pip" ] || "${inside[@]}" python3 -m venv /venv
"${inside[@]}" sh -c 'cd /src && /venv/bin/pip install -q .' || die "pip could not install HALO in the root"
"${inside[@]}" /venv/bin/python -c 'from halo import _native; print("kernels:", *_native.variants())'

port=$((20000 + RANDOM % 10000)) url=mqtt://127.0.0.1
mosquitto -p "$port" >"$root/tmp/broker.log" 2>&1 &
broker=$!
"${inside[@]}" /venv/bin/halo worker --broker "$url:$port" --wait --name emulated -t 1 >"$root/tmp/worker.log" 2>&1 &
worker=$!
tell=(.venv/bin/halo generate --temp 0 -n 100 -p "Once upon a time" --quiet)
alone=$("${tell[@]}" --broker local)
together=$("${tell[@]}" --broker "$url:$port" --workers 1 --plan even) || { cat "$root/tmp/worker.log"; exit 1; }
[ "$alone" = "$together" ] || die "with the emulated worker the text is another: $together"
grep -q serving "$root/tmp/worker.log" || die "the emulated worker was not asked"
say "the same text with a worker that is a $cpu of $suite"
