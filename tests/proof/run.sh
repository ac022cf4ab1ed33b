#!/usr/bin/env bash
# Fetches and builds what the proofs need, then runs them. The host that is tried is $ROWTIDE, else
# one built here. See the heads of the Python files for what each does and its settings.
# DB is postgres (the default), mysql or mariadb: kill, quick and differential know all three.
#   run.sh kill [SINK…]   kill_loop.py
#   run.sh big [CASE…]    big.py
#   run.sh quick          a short kill loop, and the proof that its checks see planted faults
#   run.sh pg [VERSION…]  hazards.py: every hazard's tests and the differential test by version
#   run.sh mysql [SERVER…]        the same for MySQL and MariaDB
#   run.sh differential SEED…     differential.py
#   run.sh all            kill and big
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
servers="$root/tests/servers"
# shellcheck source=../servers/lib.sh
. "$servers/lib.sh"
# shellcheck source=../servers/packages.sh
. "$servers/packages.sh"

what=${1:-all}
[ $# -eq 0 ] || shift
ensure_commands "the proofs" python3:python3
case "${DB:-postgres}" in
  postgres) database="postgres-${PG:-18}" ;;
  mysql | mariadb) database=$DB ;;
  *) die "DB is postgres, mysql or mariadb, not $DB" ;;
esac
"$servers/fetch.sh" clients "$database" kafka
for name in psql kcat; do
  variable="PROOF_${name^^}"
  declare -gx "$variable=$(client "$name")"
done
if [ -z "${ROWTIDE:-}" ]; then
  CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}"
  profile=release
  case "$what" in
    # Those of the workspace's tests, which are built in this profile.
    pg | mysql | differential) profile=dev ;;
  esac
  (cd "$root" && cargo build --locked --profile "$profile" --bin rowtide)
  ROWTIDE="$CARGO_TARGET_DIR/${profile/dev/debug}/rowtide"
fi
export ROWTIDE
# No byte code is left in the clone.
python=(python3 -B)

case "$what" in
  kill) exec "${python[@]}" "$here/kill_loop.py" "$@" ;;
  big) exec "${python[@]}" "$here/big.py" "$@" ;;
  pg)
    [ $# -gt 0 ] || set -- 14 15 16 17 18
    "$servers/fetch.sh" "${@/#/postgres-}"
    exec "${python[@]}" "$here/hazards.py" pg "$@"
    ;;
  mysql)
    [ $# -gt 0 ] || set -- mysql mariadb
    "$servers/fetch.sh" "$@"
    exec "${python[@]}" "$here/hazards.py" mysql "$@"
    ;;
  differential)
    exec "${python[@]}" "$here/differential.py" "$@"
    ;;
  quick)
    export ROUNDS="${ROUNDS:-5}" BIG="${BIG:-3000}"
    exec "${python[@]}" "$here/kill_loop.py" --self-test jsonl kafka
    ;;
  all)
    status=0
    "${python[@]}" "$here/kill_loop.py" "$@" || status=1
    "${python[@]}" "$here/big.py" || status=1
    exit "$status"
    ;;
  *) die "run.sh kill, big, quick, pg, mysql, differential or all, not $what" ;;
esac
