#!/usr/bin/env bash
# rustc.sh RUSTC ARGUMENT…: cargo's rustc, with the counters that guide libFuzzer in this project's own
# crates alone: what other crates do with an input tells nothing about its readers.
set -euo pipefail
case " $* " in
  *" --crate-name rowtide"* | *" --crate-name fuzz "*)
    set -- "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
      -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
      -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
esac
exec "$@"
