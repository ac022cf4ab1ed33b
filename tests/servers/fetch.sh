#!/usr/bin/env bash
# Fetches what the tests and the quickstart need into the cache. Idempotent; safe to run twice at
# the same time. Everything comes through the machine's own npm, apt-get and mvn, by package name.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=lib.sh
. "$here/lib.sh"
# shellcheck source=packages.sh
. "$here/packages.sh"
# shellcheck source=apt.sh
. "$here/apt.sh"

usage() {
  cat >&2 <<'TEXT'
usage: fetch.sh WHAT…
  tools                 what the build needs of the machine, by apt-get install where possible
  clients               psql, pg_recvlogical, kcat
  postgres-14 … -18     a PostgreSQL server
  kafka                 Apache Kafka 4
  mysql                 MySQL 9 (from Debian's unstable suite)
  mariadb               MariaDB (from the machine's own Debian suite)
  all                   everything above
The cache is $ROWTIDE_CACHE, else ~/.cache/rowtide.
TEXT
  exit 2
}

[ $# -gt 0 ] || usage

# fetch_one NAME VERSION TITLE FUNCTION ARGUMENTS…: runs FUNCTION FOLDER ARGUMENTS… and puts the
# folder in place, unless that version is there already.
fetch_one() {
  local name=$1
  [ "$(cat "$servers_dir/$name/.version" 2>/dev/null || true)" = "$2" ] && return 0
  with_lock "$name" fetch_locked "$@"
}

fetch_locked() {
  local name=$1 version=$2 title=$3 function=$4 scratch began
  shift 4
  # Another run may have fetched it while this one waited for the lock.
  [ "$(cat "$servers_dir/$name/.version" 2>/dev/null || true)" = "$version" ] && return 0
  say "fetching $title…"
  began=$SECONDS
  scratch=$(scratch_in_cache)
  # shellcheck disable=SC2064  # the path of now, not of the trap's time
  trap "rm -rf '$scratch'" EXIT
  mkdir "$scratch/new"
  "$function" "$scratch/new" "$@"
  printf '%s\n' "$version" >"$scratch/new/.version"
  swap_in "$scratch/new" "$servers_dir/$name"
  rm -rf "$scratch"
  trap - EXIT
  say "fetched $name ($((SECONDS - began)) s)"
}

for what in "$@"; do
  case "$what" in
    tools) fetch_tools ;;
    clients) fetch_clients ;;
    postgres-1[45678]) fetch_postgres "${what#postgres-}" ;;
    kafka) fetch_kafka ;;
    mysql) fetch_mysql ;;
    mariadb) fetch_mariadb ;;
    all)
      "$here/fetch.sh" tools clients postgres-14 postgres-15 postgres-16 postgres-17 postgres-18 \
        kafka mysql mariadb
      ;;
    *) usage ;;
  esac
done
