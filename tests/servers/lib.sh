# shellcheck shell=bash
# What the server scripts share: the cache, locks, ports, processes, TLS files.
# Sourced, never run. Progress goes to stderr; stdout belongs to the answer of a script.

ROWTIDE_CACHE="${ROWTIDE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rowtide}"
# shellcheck disable=SC2034  # used by the scripts that source this
servers_dir="$ROWTIDE_CACHE/servers"

say() { printf '%s\n' "$*" >&2; }

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

is_root() { [ "$(id -u)" -eq 0 ]; }

# with_lock NAME COMMAND…: one process at a time, over all clones that share the cache.
with_lock() {
  local name=$1
  shift
  mkdir -p "$ROWTIDE_CACHE/locks"
  have flock || die "flock is missing: install util-linux"
  (
    if ! flock -n 9; then
      say "waiting for another fetch of $name to end…"
      flock 9
    fi
    "$@"
  ) 9>"$ROWTIDE_CACHE/locks/$name.lock"
}

# swap_in NEW TARGET: puts a finished folder in place by rename, replacing an older one.
swap_in() {
  local new=$1 target=$2
  mkdir -p "$(dirname "$target")"
  if [ -e "$target" ]; then
    mv "$target" "$new.old"
  fi
  mv "$new" "$target"
  rm -rf "$new.old"
}

# scratch_in_cache: a new empty folder on the cache's own file system, so that a rename is atomic.
# Folders that a killed run left behind are removed after a day.
scratch_in_cache() {
  mkdir -p "$ROWTIDE_CACHE/tmp"
  find "$ROWTIDE_CACHE/tmp" -mindepth 1 -maxdepth 1 -mmin +1440 -exec rm -rf {} + 2>/dev/null || true
  mktemp -d "$ROWTIDE_CACHE/tmp/fetch.XXXXXX"
}

ports_dir="/tmp/rowtide-ports-$(id -u)"

# free_port: prints a loopback port that nobody listens on and reserves it against the other
# scripts. Below the usual ephemeral range, so that no outgoing connection can take it meanwhile.
free_port() {
  local port try
  mkdir -p "$ports_dir"
  find "$ports_dir" -mindepth 1 -maxdepth 1 -mmin +1440 -exec rmdir {} + 2>/dev/null || true
  for ((try = 0; try < 500; try++)); do
    port=$((10240 + (RANDOM * 32768 + RANDOM) % 22000))
    mkdir "$ports_dir/$port" 2>/dev/null || continue
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      printf '%s\n' "$port"
      return 0
    fi
    rmdir "$ports_dir/$port"
  done
  die "no free port found on 127.0.0.1"
}

release_ports() {
  local port
  for port in "$@"; do
    [ -z "$port" ] || rmdir "$ports_dir/$port" 2>/dev/null || true
  done
}

# proc_start PID: the start time of a process, so that a reused pid is never taken for ours.
proc_start() {
  if [ -r "/proc/$1/stat" ]; then
    sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20
  else
    ps -o lstart= -p "$1" 2>/dev/null | tr -s ' ' '_'
  fi
}

# alive PID START: true while exactly that process runs. A zombie does not, unless threads of it are
# still ending: they hold its files and ports.
alive() {
  local pid=$1 start=$2 tasks
  [ -n "$pid" ] || return 1
  kill -0 "$pid" 2>/dev/null || return 1
  if [ -r "/proc/$pid/stat" ]; then
    case "$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | cut -c1)" in
      X | '') return 1 ;;
      Z)
        tasks=("/proc/$pid/task/"*)
        [ ${#tasks[@]} -gt 1 ] || return 1
        ;;
    esac
  fi
  [ "$(proc_start "$pid")" = "$start" ]
}

# launch LOG COMMAND…: starts a server in a session of its own; its pid is left in LAUNCHED_PID and
# its start time in LAUNCHED_START. No file descriptor of the caller stays open in it.
launch() {
  local log=$1
  shift
  setsid "$@" >>"$log" 2>&1 </dev/null 9>&- &
  LAUNCHED_PID=$!
  # shellcheck disable=SC2034
  LAUNCHED_START=$(proc_start "$LAUNCHED_PID")
}

# end_process PID START SIGNAL SECONDS: the signal, then a bounded wait, then SIGKILL.
end_process() {
  local pid=$1 start=$2 signal=$3 seconds=$4 i
  alive "$pid" "$start" || return 0
  kill "-$signal" "$pid" 2>/dev/null || true
  for ((i = 0; i < seconds * 20; i++)); do
    alive "$pid" "$start" || return 0
    sleep 0.05
  done
  say "process $pid did not end within ${seconds} s of SIG$signal: SIGKILL"
  kill -KILL "$pid" 2>/dev/null || true
  for ((i = 0; i < 100; i++)); do
    alive "$pid" "$start" || return 0
    sleep 0.05
  done
}

# wait_ready NAME LOG SECONDS PID START CHECK…: until the check succeeds; on failure the log's tail.
wait_ready() {
  local name=$1 log=$2 seconds=$3 pid=$4 start=$5 i
  shift 5
  for ((i = 0; i < seconds * 10; i++)); do
    if "$@" >/dev/null 2>&1; then
      return 0
    fi
    if ! alive "$pid" "$start"; then
      say "$name ended while starting; the end of $log:"
      tail -n 30 "$log" >&2 || true
      return 1
    fi
    sleep 0.1
  done
  say "$name was not ready after ${seconds} s; the end of $log:"
  tail -n 30 "$log" >&2 || true
  return 1
}

port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# watch_owner PID SCRIPT DIR: stops the server when the process that wanted it is gone, however it
# ended, or when its folder was removed without a stop; ends by itself when the server was stopped.
watch_owner() {
  local owner=$1 script=$2 dir=$3 start state
  start=$(proc_start "$owner")
  state=$(cat "$dir/state")
  (
    trap '' INT HUP
    while [ -e "$dir/state" ]; do
      # It changes when a halted server is resumed.
      state=$(cat "$dir/state" 2>/dev/null) || break
      if ! alive "$owner" "$start"; then
        "$script" stop "$dir" || true
        exit 0
      fi
      sleep 1
    done
    pid=$(sed -n 's/^PID=//p' <<<"$state") begun=$(sed -n 's/^START=//p' <<<"$state")
    if alive "$pid" "$begun"; then
      rescue=$(mktemp -d /tmp/rowtide-rescue.XXXXXX)
      printf '%s\n' "$state" >"$rescue/state"
      "$script" stop "$rescue" || true
      rm -rf "$rescue"
    fi
  ) >/dev/null 2>&1 </dev/null 9>&- &
  disown
}

# server_dir DIR: makes the folder of a server and prints its absolute path.
server_dir() {
  case "$1" in
    *[[:space:]]*) die "the folder's name must hold no white space: $1" ;;
  esac
  mkdir -p "$1"
  (cd "$1" && pwd -P)
}

# state_get DIR NAME: one value of the folder's state file.
state_get() {
  [ -r "$1/state" ] || return 0
  sed -n "s/^$2=//p" "$1/state" | tail -n 1
}

# state_set DIR NAME=VALUE…: adds or replaces values.
state_set() {
  local dir=$1 pair tmp
  shift
  tmp="$dir/state.new"
  : >"$tmp"
  if [ -r "$dir/state" ]; then cp "$dir/state" "$tmp"; fi
  for pair in "$@"; do
    sed "/^${pair%%=*}=/d" "$tmp" >"$tmp.2"
    printf '%s\n' "$pair" >>"$tmp.2"
    mv "$tmp.2" "$tmp"
  done
  mv "$tmp" "$dir/state"
}

# make_tls DIR: a throwaway certificate authority, a server certificate for localhost and 127.0.0.1,
# and a client certificate for the user "postgres". A second authority, which signed nothing, is for
# tests of refusals.
make_tls() {
  local dir=$1 name
  have openssl || die "openssl is missing: install it"
  mkdir -p "$dir"
  for name in ca other-ca; do
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
      -subj "/CN=rowtide throwaway $name" -keyout "$dir/$name.key" -out "$dir/$name.crt" \
      -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" \
      2>/dev/null
  done
  sign_tls "$dir" server localhost "subjectAltName=DNS:localhost,IP:127.0.0.1"
  sign_tls "$dir" client postgres "extendedKeyUsage=clientAuth"
  chmod 600 "$dir"/*.key
}

# sign_tls DIR NAME CN EXTENSION
sign_tls() {
  local dir=$1 name=$2 cn=$3 extension=$4
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$cn" \
    -keyout "$dir/$name.key" -out "$dir/$name.csr" 2>/dev/null
  printf '%s\n' "$extension" "basicConstraints=CA:FALSE" >"$dir/$name.ext"
  openssl x509 -req -in "$dir/$name.csr" -CA "$dir/ca.crt" -CAkey "$dir/ca.key" -CAcreateserial \
    -days 30 -extfile "$dir/$name.ext" -out "$dir/$name.crt" 2>/dev/null
  rm -f "$dir/$name.csr" "$dir/$name.ext"
}

# client NAME: prints the path of psql, pg_recvlogical or kcat, of the machine or else of the cache;
# fails when neither has it (fetch.sh clients brings it).
client() {
  local name=$1 path
  # Debian's psql on the PATH is a wrapper that looks for local clusters: the program proper first.
  for path in /usr/lib/postgresql/*/bin/"$name" "$(command -v "$name" || true)" \
    "$servers_dir/clients/bin/$name"; do
    if [ -n "$path" ] && [ -x "$path" ]; then
      printf '%s\n' "$path"
      return 0
    fi
  done
  return 1
}
