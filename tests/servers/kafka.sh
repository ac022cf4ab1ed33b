#!/usr/bin/env bash
# A throwaway single-node Apache Kafka (KRaft) on loopback. See usage().
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=lib.sh
. "$here/lib.sh"

usage() {
  cat >&2 <<'TEXT'
usage: kafka.sh start DIR [options] [broker.property=value …]
       kafka.sh stop DIR              stops the broker and removes its data
       kafka.sh halt [--crash] DIR    stops the broker, keeps data and ports
       kafka.sh resume DIR            starts a halted broker again
       kafka.sh env DIR               prints DIR/env again
       kafka.sh tool CLASS ARGS…      runs a class of Kafka's own tools, for example
                                      org.apache.kafka.tools.consumer.ConsoleConsumer
  --secure      listeners for SASL_PLAINTEXT, SSL and SASL_SSL too; user and password "rowtide"
                (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512)
  --owner PID   stop by itself when that process is gone
Prints PORT, BROKERS, PID, LOG, DATA and, with --secure, SASL_PORT, SSL_PORT, SASL_SSL_PORT, CA,
OTHER_CA, USERNAME, PASSWORD as NAME=VALUE lines; the same are in DIR/env. Topics are not created
on first use, unless auto.create.topics.enable=true is given.
TEXT
  exit 2
}

kafka="$servers_dir/kafka"
user=rowtide
password=rowtide

# java_run JVM-OPTIONS… CLASS ARGS…: takes the place of this (sub)shell.
java_run() {
  exec java -XX:-UsePerfData -cp "$kafka/libs/*" -Dorg.slf4j.simpleLogger.showDateTime=true "$@"
}

plain_jaas='org.apache.kafka.common.security.plain.PlainLoginModule required'
scram_jaas='org.apache.kafka.common.security.scram.ScramLoginModule required;'

write_properties() {
  local file=$1 dir=$2 port=$3 controller=$4 sasl=$5 ssl=$6 sasl_ssl=$7 name
  local listeners="PLAINTEXT://127.0.0.1:$port" names="PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"
  if [ -n "$sasl" ]; then
    listeners="$listeners,SASL://127.0.0.1:$sasl,SSL://localhost:$ssl,SASLSSL://localhost:$sasl_ssl"
    names="$names,SASL:SASL_PLAINTEXT,SSL:SSL,SASLSSL:SASL_SSL"
  fi
  cat >"$file" <<CONF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listeners=$listeners,CONTROLLER://127.0.0.1:$controller
advertised.listeners=$listeners
listener.security.protocol.map=$names
log.dirs=$dir/data
num.partitions=1
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=33554432
num.network.threads=2
num.io.threads=4
CONF
  [ -n "$sasl" ] || return 0
  cat "$dir/tls/server.key" "$dir/tls/server.crt" >"$dir/tls/server.pem"
  {
    echo "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"
    for name in sasl saslssl; do
      echo "listener.name.$name.plain.sasl.jaas.config=$plain_jaas user_$user=\"$password\";"
      echo "listener.name.$name.scram-sha-256.sasl.jaas.config=$scram_jaas"
      echo "listener.name.$name.scram-sha-512.sasl.jaas.config=$scram_jaas"
    done
    echo "ssl.keystore.type=PEM"
    echo "ssl.keystore.location=$dir/tls/server.pem"
    echo "ssl.truststore.type=PEM"
    echo "ssl.truststore.location=$dir/tls/ca.crt"
  } >>"$file"
}

# broker_ready DIR: the broker says so in its log, and takes connections.
broker_ready() {
  tail -n "+$(($(state_get "$1" LOG_FROM) + 1))" "$1/log" | grep -q 'Kafka Server started' &&
    port_open "$(state_get "$1" PORT)"
}

run_broker() {
  local dir=$1 port lines=0
  port=$(state_get "$dir" PORT)
  [ ! -e "$dir/log" ] || lines=$(wc -l <"$dir/log")
  # A killed JVM leaves the libraries behind that it unpacked: in the server's own folder, then.
  mkdir -p "$dir/tmp"
  launch "$dir/log" java -Xms128m -Xmx512m -XX:+UseSerialGC -XX:-UsePerfData \
    "-Djava.io.tmpdir=$dir/tmp" -Djava.awt.headless=true \
    -Dorg.slf4j.simpleLogger.showDateTime=true -cp "$kafka/libs/*" \
    kafka.Kafka "$dir/server.properties"
  state_set "$dir" "LOG_FROM=$lines" "PID=$LAUNCHED_PID" "START=$LAUNCHED_START"
  wait_ready "Kafka on port $port" "$dir/log" 90 "$LAUNCHED_PID" "$LAUNCHED_START" \
    broker_ready "$dir" || return 1
  write_env "$dir"
}

write_env() {
  local dir=$1 port
  port=$(state_get "$dir" PORT)
  {
    echo "PORT=$port"
    echo "BROKERS=127.0.0.1:$port"
    echo "PID=$(state_get "$dir" PID)"
    echo "LOG=$dir/log"
    echo "DATA=$dir/data"
    if [ -d "$dir/tls" ]; then
      echo "SASL_PORT=$(state_get "$dir" SASL_PORT)"
      echo "SSL_PORT=$(state_get "$dir" SSL_PORT)"
      echo "SASL_SSL_PORT=$(state_get "$dir" SASL_SSL_PORT)"
      echo "CA=$dir/tls/ca.crt"
      echo "OTHER_CA=$dir/tls/other-ca.crt"
      echo "USERNAME=$user"
      echo "PASSWORD=$password"
    fi
  } >"$dir/env.new"
  mv "$dir/env.new" "$dir/env"
}

start() {
  local dir=$1 secure='' owner='' port controller sasl='' ssl='' sasl_ssl='' settings=() scram=()
  shift
  while [ $# -gt 0 ]; do
    case "$1" in
      --secure) secure=1 ;;
      --owner) owner=$2 && shift ;;
      -*) usage ;;
      *=*) settings+=("$1") ;;
      *) usage ;;
    esac
    shift
  done
  "$here/fetch.sh" kafka
  dir=$(server_dir "$dir")
  [ ! -e "$dir/state" ] || die "a server was already started in $dir: stop it first"
  port=$(free_port)
  controller=$(free_port)
  state_set "$dir" "PORT=$port" "CONTROLLER=$controller"
  if [ -n "$secure" ]; then
    sasl=$(free_port)
    ssl=$(free_port)
    sasl_ssl=$(free_port)
    state_set "$dir" "SASL_PORT=$sasl" "SSL_PORT=$ssl" "SASL_SSL_PORT=$sasl_ssl"
    make_tls "$dir/tls"
    for mechanism in SCRAM-SHA-256 SCRAM-SHA-512; do
      scram+=(--add-scram "$mechanism=[name=$user,password=$password]")
    done
  fi
  write_properties "$dir/server.properties" "$dir" "$port" "$controller" "$sasl" "$ssl" "$sasl_ssl"
  printf '%s\n' ${settings[@]+"${settings[@]}"} >>"$dir/server.properties"
  # A fixed cluster id: 16 bytes in URL-safe base64, as the storage tool wants it.
  (java_run -XX:TieredStopAtLevel=1 -XX:+UseSerialGC kafka.tools.StorageTool format \
    --config "$dir/server.properties" --cluster-id cm93dGlkZS1pbi10ZXN0cw \
    ${scram[@]+"${scram[@]}"}) >>"$dir/log" 2>&1 </dev/null || {
    tail -n 20 "$dir/log" >&2
    stop "$dir"
    die "formatting Kafka's storage failed"
  }
  run_broker "$dir" || {
    stop "$dir"
    die "Kafka did not start"
  }
  [ -z "$owner" ] || watch_owner "$owner" "$here/kafka.sh" "$dir"
  cat "$dir/env"
}

stop() {
  local dir=$1 name
  [ -e "$dir/state" ] || return 0
  # Nothing is kept, so the broker need not close its logs first.
  end_process "$(state_get "$dir" PID)" "$(state_get "$dir" START)" KILL 10
  for name in PORT CONTROLLER SASL_PORT SSL_PORT SASL_SSL_PORT; do
    release_ports "$(state_get "$dir" "$name")"
  done
  rm -rf "$dir/data" "$dir/tls" "$dir/tmp" "$dir/state" "$dir/env" "$dir/server.properties"
}

halt() {
  local signal=TERM dir
  if [ "$1" = --crash ]; then
    signal=KILL
    shift
  fi
  dir=$1
  [ -e "$dir/state" ] || die "no server in $dir"
  end_process "$(state_get "$dir" PID)" "$(state_get "$dir" START)" "$signal" 30
}

resume() {
  local dir=$1
  [ -e "$dir/state" ] || die "no server in $dir"
  ! alive "$(state_get "$dir" PID)" "$(state_get "$dir" START)" || die "it still runs"
  run_broker "$dir" || die "Kafka did not start again"
  cat "$dir/env"
}

command=${1:-}
case "$command" in
  start | tool) [ $# -ge 2 ] || usage ;;
  stop | resume | env) [ $# -eq 2 ] || usage ;;
  halt) [ $# -ge 2 ] || usage ;;
  *) usage ;;
esac
shift
case "$command" in
  env) cat "$1/env" ;;
  tool)
    "$here/fetch.sh" kafka
    java_run -Xmx256m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC \
      -Dorg.slf4j.simpleLogger.defaultLogLevel=warn "$@"
    ;;
  *) "$command" "$@" ;;
esac
