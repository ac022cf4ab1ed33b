# The commands of this project; `make help` lists them. All they fetch and build is kept in one
# cache folder outside the clone, so that a fresh clone starts warm.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.NOTPARALLEL:

export ROWTIDE_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/rowtide
export CARGO_TARGET_DIR ?= $(ROWTIDE_CACHE)/target
export CARGO_INCREMENTAL ?= 0
# Cargo shows its progress only on a terminal; its lines are enough elsewhere.
export CARGO_TERM_COLOR ?= auto

# Most of a test's time is a server's that starts or is waited for.
test_threads := $(or $(RUST_TEST_THREADS),$(shell expr 2 \* $$(getconf _NPROCESSORS_ONLN)))

fetch := tests/servers/fetch.sh
step := tests/tools/step.sh
scripts := .ci/run $(wildcard tests/*/*.sh benches/*.sh examples/*/*.sh)

.PHONY: help quickstart test build-folder fetch proof proof-pg proof-mysql proof-fuzz bench bench-pg bench-mysql fmt lint doc scripts clean-cache

help: ## this list
	@sed -n -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

quickstart: build-folder ## watch changes arrive (DB=mysql, SINK=kafka, QUICKSTART_SECONDS=n, PG_URL=…, MYSQL_URL=…)
	@examples/quickstart/run.sh

test: build-folder fetch fmt lint doc ## fetch the servers, then formatting, lints, documentation and all tests
	@CI=true RUST_TEST_THREADS=$(test_threads) $(step) "tests" \
	  cargo test --locked --workspace --no-fail-fast
	@export ROWTIDE=$(CARGO_TARGET_DIR)/debug/rowtide LENGTH=250; \
	for DB in postgres mysql mariadb; do export DB; \
	  $(step) "short kill loop, $$DB" tests/proof/run.sh quick; \
	  $(step) "short differential test, $$DB" tests/proof/run.sh differential --self-test 1 2; \
	done

build-folder:
	@tests/tools/build-folder.sh

fetch: ## fetch what the build and the tests need (FETCH=all brings every server)
	@$(fetch) tools clients postgres-15 postgres-18 kafka mysql mariadb $(FETCH)

fmt: ## formatting, checked and not changed
	@$(step) "formatting" cargo fmt --all --check

lint: scripts ## lints, every warning an error
	@if cargo clippy --version >/dev/null 2>&1; then \
	  $(step) "lints" cargo clippy --locked --workspace --all-targets -- -D warnings; \
	else echo "no clippy in this toolchain: lints are not checked"; fi

doc: ## the API documentation, every warning an error
	@RUSTDOCFLAGS="-D warnings" $(step) "documentation" cargo doc --locked --workspace --no-deps

scripts: ## the shell scripts, with shellcheck where it is installed
	@if command -v shellcheck >/dev/null; then \
	  $(step) "shell scripts" shellcheck -x -P SCRIPTDIR $(scripts); fi

proof: build-folder ## the long proofs: kill loops and large loads (PROOF='quick', 'kill kafka', 'big')
	@tests/proof/run.sh $(or $(PROOF),all)

proof-pg: build-folder ## hazards of the log by test and version, and the differential test (VERSIONS='17 18', SEEDS=n)
	@tests/proof/run.sh pg $(VERSIONS)

proof-mysql: build-folder ## the same for MySQL and MariaDB (SERVERS=mariadb, SEEDS=n each, KILL=1 with the kill loop)
	@tests/proof/run.sh mysql $(SERVERS)

proof-fuzz: build-folder ## all that reads the server's bytes, by libFuzzer (FUZZ_SECONDS=600 each, FUZZ='texts arrays')
	@$(step) "fuzzing" tests/fuzz/run.sh $(FUZZ)

bench: bench-pg bench-mysql ## all benchmarks

bench-pg: build-folder ## PostgreSQL end to end, side by side with pg_recvlogical
	@benches/run.sh pg

bench-mysql: build-folder ## MySQL and MariaDB end to end, side by side with mysqlbinlog (DB='mysql mariadb')
	@benches/run.sh mysql

clean-cache: ## remove all that was fetched and built
	@for part in servers target tmp locks; do \
	  echo "removing $(ROWTIDE_CACHE)/$$part"; rm -rf "$(ROWTIDE_CACHE)/$$part"; done
