#!/usr/bin/env bash
# Sets HALO up, then lets the demo model tell a story on this machine with 3 local workers.
# usage: scripts/demo.sh [options of `halo generate`]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

need_packages "${BASE_PACKAGES[@]}"
need_environment hub
echo "+ halo generate --workers 3 -p 'Once upon a time' -n 200 $*" >&2
exec .venv/bin/halo generate --workers 3 -p "Once upon a time" -n 200 "$@"
