#!/usr/bin/env bash
# A throwaway MySQL (or, called by mariadb.sh, MariaDB) on loopback. See usage().
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=lib.sh
. "$here/lib.sh"

flavor=${ROWTIDE_MYSQL_FLAVOR:-mysql}
kit="$servers_dir/$flavor"

usage() {
  cat >&2 <<TEXT
usage: $flavor.sh start DIR [--owner PID] [option=value …]
       $flavor.sh stop DIR              stops the server and removes its data
       $flavor.sh halt [--crash] DIR    stops the server, keeps data and port
       $flavor.sh resume DIR            starts a halted server again
       $flavor.sh env DIR               prints DIR/env again
The binary log is on. Users: root over the unix socket, rowtide with password rowtide over TCP.
Prints PORT, SOCKET (file), PID, URL, LOG, DATA, CLIENT, BINLOG as NAME=VALUE lines; the same are in
DIR/env.
TEXT
  exit 2
}

# server_args DIR: fills the array args with what both flavors and every start need.
server_args() {
  local dir=$1 root="$kit/root"
  # Of its own: a server that starts removes all temporary tables that it finds there.
  mkdir -p "$dir/tmp"
  args=("--datadir=$dir/data" "--tmpdir=$dir/tmp" --bind-address=127.0.0.1
    "--port=$(state_get "$dir" PORT)"
    "--socket=$(state_get "$dir" SOCKET)" "--pid-file=$dir/data/server.pid" --server-id=1
    --log-bin=binlog --secure-file-priv= --innodb-buffer-pool-size=64M
    --innodb-flush-log-at-trx-commit=2 --sync-binlog=0)
  ! is_root || args+=(--user=root)
  if [ "$flavor" = mysql ]; then
    args+=(--gtid-mode=ON --enforce-gtid-consistency=ON --mysqlx=OFF
      "--lc-messages-dir=$root/usr/share/mysql"
      "--character-sets-dir=$root/usr/share/mysql/charsets" "--plugin-dir=$root/usr/lib/mysql/plugin")
  else
    args+=("--lc-messages-dir=$root/usr/share/mysql" --binlog-format=ROW
      "--character-sets-dir=$root/usr/share/mysql/charsets"
      "--plugin-dir=$root/usr/lib/mysql/plugin")
  fi
}

server_program() {
  if [ "$flavor" = mysql ]; then echo "$kit/bin/mysqld"; else echo "$kit/bin/mariadbd"; fi
}

# init_data DIR: makes the data folder; from one that is kept in the cache, where no option decides
# once and for all what it holds.
init_data() {
  local dir=$1
  if [ "$flavor" = mysql ] && grep -qE '^--lower.case.table.names=' "$dir/options"; then
    make_data "$dir"
    return
  fi
  [ -e "$kit/data" ] || with_lock "$flavor-data" keep_data "$dir" || return 1
  cp -R "$kit/data" "$dir/data"
}

# keep_data DIR: makes the data folder that others are copied from, in the server folder DIR.
keep_data() {
  local dir=$1 scratch
  [ ! -e "$kit/data" ] || return 0
  make_data "$dir" || return 1
  # What every server has for itself.
  rm -f "$dir"/data/auto.cnf "$dir"/data/binlog.* "$dir"/data/server.pid
  scratch=$(scratch_in_cache)
  mv "$dir/data" "$scratch/data"
  mv "$scratch/data" "$kit/data"
  rmdir "$scratch"
}

# make_data DIR
make_data() {
  local dir=$1 args forever
  server_args "$dir"
  if [ "$flavor" = mysql ]; then
    mapfile -t forever < <(grep -E '^--lower.case.table.names=' "$dir/options" || true)
    "$kit/bin/mysqld" --no-defaults "${args[@]}" ${forever[@]+"${forever[@]}"} \
      --initialize-insecure >>"$dir/log" 2>&1 </dev/null
    return
  fi
  # What mariadb-install-db does: the system tables' SQL through the server's bootstrap mode.
  mkdir -p "$dir/data/mysql"
  {
    printf 'create database if not exists mysql;\nuse mysql;\n'
    printf "set @auth_root_socket=NULL, @skip_auth_anonymous=1;\n"
    cat "$kit"/root/usr/share/mysql/mysql_system_tables.sql \
      "$kit"/root/usr/share/mysql/mysql_performance_tables.sql \
      "$kit"/root/usr/share/mysql/mysql_system_tables_data.sql
  } | "$kit/bin/mariadbd" --no-defaults "${args[@]}" --bootstrap --skip-log-bin \
    --max_allowed_packet=8M >>"$dir/log" 2>&1
}

sql() {
  local dir=$1
  shift
  "$kit/bin/$flavor" --no-defaults --user=root --socket="$(state_get "$dir" SOCKET)" \
    --batch --skip-column-names --execute "$*"
}

run_server() {
  local dir=$1 port args extra=()
  port=$(state_get "$dir" PORT)
  server_args "$dir"
  [ ! -s "$dir/options" ] || mapfile -t extra <"$dir/options"
  launch "$dir/log" "$(server_program)" --no-defaults "${args[@]}" ${extra[@]+"${extra[@]}"}
  state_set "$dir" "PID=$LAUNCHED_PID" "START=$LAUNCHED_START"
  wait_ready "$flavor on port $port" "$dir/log" 60 "$LAUNCHED_PID" "$LAUNCHED_START" \
    sql "$dir" "select 1" || return 1
  write_env "$dir"
}

write_env() {
  local dir=$1 port
  port=$(state_get "$dir" PORT)
  {
    echo "PORT=$port"
    echo "SOCKET=$(state_get "$dir" SOCKET)"
    echo "PID=$(state_get "$dir" PID)"
    echo "URL=mysql://rowtide:rowtide@127.0.0.1:$port/"
    echo "LOG=$dir/log"
    echo "DATA=$dir/data"
    echo "CLIENT=$kit/bin/$flavor"
    if [ "$flavor" = mysql ]; then
      echo "BINLOG=$kit/bin/mysqlbinlog"
    else
      echo "BINLOG=$kit/bin/mariadb-binlog"
    fi
  } >"$dir/env.new"
  mv "$dir/env.new" "$dir/env"
}

start() {
  local dir=$1 owner='' socket
  shift
  local options=()
  while [ $# -gt 0 ]; do
    case "$1" in
      --owner) owner=$2 && shift ;;
      -*) usage ;;
      *=*) options+=("--$1") ;;
      *) usage ;;
    esac
    shift
  done
  "$here/fetch.sh" "$flavor"
  dir=$(server_dir "$dir")
  [ ! -e "$dir/state" ] || die "a server was already started in $dir: stop it first"
  socket="$dir/socket"
  # The path of a unix socket is limited to 107 bytes.
  [ ${#socket} -le 100 ] || socket="$(mktemp -d /tmp/rowtide-mysql.XXXXXX)/socket"
  state_set "$dir" "PORT=$(free_port)" "SOCKET=$socket"
  : >"$dir/options"
  [ ${#options[@]} -eq 0 ] || printf '%s\n' "${options[@]}" >"$dir/options"
  init_data "$dir" || {
    tail -n 20 "$dir/log" >&2
    stop "$dir"
    die "preparing the data folder failed"
  }
  run_server "$dir" || {
    stop "$dir"
    die "$flavor did not start"
  }
  sql "$dir" "create user 'rowtide'@'%' identified by 'rowtide';
    grant all on *.* to 'rowtide'@'%' with grant option" >&2
  [ -z "$owner" ] || watch_owner "$owner" "$here/$flavor.sh" "$dir"
  cat "$dir/env"
}

stop() {
  local dir=$1 socket
  [ -e "$dir/state" ] || return 0
  # Nothing is kept, so there is nothing to flush first.
  end_process "$(state_get "$dir" PID)" "$(state_get "$dir" START)" KILL 10
  release_ports "$(state_get "$dir" PORT)"
  socket=$(state_get "$dir" SOCKET)
  case "$socket" in
    /tmp/rowtide-mysql.*) rm -rf "${socket%/socket}" ;;
  esac
  rm -rf "$dir/data" "$dir/tmp" "$dir/options" "$dir/state" "$dir/env" "$dir/socket" \
    "$dir/socket.lock"
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
  local dir
  [ -e "$1/state" ] || die "no server in $1"
  # The server changes its folder.
  dir=$(server_dir "$1")
  ! alive "$(state_get "$dir" PID)" "$(state_get "$dir" START)" || die "it still runs"
  rm -f "$(state_get "$dir" SOCKET).lock"
  run_server "$dir" || die "$flavor did not start again"
  cat "$dir/env"
}

command=${1:-}
case "$command" in
  start | halt) [ $# -ge 2 ] || usage ;;
  stop | resume | env) [ $# -eq 2 ] || usage ;;
  *) usage ;;
esac
shift
case "$command" in
  env) cat "$1/env" ;;
  *) "$command" "$@" ;;
esac
