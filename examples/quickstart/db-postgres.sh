# shellcheck shell=bash
# The quickstart's PostgreSQL: the user's own, by PG_URL, or a throwaway one. Sourced by run.sh.

slot=rowtide_quickstart
pg_dir=''
created_in_pg=''
tables_default='public.*'
# shellcheck disable=SC2034  # read by run.sh
own_url=${PG_URL:-}

sql() { PGCONNECT_TIMEOUT=10 "$psql" -X -q -A -t -v ON_ERROR_STOP=1 -d "$QUICKSTART_PG_URL" "$@"; }

db_fetch() {
  "$servers/fetch.sh" clients
  [ -n "$own_url" ] || "$servers/fetch.sh" postgres-18
  psql=$(client psql) || die "psql is missing"
}

db_start() {
  say "starting a throwaway PostgreSQL 18…"
  pg_dir="$work/postgres"
  "$servers/postgres.sh" start 18 "$pg_dir" --owner $$ >/dev/null
  QUICKSTART_PG_URL=$(sed -n 's/^URL=//p' "$pg_dir/env")
  export QUICKSTART_PG_URL
  sql -f "$here/postgres-schema.sql" >"$work/schema.log"
}

db_use() {
  export QUICKSTART_PG_URL="$own_url"
  local left
  left=$(sql -c "select 'slot' from pg_replication_slots where slot_name = '$slot'
                 union all select 'publication' from pg_publication where pubname = '$slot'") ||
    die "your database cannot be reached (see above)"
  if [ -n "$left" ]; then
    say "your database already has: $(tr '\n' ' ' <<<"$left")of the name $slot. If they are left over, drop them:"
    say "  select pg_drop_replication_slot('$slot'); drop publication if exists $slot;"
    exit 1
  fi
  say "In your database this creates, and drops again at the end:"
  say "  - the logical replication slot $slot"
  say "  - the publication $slot for the tables $QUICKSTART_TABLES"
  say "Rows are read from the log only; nothing is written to your tables."
  created_in_pg=yes
}

db_is_streamed() {
  [ "$(sql -c "select active from pg_replication_slots where slot_name = '$slot'")" = t ]
}

# db_writer LOG
db_writer() {
  launch "$1" "$psql" -X -q -v ON_ERROR_STOP=1 -d "$QUICKSTART_PG_URL" -o /dev/null \
    -f "$here/postgres-writer.sql"
}

# db_clean_up: removes from the user's own database what was created there, and the throwaway one.
db_clean_up() {
  drop_in_pg || true
  [ -z "$pg_dir" ] || "$servers/postgres.sh" stop "$pg_dir" || true
}

drop_in_pg() {
  local try
  [ -n "$created_in_pg" ] || return 0
  say "dropping the slot and the publication $slot in your database"
  for ((try = 0; try < 20; try++)); do
    # The server may need a moment to see that the stream has ended.
    if sql -c "select pg_drop_replication_slot(slot_name) from pg_replication_slots
               where slot_name = '$slot'" -c "drop publication if exists $slot" >/dev/null \
      2>"$work/drop.log"; then
      created_in_pg=''
      return 0
    fi
    sleep 0.5
  done
  tail -n 3 "$work/drop.log" >&2
  say "they could not be dropped; do it yourself, a slot that is left holds back the server's log:"
  say "  select pg_drop_replication_slot('$slot'); drop publication if exists $slot;"
  return 1
}
