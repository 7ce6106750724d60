#!/usr/bin/env bash
# Sets HALO up, then lets the demo model tell a story on this machine with 3 local workers.
# usage: scripts/demo.sh [options of `halo generate`]
set -euo pipefail
caller=$PWD
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

need_packages "${BASE_PACKAGES[@]}"
need_environment hub
halo=$PWD/.venv/bin/halo
cd "$caller" # where a relative -m or -f points
unset HALO_BROKER # with it, --workers 3 would mean devices of that broker's cell
echo "+ halo generate --workers 3 -p 'Once upon a time' -n 320 $*" >&2
exec "$halo" generate --workers 3 -p "Once upon a time" -n 320 "$@"
