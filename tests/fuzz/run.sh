#!/usr/bin/env bash
# The fuzz targets under libFuzzer, guided by coverage; the targets are
# connectors/{postgres,mysql}/tests/fuzz/targets.rs. What is built and found is kept in the cache, so that
# each run goes on from what earlier ones have reached.
#   run.sh [TARGET…]              runs all or some, FUZZ_SECONDS each (600)
#   run.sh repeat TARGET FILE     gives one input to a target
#   run.sh corpus [TARGET…]       renews the committed corpus: of all inputs that are there, a few
#                                 short ones that together reach the same code
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
servers="$root/tests/servers"
# shellcheck source=../servers/lib.sh
. "$servers/lib.sh"
# shellcheck source=../servers/packages.sh
. "$servers/packages.sh"

seconds=${FUZZ_SECONDS:-600}
work="$ROWTIDE_CACHE/fuzz"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}"

# build: a copy of the program, which no later build replaces, in a folder of this run.
build() {
  ensure_commands "fuzzing" c++:g++
  (cd "$root" && RUSTC_WRAPPER="$here/rustc.sh" \
    cargo build --locked --profile fuzz -p rowtide-fuzz --features libfuzzer)
  run="$(scratch_in_cache)"
  trap 'rm -rf "$run"' EXIT
  cp "$CARGO_TARGET_DIR/fuzz/fuzz" "$run/fuzz"
}

# fuzz TARGET ARGUMENT…: the program, with the folder `known` for the target's inputs so far.
fuzz() {
  local target=$1 max_len=512
  shift
  # A transcript is many messages, and a row stands behind its table; whatever else is long only takes
  # time.
  case "$target" in
    transcripts | mysql_stream) max_len=4096 ;;
    mysql_rows | mysql_login) max_len=1024 ;;
  esac
  FUZZ_TARGET=$target FUZZ_SEEDS="$known" "$run/fuzz" -max_len=$max_len "$@"
}

# prepare TARGET: the folders of a target.
prepare() {
  folder="$work/$1" known="$run/$1"
  mkdir -p "$folder/grown" "$folder/failed" "$known"
  inputs=("$folder/grown" "$known")
  local part
  for part in corpus regressions; do
    if [ -d "$here/$part/$1" ]; then inputs+=("$here/$part/$1"); fi
  done
}

# field NAME: the last number behind it in the target's log.
field() { grep -aoE "$1 *[0-9]+" "$folder/log" | tail -n 1 | grep -oE '[0-9]+$' || echo 0; }

run_targets() {
  local target executions=0 failed=0 count is_fine input
  for target in "$@"; do
    prepare "$target"
    is_fine=true
    fuzz "$target" -max_total_time="$seconds" -timeout=25 -print_final_stats=1 \
      -dict="$here/dictionary" -artifact_prefix="$folder/failed/" \
      "${inputs[@]}" >"$folder/log" 2>&1 || is_fine=false
    count=$(field 'number_of_executed_units:')
    executions=$((executions + count))
    printf '%-16s %11d executions, %5d edges, %5d inputs\n' "$target" "$count" "$(field 'cov:')" \
      "$(field 'corp:')"
    if ! $is_fine; then
      failed=$((failed + 1))
      say "FAILED; the end of $folder/log:"
      grep -a -A1 -E 'panicked at|ERROR: libFuzzer' "$folder/log" >&2 || tail -n 5 "$folder/log" >&2
      input=$(sed -n 's/.*Test unit written to //p' "$folder/log" | tail -n 1)
      [ -z "$input" ] || say "once more: tests/fuzz/run.sh repeat $target $input" \
        "(when it is mended, copy that file to tests/fuzz/regressions/$target/)"
    fi
  done
  printf '{"proof":"fuzz","targets":%d,"seconds_each":%d,"executions":%d,"failed":%d}\n' \
    $# "$seconds" "$executions" "$failed"
  [ "$failed" -eq 0 ]
}

renew() {
  local target shortened
  for target in "$@"; do
    prepare "$target"
    mkdir "$run/least"
    shortened=()
    # Its inputs are long and many; what only long ones reach is found again from the seeds.
    [ "$target" != mysql_stream ] || shortened=(-max_len=400)
    # Which code ran counts, not how often: that keeps it small.
    fuzz "$target" -set_cover_merge=1 -use_counters=0 "${shortened[@]}" "$run/least" \
      "${inputs[@]}" 2>&1 | tail -n 1
    rm -rf "${here:?}/corpus/$target"
    mkdir -p "$here/corpus"
    mv "$run/least" "$here/corpus/$target"
  done
}

what=run
case "${1:-}" in
  repeat | corpus)
    what=$1
    shift
    ;;
esac
build
if [ "$what" = repeat ]; then
  [ $# -eq 2 ] || die "run.sh repeat TARGET FILE"
  prepare "$1"
  fuzz "$1" "$2"
  exit
fi
[ $# -gt 0 ] || set -- pgoutput transcripts frames texts arrays composites ranges hstore binary \
  mysql_events mysql_tables mysql_rows mysql_packed mysql_values mysql_json mysql_gtids \
  mysql_statements mysql_packets mysql_login mysql_stream
case "$what" in
  run) run_targets "$@" ;;
  corpus) renew "$@" ;;
esac
