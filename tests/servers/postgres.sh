#!/usr/bin/env bash
# A throwaway PostgreSQL on loopback. See usage().
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=lib.sh
. "$here/lib.sh"

usage() {
  cat >&2 <<'TEXT'
usage: postgres.sh start VERSION DIR [options] [setting=value …]
       postgres.sh replica OF DIR [--owner PID] [setting=value …]
                                        a standby that streams from the running server OF
       postgres.sh stop DIR             stops the server and removes its data
       postgres.sh halt [--crash] DIR   stops the server, keeps data and port
       postgres.sh resume DIR           starts a halted server again
       postgres.sh env DIR              prints DIR/env again
  --auth trust|md5|scram-sha-256   over TCP (default trust); the unix socket is always trusted
  --password TEXT                  of the superuser "postgres" (default: postgres)
  --tls                            TLS with a throwaway authority; plain TCP is refused
  --client-cert                    TLS, and a client certificate of the user is demanded too
  --hba LINE                       a pg_hba.conf line placed before the others; repeatable
  --owner PID                      stop by itself when that process is gone
A replica begins as a copy of OF, which is stopped and started again for it (its PID changes); it has
no slots, and uses the physical slot "replica" of OF: create that before, or it takes a while.
VERSION is 14 to 18. Prints VERSION, PORT, SOCKET (folder), PID, URL, LOG, DATA and, with TLS, CA,
OTHER_CA, CLIENT_CERT, CLIENT_KEY as NAME=VALUE lines; the same are in DIR/env.
TEXT
  exit 2
}

# PostgreSQL refuses to run as root: then the server belongs to nobody.
as_server() { env "${as_server[@]}" "$@"; }
as_server=()
if is_root; then
  have setpriv || die "setpriv is missing: install util-linux"
  as_server=(setpriv --reuid=nobody "--regid=$(id -g nobody)" --clear-groups)
fi

# make_home DIR: prints a folder that the server's user can reach. As root that may be impossible
# under DIR (a temporary folder is usually private), then it is a folder of its own under /tmp.
make_home() {
  local home="$1/server"
  mkdir -p "$home"
  if is_root; then
    chown nobody "$home"
    if ! as_server test -w "$home"; then
      rmdir "$home"
      home=$(mktemp -d "${TMPDIR:-/tmp}/rowtide-pg.XXXXXX")
      chown nobody "$home"
    fi
  fi
  chmod 755 "$home"
  printf '%s\n' "$home"
}

# reachable_server HOME VERSION: prints the folder of the binaries. When the server's user cannot
# reach the cache, a copy by hard links is made in the server's own folder.
reachable_server() {
  local home=$1 from="$servers_dir/postgres-$2"
  if is_root && ! as_server test -x "$from/bin/postgres"; then
    cp -al "$from" "$home/pg" 2>/dev/null || { rm -rf "$home/pg" && cp -a "$from" "$home/pg"; }
    from="$home/pg"
  fi
  printf '%s\n' "$from"
}

write_hba() {
  local file=$1 auth=$2 tls=$3 lines=$4 kind=host options=
  [ "$tls" = off ] || kind=hostssl
  [ "$tls" != client-cert ] || options="clientcert=verify-full"
  {
    printf '%s' "$lines"
    printf 'local all all trust\nlocal replication all trust\n'
    for database in all replication; do
      for address in 127.0.0.1/32 ::1/128; do
        printf '%s %s all %s %s %s\n' "$kind" "$database" "$address" "$auth" "$options"
      done
    done
  } >"$file"
}

# write_settings FILE SOCKET PORT TLS AUTH: later lines win, so the caller's settings come after.
write_settings() {
  cat >>"$1" <<CONF
listen_addresses = '127.0.0.1'
port = $3
unix_socket_directories = '$2'
wal_level = logical
max_wal_senders = 20
max_replication_slots = 20
shared_buffers = 64MB
max_connections = 60
fsync = off
log_timezone = 'UTC'
timezone = 'UTC'
CONF
  case "$5" in
    md5) echo "password_encryption = md5" >>"$1" ;;
    *) echo "password_encryption = 'scram-sha-256'" >>"$1" ;;
  esac
  if [ "$4" != off ]; then
    printf '%s\n' "ssl = on" "ssl_cert_file = 'server.crt'" "ssl_key_file = 'server.key'" \
      "ssl_ca_file = 'ca.crt'" >>"$1"
  fi
}

# run_server DIR: starts the postmaster of a prepared folder and waits until it takes connections.
run_server() {
  local dir=$1 home pg port
  home=$(state_get "$dir" HOME)
  pg=$(state_get "$dir" PG)
  port=$(state_get "$dir" PORT)
  launch "$dir/log" env "${as_server[@]}" env LD_LIBRARY_PATH="$pg/lib" \
    "$pg/bin/postgres" -D "$home/data"
  state_set "$dir" "PID=$LAUNCHED_PID" "START=$LAUNCHED_START"
  wait_ready "PostgreSQL on port $port" "$dir/log" 60 "$LAUNCHED_PID" "$LAUNCHED_START" \
    grep -q '^ready' "$home/data/postmaster.pid" || return 1
  write_env "$dir"
}

write_env() {
  local dir=$1 port
  port=$(state_get "$dir" PORT)
  {
    echo "VERSION=$(state_get "$dir" VERSION)"
    echo "PORT=$port"
    echo "SOCKET=$(state_get "$dir" SOCKET)"
    echo "PID=$(state_get "$dir" PID)"
    echo "URL=postgres://postgres@127.0.0.1:$port/postgres"
    echo "LOG=$dir/log"
    echo "DATA=$(state_get "$dir" HOME)/data"
    if [ -d "$dir/tls" ]; then
      echo "CA=$dir/tls/ca.crt"
      echo "OTHER_CA=$dir/tls/other-ca.crt"
      echo "CLIENT_CERT=$dir/tls/client.crt"
      echo "CLIENT_KEY=$dir/tls/client.key"
    fi
  } >"$dir/env.new"
  mv "$dir/env.new" "$dir/env"
}

start() {
  local version=$1 dir=$2 auth=trust password=postgres tls=off hba='' owner=''
  local home pg port socket settings=()
  shift 2
  while [ $# -gt 0 ]; do
    case "$1" in
      --auth) auth=$2 && shift ;;
      --password) password=$2 && shift ;;
      --tls) [ "$tls" != off ] || tls=on ;;
      --client-cert) tls=client-cert ;;
      --hba) hba="$hba$2"$'\n' && shift ;;
      --owner) owner=$2 && shift ;;
      -*) usage ;;
      *=*) settings+=("$1") ;;
      *) usage ;;
    esac
    shift
  done
  "$here/fetch.sh" "postgres-$version"
  dir=$(server_dir "$dir")
  [ ! -e "$dir/state" ] || die "a server was already started in $dir: stop it first"
  home=$(make_home "$dir")
  state_set "$dir" "VERSION=$version" "HOME=$home"
  pg=$(reachable_server "$home" "$version")
  socket=$(make_socket "$home")
  port=$(free_port)
  state_set "$dir" "PG=$pg" "SOCKET=$socket" "PORT=$port"
  init_data "$pg" "$home" "$password" "$auth" "$dir/log" || abandon "$dir" "initdb failed"
  write_hba "$home/data/pg_hba.conf" "$auth" "$tls" "$hba"
  write_settings "$home/data/postgresql.conf" "$socket" "$port" "$tls" "$auth"
  write_more_settings "$home/data/postgresql.conf" ${settings[@]+"${settings[@]}"}
  if [ "$tls" != off ]; then
    make_tls "$dir/tls"
    cp "$dir/tls/server.crt" "$dir/tls/server.key" "$dir/tls/ca.crt" "$home/data/"
    ! is_root || chown nobody "$home/data/"{server.crt,server.key,ca.crt}
  fi
  run_server "$dir" || abandon "$dir" "PostgreSQL $version did not start"
  [ -z "$owner" ] || watch_owner "$owner" "$here/postgres.sh" "$dir"
  cat "$dir/env"
}

# replica OF DIR: of the same version and with the same settings, but for its own.
replica() {
  local of=$1 dir=$2 owner='' version home pg port socket from setting settings=()
  shift 2
  while [ $# -gt 0 ]; do
    case "$1" in
      --owner) owner=$2 && shift ;;
      *=*) settings+=("$1") ;;
      *) usage ;;
    esac
    shift
  done
  [ -e "$of/state" ] || die "no server in $of"
  dir=$(server_dir "$dir")
  [ ! -e "$dir/state" ] || die "a server was already started in $dir: stop it first"
  version=$(state_get "$of" VERSION)
  from="$(state_get "$of" HOME)/data"
  home=$(make_home "$dir")
  state_set "$dir" "VERSION=$version" "HOME=$home"
  pg=$(reachable_server "$home" "$version")
  socket=$(make_socket "$home")
  port=$(free_port)
  state_set "$dir" "PG=$pg" "SOCKET=$socket" "PORT=$port"
  # A copy of a server that was stopped cleanly needs no backup.
  halt "$of"
  cp -a "$from" "$home/data"
  rm -rf "$home/data/pg_replslot/"* "$home/data/postmaster.pid"
  resume "$of" >/dev/null
  settings=("port=$port" "unix_socket_directories=$socket" "hot_standby=on"
    "primary_conninfo=host=$(state_get "$of" SOCKET) port=$(state_get "$of" PORT) user=postgres \
dbname=postgres application_name=replica" "primary_slot_name=replica" "hot_standby_feedback=on"
    "wal_retrieve_retry_interval=200ms" "wal_receiver_status_interval=1s"
    ${settings[@]+"${settings[@]}"})
  write_more_settings "$home/data/postgresql.conf" "${settings[@]}"
  : >"$home/data/standby.signal"
  ! is_root || chown nobody "$home/data/standby.signal"
  run_server "$dir" || abandon "$dir" "the replica did not start"
  [ -z "$owner" ] || watch_owner "$owner" "$here/postgres.sh" "$dir"
  cat "$dir/env"
}

# write_more_settings FILE setting=value…: quoted as the server reads them.
write_more_settings() {
  local file=$1 setting
  shift
  for setting in "$@"; do
    printf "%s = '%s'\n" "${setting%%=*}" "$(printf '%s' "${setting#*=}" | sed "s/'/''/g")" >>"$file"
  done
}

# make_socket HOME: prints a folder for the unix socket.
make_socket() {
  local socket=$1
  if [ ${#socket} -gt 80 ]; then
    # The path of a unix socket is limited to 107 bytes.
    socket=$(mktemp -d /tmp/rowtide-pg.XXXXXX)
    ! is_root || chown nobody "$socket"
    chmod 755 "$socket"
  fi
  printf '%s\n' "$socket"
}

# init_data PG HOME PASSWORD AUTH LOG
init_data() {
  local pg=$1 home=$2
  printf '%s\n' "$3" >"$home/password"
  ! is_root || chown nobody "$home/password"
  as_server env LD_LIBRARY_PATH="$pg/lib" "$pg/bin/initdb" -D "$home/data" -U postgres \
    --encoding=UTF8 --locale=C --auth-local=trust --auth-host="$4" --pwfile="$home/password" --no-sync \
    --no-instructions >>"$5" 2>&1 </dev/null || {
    tail -n 20 "$5" >&2
    return 1
  }
  rm -f "$home/password"
}

abandon() {
  local dir=$1
  shift
  stop "$dir"
  die "$*"
}

stop() {
  local dir=$1 home socket
  [ -e "$dir/state" ] || return 0
  home=$(state_get "$dir" HOME)
  socket=$(state_get "$dir" SOCKET)
  # An immediate shutdown: nothing of the data is kept.
  end_process "$(state_get "$dir" PID)" "$(state_get "$dir" START)" QUIT 10
  release_ports "$(state_get "$dir" PORT)"
  [ -z "$home" ] || rm -rf "$home"
  [ -z "$socket" ] || [ "$socket" = "$home" ] || rm -rf "$socket"
  rm -rf "$dir/tls" "$dir/state" "$dir/env"
}

halt() {
  local signal=INT dir
  if [ "$1" = --crash ]; then
    signal=QUIT
    shift
  fi
  dir=$1
  [ -e "$dir/state" ] || die "no server in $dir"
  end_process "$(state_get "$dir" PID)" "$(state_get "$dir" START)" "$signal" 20
}

resume() {
  local dir=$1
  [ -e "$dir/state" ] || die "no server in $dir"
  ! alive "$(state_get "$dir" PID)" "$(state_get "$dir" START)" || die "it still runs"
  rm -f "$(state_get "$dir" HOME)/data/postmaster.pid"
  run_server "$dir" || die "PostgreSQL did not start again"
  cat "$dir/env"
}

command=${1:-}
case "$command" in
  start | replica) [ $# -ge 3 ] || usage ;;
  stop | resume | env) [ $# -eq 2 ] || usage ;;
  halt) [ $# -ge 2 ] || usage ;;
  *) usage ;;
esac
shift
case "$command" in
  env) cat "$1/env" ;;
  *) "$command" "$@" ;;
esac
