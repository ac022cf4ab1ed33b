#!/usr/bin/env bash
# Fetches and builds what the benchmark needs, then runs pg.py. The host that is measured is
# $ROWTIDE, else a release build.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/.." && pwd)"
servers="$root/tests/servers"
# shellcheck source=../tests/servers/lib.sh
. "$servers/lib.sh"
# shellcheck source=../tests/servers/packages.sh
. "$servers/packages.sh"

ensure_commands "the benchmark" python3:python3
"$servers/fetch.sh" clients "postgres-${PG:-18}" kafka
for name in psql kcat pg_recvlogical; do
  declare -x "PROOF_${name^^}=$(client "$name")"
done
if [ -z "${ROWTIDE:-}" ]; then
  CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}"
  (cd "$root" && cargo build --locked --release --bin rowtide)
  ROWTIDE="$CARGO_TARGET_DIR/release/rowtide"
fi
export ROWTIDE ROWTIDE_CACHE
# No byte code is left in the clone.
exec python3 -B "$here/pg.py"
