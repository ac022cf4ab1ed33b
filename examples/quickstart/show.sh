# shellcheck shell=bash
# Shows events as they come: reads what was appended to the files since the last look, prints the
# newest few, cut to the width of the terminal, and counts them all. Sourced by run.sh.

declare -A shown_to=()
events_total=0
events_last=0
lag_us=''
# The newest few of each look; the rest is counted. A person reads no more.
events_per_look=4

# look FILE…: reads what is new in each file.
# shellcheck disable=SC2154  # work is the scratch folder of run.sh
look() {
  local file size from chunk="$work/chunk" lines newest="$work/newest"
  : >"$newest"
  for file in "$@"; do
    [ -f "$file" ] || continue
    size=$(stat -c %s "$file" 2>/dev/null) || continue
    from=${shown_to[$file]:-0}
    [ "$size" -gt "$from" ] || continue
    tail -c "+$((from + 1))" "$file" 2>/dev/null | head -c "$((size - from))" >"$chunk"
    lines=$(wc -l <"$chunk")
    [ "$lines" -gt 0 ] || continue
    # Only whole lines: the rest is read at the next look.
    shown_to[$file]=$((from + $(head -n "$lines" "$chunk" | wc -c)))
    events_total=$((events_total + lines))
    head -n "$lines" "$chunk" | tail -n "$events_per_look" >>"$newest"
  done
  [ -s "$newest" ] || return 0
  note_lag "$newest"
  # A few of all files, in the order in which they were captured.
  sed -E 's/.*"ts_us":([0-9]+)\}$/\1\t&/' "$newest" | sort -n | cut -f2- |
    tail -n "$events_per_look" | cut_to_width
}

# note_lag FILE: the largest time from a commit in the database to its capture, in µs.
note_lag() {
  lag_us=$(sed -n -E 's/.*"source":\{.*"ts_us":([0-9]+),"snapshot".*"ts_us":([0-9]+)\}$/\1 \2/p' "$1" |
    awk '{ d = $2 - $1; if (d > max) max = d } END { if (NR) printf "%.0f", max }')
}

cut_to_width() {
  local columns
  if [ -t 1 ]; then
    columns=$(tput cols 2>/dev/null || echo 120)
    cut -c "1-$columns"
  else
    cat
  fi
}

# summary SECONDS-SINCE-THE-LAST-ONE
summary() {
  local new=$((events_total - events_last)) lag=''
  [ -z "$lag_us" ] || lag=", lag $((lag_us / 1000)) ms from commit to capture"
  printf -- '--- %d events, %d events/s%s\n' "$events_total" "$((new / $1))" "$lag"
  events_last=$events_total
  lag_us=''
}
