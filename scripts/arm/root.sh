# Debian roots for 64-bit ARM, emulated as a Raspberry Pi. Sourced by the scripts beside it, not run.
# They are kept in HALO_ARM (default: ~/.cache/halo/arm): unmount what is below it before removing it.
source "$(dirname "${BASH_SOURCE[0]}")/../setup.sh"

ARM_CACHE=${HALO_ARM:-${XDG_CACHE_HOME:-$HOME/.cache}/halo/arm}
SUITES=(bookworm trixie)
ARM_COMPILER=(g++-aarch64-linux-gnu)

# need_arm: what emulating needs, and the folder. From here on, whatever is mounted is unmounted at the end.
need_arm() {
  [ "$(uname -m)" = x86_64 ] || die "emulates a Raspberry Pi on x86-64; on ARM, install HALO itself"
  [ "$(id -u)" = 0 ] || die "needs root, for mounts"
  need_packages "${BASE_PACKAGES[@]}" "${ARM_COMPILER[@]}" qemu-user-static binfmt-support mmdebstrap
  mkdir -p "$ARM_CACHE"
  ARM_CACHE=$(readlink -f "$ARM_CACHE")
  exec 9>"$ARM_CACHE/lock"
  flock -n 9 || { say "waiting for another script that uses $ARM_CACHE"; flock 9; }
  trap leave_roots EXIT
  # The processor's code is run by the emulator, whoever starts it.
  local registered=/proc/sys/fs/binfmt_misc
  mountpoint -q $registered || mount -t binfmt_misc binfmt_misc $registered
  update-binfmts --enable qemu-aarch64
}

leave_roots() {
  awk -v r="$ARM_CACHE/" 'index($2, r) == 1 {print $2}' /proc/mounts | sort -r | while read -r m; do umount "$m"; done
}

# need_root SUITE: makes the root if need be, and mounts what it needs; sets `root` to its folder.
need_root() {
  local suite=$1 name path tool
  root=$ARM_CACHE/$suite
  # Packages are unpacked only: none of their scripts runs, which would be slow. What matters of them is done by hand.
  if [ ! -e "$root/usr/bin/mosquitto" ] && [ ! -e "$root/usr/sbin/mosquitto" ]; then
    say "making an arm64 root of $suite in $root"
    rm -rf "$root"
    mmdebstrap --quiet --mode=root --variant=extract --arch=arm64 \
      --setup-hook='cd "$1" && mkdir -p usr/bin usr/sbin usr/lib proc dev sys tmp root && ln -s usr/bin usr/sbin usr/lib .' \
      --include=base-files,base-passwd,bash,dash,coreutils,grep,sed,findutils,tar,gzip,util-linux,libc-bin,ca-certificates \
      --include=python3,python3-venv,python3-pip,python3-dev,g++,make,mosquitto \
      --aptopt='Apt::Install-Recommends "false"' --dpkgopt='path-exclude=/usr/share/doc/*' "$suite" "$root" ||
      die "no root of $suite: is there a network?"
    for name in sh:dash c++:g++ cc:gcc; do ln -sf "${name#*:}" "$root/usr/bin/${name%:*}"; done
    cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
    cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
    mkdir -p "$root/etc/ssl/certs" "$root/wheels" "$root/work"
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
}

# inside [NAME=VALUE...] COMMAND...: runs it in `root`, as the processor `cpu`.
inside() {
  env -i PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin HOME=/root LC_ALL=C.UTF-8 QEMU_CPU="${cpu:-cortex-a72}" \
    PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_DEFAULT_TIMEOUT=180 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    ${PIP_INDEX_URL:+PIP_INDEX_URL="$PIP_INDEX_URL"} /usr/sbin/chroot "$root" /usr/bin/env "$@"
}

# copy_source: the files that git knows, in /src of the root. Times are kept: what has not changed is not built again.
copy_source() {
  mkdir -p "$root/src"
  find "$root/src" -mindepth 1 -maxdepth 1 ! -name build -exec rm -rf {} +
  git ls-files -z | tar --null --files-from=- --ignore-failed-read -c | tar -x -C "$root/src"
}
