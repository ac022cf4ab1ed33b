#!/usr/bin/env bash
# `make quickstart`: changes of a real PostgreSQL, as validated events, on the screen.
#   QUICKSTART_SECONDS=n   stop after n seconds (else at Ctrl-C)
#   SINK=kafka             through a real Kafka broker, started here and read back by kcat
#   PG_URL=postgres://…    your own database; QUICKSTART_TABLES='schema.*' says which tables
#   QUICKSTART_DIR=path    where the events go (default: quickstart-data in the clone, git-ignored)
#   ROWTIDE=path           a rowtide that is built already
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
servers="$root/tests/servers"
# shellcheck source=../../tests/servers/lib.sh
. "$servers/lib.sh"
# shellcheck source=show.sh
. "$here/show.sh"
cd "$root"

sink=${SINK:-jsonl}
seconds=${QUICKSTART_SECONDS:-}
data=${QUICKSTART_DIR:-$root/quickstart-data}
slot=rowtide_quickstart
work=''
rowtide_pid='' rowtide_start=''
writer='' consumer=''
pg_dir='' kafka_dir=''
created_in_pg=''

case "$sink" in
  jsonl) config=examples/quickstart/rowtide.yaml ;;
  kafka) config=examples/quickstart/rowtide-kafka.yaml ;;
  *) die "SINK is jsonl (the default) or kafka, not $sink" ;;
esac
case "$seconds" in
  *[!0-9]*) die "QUICKSTART_SECONDS is a whole number" ;;
esac

sql() { PGCONNECT_TIMEOUT=10 "$psql" -X -q -A -t -v ON_ERROR_STOP=1 -d "$QUICKSTART_PG_URL" "$@"; }

# Everything started here ends here, whatever happened, in the order of the data's way.
# shellcheck disable=SC2317  # called by the trap
clean_up() {
  local status=$?
  trap - EXIT
  trap '' INT TERM
  end_side "$writer"
  end_process "$rowtide_pid" "$rowtide_start" TERM 40
  end_side "$consumer"
  drop_in_pg || true
  [ -z "$pg_dir" ] || "$servers/postgres.sh" stop "$pg_dir" || true
  [ -z "$kafka_dir" ] || "$servers/kafka.sh" stop "$kafka_dir" || true
  [ -z "$work" ] || rm -rf "$work"
  # Ctrl-C is a normal end, also where it cut short a command of the start.
  [ -z "$stop" ] && [ "$status" -ne 130 ] || status=0
  exit "$status"
}

# end_side PID:START
end_side() { [ -z "$1" ] || end_process "${1%%:*}" "${1#*:}" TERM 5; }

# drop_in_pg: removes from the user's own database what was created there.
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

build() {
  [ -n "${ROWTIDE:-}" ] || "$servers/fetch.sh" tools
  "$servers/fetch.sh" clients
  [ -n "${PG_URL:-}" ] || "$servers/fetch.sh" postgres-18
  [ "$sink" != kafka ] || "$servers/fetch.sh" kafka
  psql=$(client psql) || die "psql is missing"
  rowtide=${ROWTIDE:-}
  [ -z "$rowtide" ] || return 0
  export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$ROWTIDE_CACHE/target}"
  say "building rowtide (the first time takes some minutes)…"
  cargo build --locked --release --bin rowtide
  rowtide="$CARGO_TARGET_DIR/release/rowtide"
}

# A position of an earlier run belongs to a database that is gone.
empty_data_folder() {
  mkdir -p "$data"
  data=$(cd "$data" && pwd)
  if [ -e "$data/events" ] || [ -e "$data/state" ]; then
    say "removing the events of the previous run from $data"
    rm -rf "$data/events" "$data/state"
  fi
  rm -f "$data/rowtide.log" "$data/consumed.jsonl"
  export QUICKSTART_DIR="$data"
  export QUICKSTART_TABLES="${QUICKSTART_TABLES:-public.*}"
}

start_own_postgres() {
  say "starting a throwaway PostgreSQL 18…"
  pg_dir="$work/postgres"
  "$servers/postgres.sh" start 18 "$pg_dir" --owner $$ >/dev/null
  QUICKSTART_PG_URL=$(sed -n 's/^URL=//p' "$pg_dir/env")
  export QUICKSTART_PG_URL
  sql -f "$here/schema.sql" >"$work/schema.log"
}

use_users_postgres() {
  export QUICKSTART_PG_URL="$PG_URL"
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
  if [ -t 0 ] && [ -t 2 ]; then
    say "Starting in 5 s; Ctrl-C stops it before anything is created."
    sleep 5
  fi
  created_in_pg=yes
}

start_kafka() {
  say "starting a Kafka broker…"
  kafka_dir="$work/kafka"
  "$servers/kafka.sh" start "$kafka_dir" --owner $$ >/dev/null
  QUICKSTART_BROKERS=$(sed -n 's/^BROKERS=//p' "$kafka_dir/env")
  export QUICKSTART_BROKERS
}

# consume: an independent consumer reads the topics back into one file. It begins when the first of
# them exists: kcat ends where its pattern matches none.
consume() {
  local kcat
  : >"$data/consumed.jsonl"
  if kcat=$(client kcat); then
    say "reading the topics back with kcat"
    launch "$work/consumer.log" "$here/consume.sh" "$data/consumed.jsonl" "$kcat"
  else
    say "reading the topics back with Kafka's console consumer"
    launch "$work/consumer.log" "$here/consume.sh" "$data/consumed.jsonl" "$servers/kafka.sh"
  fi
  consumer="$LAUNCHED_PID:$LAUNCHED_START"
}

start_rowtide() {
  local i
  launch "$data/rowtide.log" "$rowtide" run --config "$config"
  rowtide_pid=$LAUNCHED_PID
  rowtide_start=$LAUNCHED_START
  for ((i = 0; i < 300; i++)); do
    rowtide_lives
    if [ "$(sql -c "select active from pg_replication_slots where slot_name = '$slot'")" = t ]; then
      return 0
    fi
    sleep 0.1
  done
  die "rowtide did not start to stream within 30 s; its log: $data/rowtide.log"
}

rowtide_lives() {
  alive "$rowtide_pid" "$rowtide_start" && return 0
  # At Ctrl-C the check itself may be cut short.
  [ -z "$stop" ] || return 0
  say "rowtide ended by itself; the end of $data/rowtide.log:"
  tail -n 20 "$data/rowtide.log" >&2
  exit 1
}

# side_lives NAME PID:START
side_lives() {
  [ -n "$2" ] || return 0
  alive "${2%%:*}" "${2#*:}" && return 0
  [ -z "$stop" ] || return 0
  say "the $1 ended by itself; the end of its log:"
  tail -n 20 "$work/$1.log" >&2
  exit 1
}

start_writers() {
  say "writing to the shop: about 150 row changes per second"
  launch "$work/writer.log" "$psql" -X -q -v ON_ERROR_STOP=1 -d "$QUICKSTART_PG_URL" \
    -o /dev/null -f "$here/writer.sql"
  writer="$LAUNCHED_PID:$LAUNCHED_START"
}

look_at_files() {
  if [ "$sink" = kafka ]; then
    look "$data/consumed.jsonl"
  else
    look "$data"/events/shop.*.*/*.jsonl
  fi
}

# watch_events: until the time is over or Ctrl-C, which may also cut short what runs just then.
watch_events() {
  local began=$SECONDS said=$SECONDS
  while [ -z "$stop" ]; do
    look_at_files || true
    if [ $((SECONDS - said)) -ge 2 ]; then
      summary $((SECONDS - said)) || true
      said=$SECONDS
    fi
    [ -z "$seconds" ] || [ $((SECONDS - began)) -lt "$seconds" ] || break
    rowtide_lives
    side_lives writer "$writer"
    side_lives consumer "$consumer"
    sleep 0.5 || true
  done
  ran_for=$((SECONDS - began))
}

# finish: the writer ends, then rowtide, which drains; what arrives meanwhile is counted too.
finish() {
  local before=-1
  say "stopping…"
  end_side "$writer"
  end_process "$rowtide_pid" "$rowtide_start" TERM 40
  while [ "$events_total" -gt "$before" ]; do
    before=$events_total
    [ "$sink" != kafka ] || sleep 1
    look_at_files >/dev/null
  done
}

say_where() {
  local sample
  echo
  echo "$events_total events in $ran_for s."
  if [ "$sink" = kafka ]; then
    sample="$data/consumed.jsonl"
    echo "What the consumer read back: $sample"
    echo "  head -n 1 $sample | jq ."
  else
    mkdir -p "$data/events"
    sample=$(find "$data/events" -path '*/shop.*.*/*.jsonl' -size +0 | sort | tail -n 1)
    echo "They are in $data/events, one folder per topic:"
    find "$data/events" -mindepth 1 -maxdepth 1 -type d | sort | sed 's/^/  /'
    [ -z "$sample" ] || echo "Look at one:  head -n 1 $sample | jq ."
  fi
  echo "Each line is an event of schemas/envelope/v1/envelope.schema.json; the schemas of the tables are"
  echo "in shop.schema_changes."
  echo "Rowtide's own log: $data/rowtide.log"
}

stop=''
ran_for=0
trap clean_up EXIT
trap 'stop=1; [ -n "$rowtide_pid" ] || exit 0' INT TERM
build
work=$(mktemp -d "${TMPDIR:-/tmp}/rowtide-quickstart.XXXXXX")
empty_data_folder
if [ -n "${PG_URL:-}" ]; then use_users_postgres; else start_own_postgres; fi
if [ "$sink" = kafka ]; then
  start_kafka
  consume
fi
start_rowtide
if [ -z "${PG_URL:-}" ]; then start_writers; else say "waiting for changes in your database"; fi
say "events as they come; Ctrl-C stops"
watch_events
finish
say_where
