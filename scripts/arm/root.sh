# Debian roots for 64-bit ARM, emulated as a Raspberry Pi. Sourced by the scripts beside it with their arguments, not run.
# They are kept in HALO_ARM (default: ~/.cache/halo/arm). What is mounted in them is seen by these scripts only, and is gone
# when they end, however they end.
ARM=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ "$(id -u)" = 0 ] && [ "${HALO_MOUNTS:-}" != "$$" ]; then
  # shellcheck disable=SC2093
  exec unshare --mount bash -c 'HALO_MOUNTS=$$ exec bash "$@"' - "$0" "$@"
fi
CALLER=$PWD
source "$ARM/../setup.sh"

ARM_CACHE=${HALO_ARM:-${XDG_CACHE_HOME:-$HOME/.cache}/halo/arm}
SUITES=(bookworm trixie)

# need_arm: what emulating needs, and the folder.
need_arm() {
  [ "$(uname -m)" = x86_64 ] || die "emulates a Raspberry Pi on x86-64; on ARM, install HALO itself"
  [ "$(id -u)" = 0 ] || die "needs root, for mounts: run it with sudo"
  need_packages g++ make mosquitto gcc-aarch64-linux-gnu g++-aarch64-linux-gnu qemu-user-static binfmt-support mmdebstrap python3-venv
  mkdir -p "$ARM_CACHE"
  ARM_CACHE=$(readlink -f "$ARM_CACHE")
  exec 9>"$ARM_CACHE/lock"
  flock -n 9 || { say "waiting for another script that uses $ARM_CACHE"; flock 9; }
  # The processor's code is run by the emulator, whoever starts it.
  local registered=/proc/sys/fs/binfmt_misc
  mountpoint -q $registered || mount -t binfmt_misc binfmt_misc $registered ||
    die "cannot register the emulator: a container needs more rights for that (CAP_SYS_ADMIN)"
  [ -e $registered/qemu-aarch64 ] || update-binfmts --enable qemu-aarch64 || die "cannot register the emulator"
  if [ ! -x "$ARM_CACHE/tools/bin/auditwheel" ]; then
    python3 -m venv "$ARM_CACHE/tools" && "$ARM_CACHE/tools/bin/pip" install -q 'auditwheel>=6.4,<7' 'wheel>=0.45' ||
      die "pip could not install auditwheel"
  fi
}

# need_root SUITE: makes the root if need be, and mounts what it needs; sets `root` to its folder.
need_root() {
  local suite=$1
  root=$ARM_CACHE/$suite
  [ -d "$root" ] || make_root "$suite"
  mkdir -p "$root/files"
  cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
  cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  local path tool
  mount -t proc proc "$root/proc"
  mount --bind /dev "$root/dev"
  # This machine's cross compiler, inside: emulated, the compilation alone would take ten minutes.
  for path in lib64 usr/lib/x86_64-linux-gnu usr/lib/gcc-cross usr/aarch64-linux-gnu/include usr/aarch64-linux-gnu/lib usr/bin; do
    local inside_as=$path
    [ $path != usr/bin ] || inside_as=host
    mkdir -p "$root/$inside_as"
    mount --bind "/$path" "$root/$inside_as"
    mount -o remount,bind,ro "$root/$inside_as"
  done
  mkdir -p "$root/usr/aarch64-linux-gnu/bin" "$root/usr/local/bin"
  for tool in as ld ld.bfd nm ar ranlib strip objcopy; do
    ln -sf "/host/aarch64-linux-gnu-$tool" "$root/usr/aarch64-linux-gnu/bin/$tool"
  done
  printf '#!/bin/sh\nexec /host/aarch64-linux-gnu-g++ --sysroot=/ "$@"\n' >"$root/usr/local/bin/cross"
  chmod +x "$root/usr/local/bin/cross"
}

# Packages are unpacked only: none of their scripts runs, which would be slow. What matters of them is done by hand.
make_root() {
  local suite=$1 new=$ARM_CACHE/$1.new name
  say "making an arm64 root of $suite in $ARM_CACHE/$suite"
  rm -rf --one-file-system "$new"
  mmdebstrap --quiet --mode=root --variant=extract --arch=arm64 \
    --setup-hook='cd "$1" && mkdir -p usr/bin usr/sbin usr/lib proc dev sys tmp root && ln -s usr/bin usr/sbin usr/lib .' \
    --include=base-files,base-passwd,bash,dash,coreutils,grep,sed,findutils,tar,gzip,util-linux,libc-bin,ca-certificates \
    --include=python3,python3-venv,python3-pip,python3-dev,g++,make,mosquitto \
    --aptopt='Apt::Install-Recommends "false"' --dpkgopt='path-exclude=/usr/share/doc/*' "$suite" "$new" ||
    die "no root of $suite: is there a network?"
  for name in sh:dash c++:g++ cc:gcc; do ln -sf "${name#*:}" "$new/usr/bin/${name%:*}"; done
  cp "$new/usr/share/base-passwd/passwd.master" "$new/etc/passwd"
  cp "$new/usr/share/base-passwd/group.master" "$new/etc/group"
  mkdir -p "$new/etc/ssl/certs" "$new/wheels" "$new/files"
  chmod 1777 "$new/tmp"
  mv "$new" "$ARM_CACHE/$suite"
}

# inside [NAME=VALUE...] COMMAND...: runs it in `root`, as the processor `cpu`.
inside() {
  env -i PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin HOME=/root LC_ALL=C.UTF-8 QEMU_CPU="${cpu:-cortex-a72}" \
    PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_DEFAULT_TIMEOUT=180 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    ${PIP_INDEX_URL:+PIP_INDEX_URL="$PIP_INDEX_URL"} /usr/sbin/chroot "$root" /usr/bin/env "$@"
}

# copy_source FOLDER: the files that git knows, in that folder of the root. What has been built there stays, and times are
# kept: what has not changed is not built again.
copy_source() {
  mkdir -p "$root/$1"
  find "$root/$1" -mindepth 1 -maxdepth 1 ! -name build -exec rm -rf {} +
  git ls-files -z | tar --null --files-from=- --ignore-failed-read -c | tar -x -C "$root/$1"
}
