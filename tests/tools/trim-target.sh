#!/usr/bin/env bash
# Keeps the shared build folder bounded: builds of many clones and toolchains pile up in it, and
# cargo never removes any. Above the limit it is emptied, and the next build fills it again.
set -euo pipefail
limit_gib=${ROWTIDE_TARGET_LIMIT_GIB:-16}
target=${CARGO_TARGET_DIR:-}
[ -n "$target" ] && [ -d "$target" ] || exit 0
used_gib=$(($(du -sk "$target" | cut -f1) / 1048576))
if [ "$used_gib" -ge "$limit_gib" ]; then
  echo "the build folder $target holds $used_gib GiB (limit $limit_gib): emptying it" >&2
  rm -rf "$target"
fi
