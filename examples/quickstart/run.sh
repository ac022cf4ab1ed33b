#!/usr/bin/env bash
# `make quickstart`: changes of a real database, as validated events, on the screen.
#   DB=mysql, DB=mariadb   of MySQL or MariaDB; default: PostgreSQL
#   QUICKSTART_SECONDS=n   stop after n seconds (else at Ctrl-C)
#   SINK=kafka             through a real Kafka broker, started here and read back by kcat
#   PG_URL=postgres://…    your own database; QUICKSTART_TABLES='schema.*' says which tables
#   MYSQL_URL=mysql://…    your own server; QUICKSTART_TABLES='database.*' says which tables
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
work=''
rowtide_pid='' rowtide_start=''
writer='' consumer=''
kafka_dir=''

default_db=postgres
[ -z "${MYSQL_URL:-}" ] || default_db=mysql
db=${DB:-$default_db}
case "$db" in
  # shellcheck source=db-postgres.sh
  postgres) . "$here/db-postgres.sh" ;;
  # shellcheck source=db-mysql.sh
  mysql | mariadb) . "$here/db-mysql.sh" ;;
  *) die "DB is postgres (the default), mysql or mariadb, not $db" ;;
esac
config="examples/quickstart/${db/mariadb/mysql}"
case "$sink" in
  jsonl) config="$config.yaml" ;;
  kafka) config="$config-kafka.yaml" ;;
  *) die "SINK is jsonl (the default) or kafka, not $sink" ;;
esac
case "$seconds" in
  *[!0-9]*) die "QUICKSTART_SECONDS is a whole number" ;;
esac

# Everything started here ends here, whatever happened, in the order of the data's way.
# shellcheck disable=SC2317  # called by the trap
clean_up() {
  local status=$?
  trap - EXIT
  trap '' INT TERM
  end_side "$writer"
  end_process "$rowtide_pid" "$rowtide_start" TERM 40
  end_side "$consumer"
  db_clean_up
  [ -z "$kafka_dir" ] || "$servers/kafka.sh" stop "$kafka_dir" || true
  [ -z "$work" ] || rm -rf "$work"
  # Ctrl-C is a normal end, also where it cut short a command of the start.
  [ -z "$stop" ] && [ "$status" -ne 130 ] || status=0
  exit "$status"
}

# end_side PID:START
end_side() { [ -z "$1" ] || end_process "${1%%:*}" "${1#*:}" TERM 5; }

build() {
  [ -n "${ROWTIDE:-}" ] || "$servers/fetch.sh" tools
  db_fetch
  [ "$sink" != kafka ] || "$servers/fetch.sh" clients kafka
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
  export QUICKSTART_TABLES="${QUICKSTART_TABLES:-$tables_default}"
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
    if db_is_streamed; then return 0; fi
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
  db_writer "$work/writer.log"
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
if [ -n "$own_url" ]; then
  db_use
  if [ -t 0 ] && [ -t 2 ]; then
    say "Starting in 5 s; Ctrl-C stops it before anything is created."
    sleep 5
  fi
else
  db_start
fi
if [ "$sink" = kafka ]; then
  start_kafka
  consume
fi
start_rowtide
if [ -z "$own_url" ]; then start_writers; else say "waiting for changes in your database"; fi
say "events as they come; Ctrl-C stops"
watch_events
finish
say_where
