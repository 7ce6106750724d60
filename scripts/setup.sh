# Sets up what the other scripts need: system packages by apt, a virtual environment in .venv. Sourced, not run.
# Does nothing that is done already, and says what it installs. HALO_PYTHON= picks another Python (3.11 to 3.13).

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

say() { printf 'halo setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
    die "needs root for: $* (no sudo here). Run that as root, then run this again."
  fi
}

# need_packages PACKAGE...: installs those of them that dpkg does not know as installed.
need_packages() {
  command -v dpkg-query >/dev/null || { say "not Debian: please install by hand what is missing of: $*"; return 0; }
  local missing=() p
  for p in "$@"; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
  done
  [ ${#missing[@]} = 0 ] && return 0
  say "installing with apt: ${missing[*]}"
  as_root apt-get update -q >/dev/null || die "apt-get update failed: is there a network?"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null ||
    die "apt-get could not install: ${missing[*]}"
}

# need_environment EXTRAS: .venv with HALO and the extras ("hub" or "hub,dev"), built again when its sources changed.
# .venv/halo-stamp tells which extras it has and of which sources it is; more extras than are needed do no harm.
need_environment() {
  local extras=$1 python=${HALO_PYTHON:-python3} stamp has="" made="" extra
  "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' ||
    die "$("$python" --version) is not supported: HALO needs Python 3.11 to 3.13. Set HALO_PYTHON=/path/to/python3."
  [ -x .venv/bin/python ] || { say "making .venv with $("$python" --version)"; "$python" -m venv .venv || exit 1; }
  [ ! -s .venv/halo-stamp ] || read -r made has <.venv/halo-stamp
  case "$has" in *[!a-z,]*) has="" ;; esac # the stamp of an older version
  for extra in ${has//,/ }; do
    case ",$extras," in *",$extra,"*) ;; *) extras+=,$extra ;; esac
  done
  stamp=$({ pwd; .venv/bin/python --version; find native pyproject.toml setup.py CMakeLists.txt -type f | sort |
    xargs sha256sum; } | sha256sum | cut -d' ' -f1)
  [ "$made" = "$stamp" ] && [ ${#has} = ${#extras} ] && return 0 # nothing new, and nothing missing
  say "installing HALO and its Python packages [$extras] into .venv; where pip has no built llama-cpp-python yet," \
    "it compiles one: some 10 minutes on a PC, about 40 on a Raspberry Pi 4, once"
  .venv/bin/python -m pip install -q --disable-pip-version-check --upgrade pip || die "pip could not be upgraded: is there a network?"
  PYTHONWARNINGS=ignore .venv/bin/python -m pip install -q --disable-pip-version-check -e ".[$extras]" || die "pip could not install HALO (see above)"
  echo "$stamp $extras" >.venv/halo-stamp
}

# A C++ compiler and headers for the native module, the broker, and Python's venv where the system's Python is used.
BASE_PACKAGES=(g++ make mosquitto)
case "$(command -v "${HALO_PYTHON:-python3}" || true)" in
  /usr/bin/* | "") BASE_PACKAGES+=(python3 python3-venv python3-dev) ;;
esac
