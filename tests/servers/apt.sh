# shellcheck shell=bash
# Debian packages unpacked into a folder of their own, without installing them and without root:
# a private apt state, the machine's own sources, and every dependency down to the C library, so
# that what runs does not depend on what the machine has. Sourced by fetch.sh.

# apt_sources SUITE FILE-WITHOUT-ENDING: writes the machine's own Debian source with that suite.
# The ending tells apt which of the two source formats it is.
apt_sources() {
  local suite=$1 out=$2 file
  for file in /etc/apt/sources.list.d/*.sources; do
    [ -r "$file" ] || continue
    # The first stanza that is neither updates nor security: the base suite.
    sed '/^#/d' "$file" | awk -v suite="$suite" '
      BEGIN { RS = ""; FS = "\n" }
      /(^|\n)Types:[^\n]*deb/ && !/(^|\n)Enabled: *no/ && /(^|\n)Suites: *[a-z]+( |\n|$)/ {
        for (i = 1; i <= NF; i++) {
          if ($i ~ /^Suites:/) $i = "Suites: " suite
          if ($i ~ /^Components:/) $i = "Components: main"
          print $i
        }
        exit
      }' >"$out.sources"
    [ ! -s "$out.sources" ] || return 0
  done
  rm -f "$out.sources"
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -r "$file" ] || continue
    sed -n -E "s/^deb( \[[^]]*\])? ([^ ]+) [a-z]+ .*/deb\1 \2 $suite main/p" "$file" |
      head -n 1 >"$out.list"
    [ ! -s "$out.list" ] || return 0
  done
  die "this machine's apt has no Debian source to derive $suite from"
}

debian_codename() { sed -n 's/^VERSION_CODENAME=//p' /etc/os-release | tr -d '"'; }

need_debian() {
  if ! have apt-get || ! have dpkg-deb; then
    die "$1 needs apt-get and dpkg-deb; install $2 yourself"
  fi
  grep -q '^ID=debian' /etc/os-release || die "$1 comes from Debian; install $2 yourself"
}

# apt_unpack DIR SUITE PACKAGE…: unpacks packages with all they depend on into DIR/root. A package
# written +NAME is unpacked alone, without what it depends on.
apt_unpack() {
  local dir=$1 suite=$2 apt name packages=() alone=() list apt_get
  shift 2
  for name in "$@"; do
    case "$name" in
      +*) alone+=("${name#+}") ;;
      *) packages+=("$name") ;;
    esac
  done
  apt="$dir/apt"
  mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$apt/debs" "$apt/parts" "$dir/root"
  : >"$apt/status"
  if [ "$suite" = machine ]; then
    # All of the machine's sources: its security updates too.
    list=(-o "Dir::State::lists=$apt/lists")
  else
    apt_sources "$suite" "$apt/source"
    list=(-o "Dir::Etc::sourcelist=$(ls "$apt"/source.*)" -o "Dir::Etc::sourceparts=$apt/parts"
      -o "Dir::State::lists=$apt/lists")
  fi
  apt_get=(apt-get -q -y "${list[@]}" -o "Dir::State::status=$apt/status" -o "Dir::Cache=$apt"
    -o "Dir::Cache::archives=$apt/archives" -o APT::Sandbox::User= -o Debug::NoLocking=1
    -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o Dir::Etc::preferences=/dev/null
    -o Dir::Etc::preferencesparts=/dev/null -o Dpkg::Use-Pty=0)
  apt_quietly "$apt/log" "${apt_get[@]}" update
  apt_quietly "$apt/plan" "${apt_get[@]}" install -s --no-install-recommends "${packages[@]}"
  mapfile -t packages < <(awk '$1 == "Inst" { print $2 }' "$apt/plan")
  [ ${#packages[@]} -gt 0 ] || die "apt found nothing to download for: $*"
  say "  ${#packages[@]} packages…"
  (cd "$apt/debs" &&
    apt_quietly "$apt/log" "${apt_get[@]}" download "${packages[@]}" ${alone[@]+"${alone[@]}"})
  for name in "$apt"/debs/*.deb; do
    dpkg-deb -x "$name" "$dir/root"
  done
  rm -rf "$apt" "$dir"/root/usr/share/{doc,man,locale,info,lintian}
}

# apt_quietly LOG COMMAND…: its output goes to the log, and is shown only when it fails.
apt_quietly() {
  local log=$1
  shift
  "$@" >>"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    die "apt-get failed: ${*: -3}"
  }
}

# unpacked_loader ROOT: prints the path, inside ROOT, of the loader of an unpacked folder.
unpacked_loader() {
  local root=$1 loader
  for loader in "$root"/usr/lib/*/ld-linux-*.so.* "$root"/lib/*/ld-linux-*.so.* \
    "$root"/usr/lib/ld-linux-*.so.* "$root"/lib/ld-linux-*.so.*; do
    # A link with an absolute target would lead out of the folder.
    if [ -f "$loader" ] && [ ! -L "$loader" ]; then
      printf '%s\n' "${loader#"$root"/}"
      return 0
    fi
  done
  die "no loader in $root"
}

# unpacked_program DIR PATH: makes DIR/bin/NAME, which runs DIR/root/PATH with the loader and the
# libraries of that folder, wherever the folder is moved to.
unpacked_program() {
  local dir=$1 path=$2 loader libs='' lib
  [ -x "$dir/root/$path" ] || die "$path is not in the packages"
  loader=$(unpacked_loader "$dir/root")
  for lib in "$dir"/root/{usr/lib,lib}/*-linux-gnu* "$dir"/root/usr/lib/mysql/private; do
    [ ! -d "$lib" ] || libs="$libs:\$root/${lib#"$dir"/root/}"
  done
  mkdir -p "$dir/bin"
  cat >"$dir/bin/${path##*/}" <<SH
#!/bin/sh
root="\$(cd "\$(dirname "\$0")/../root" && pwd)"
exec "\$root/$loader" --library-path "${libs#:}" "\$root/$path" "\$@"
SH
  chmod +x "$dir/bin/${path##*/}"
}
