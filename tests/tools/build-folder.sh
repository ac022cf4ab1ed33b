#!/usr/bin/env bash
# Makes the shared build folder ready for this clone.
#
# Builds of many clones and toolchains pile up in it, and cargo never removes any: above a limit it is
# emptied, and the next build fills it again.
#
# Cargo tells files of several clones apart by their age alone. Where another clone built last, all
# files of this one count as changed, or what the other one built would be taken for it.
set -euo pipefail
limit_gib=${ROWTIDE_TARGET_LIMIT_GIB:-16}
target=${CARGO_TARGET_DIR:-}
clone="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
[ -n "$target" ] || exit 0
mkdir -p "$target"
used_gib=$(($(du -sk "$target" | cut -f1) / 1048576))
if [ "$used_gib" -ge "$limit_gib" ]; then
  echo "the build folder $target holds $used_gib GiB (limit $limit_gib): emptying it" >&2
  rm -rf "$target"
  mkdir -p "$target"
fi
if [ "$(cat "$target/clone" 2>/dev/null || true)" != "$clone" ]; then
  find "$clone" \( -name .git -o -name target -o -name node_modules \) -prune -o -type f -exec touch -c {} +
  printf '%s\n' "$clone" >"$target/clone"
fi
