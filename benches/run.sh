#!/usr/bin/env bash
# Fetches and builds what a benchmark needs, then runs it. The host that is measured is $ROWTIDE, else
# a release build.
#   run.sh pg       pg.py
#   run.sh mysql    mysql.py
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/.." && pwd)"
servers="$root/tests/servers"
# shellcheck source=../tests/servers/lib.sh
. "$servers/lib.sh"
# shellcheck source=../tests/servers/packages.sh
. "$servers/packages.sh"

what=${1:-}
case "$what" in
  pg)
    databases=("postgres-${PG:-18}")
    programs=(psql kcat pg_recvlogical)
    ;;
  mysql)
    database=${DB:-mysql}
    read -ra databases <<<"${database//,/ }"
    programs=(kcat)
    ;;
  *) die "run.sh pg or mysql, not '$what'" ;;
esac
ensure_commands "the benchmark" python3:python3
"$servers/fetch.sh" clients "${databases[@]}" kafka
for name in "${programs[@]}"; do
  declare -x "PROOF_${name^^}=$(client "$name")"
done
if [ -z "${ROWTIDE:-}" ]; then
  CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}"
  (cd "$root" && cargo build --locked --release --bin rowtide)
  ROWTIDE="$CARGO_TARGET_DIR/release/rowtide"
fi
export ROWTIDE ROWTIDE_CACHE
# No byte code is left in the clone.
exec python3 -B "$here/$what.py"
