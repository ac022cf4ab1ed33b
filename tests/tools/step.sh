#!/usr/bin/env bash
# step.sh NAME COMMAND…: runs a step of the Makefile and says how long it took.
set -euo pipefail
name=$1
shift
printf '== %s: %s\n' "$name" "$*"
began=$SECONDS
status=0
"$@" || status=$?
if [ "$status" -eq 0 ]; then
  printf '== %s: ok (%d s)\n' "$name" "$((SECONDS - began))"
else
  printf '== %s: FAILED (%d s)\n' "$name" "$((SECONDS - began))" >&2
fi
exit "$status"
