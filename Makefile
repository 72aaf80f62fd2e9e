# The commands of this project. `make help` lists them.
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c

# One target directory outside the clone, so that a fresh clone starts warm.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/aesp/target
export AESP_TOOLS ?= $(HOME)/.cache/aesp/tools
export PATH := $(AESP_TOOLS)/bin:$(HOME)/.cargo/bin:$(PATH)
# Where demo, bench and chaos leave their figures.
export OUT ?= target/out

# The one debug build of tests and chaos runs. All targets at once, so that every dependency is compiled for one set of features only.
BUILD = cargo build --workspace --bins --tests --locked

# How long `make fuzz` runs each target.
SECONDS ?= 60

# How long `make chaos` may take in seconds, and on how many nodes it plays: 1, 3 or 1,3.
DURATION ?= 540
NODES ?= 1,3

.PHONY: help setup peers build check lint unit test demo bench fuzz coverage chaos chaos-short advisories clean

help: ## Lists the commands.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup:
	@scripts/setup build

peers: setup
	@scripts/install-peers

build: setup ## Builds the binary.
	cargo build --release -p aesp-node

demo: peers ## Shows one governed tool call and its refusals on real tools. ONCE=1 stops at the end.
	cargo build --release -p aesp-node -p aesp-tests --bins
	@mkdir -p $(OUT)
	$(CARGO_TARGET_DIR)/release/aesp-demo $(if $(ONCE),--once) --out $(OUT)

test: ## Lint, unit, integration and real-counterpart tests: what decides whether a change lands.
	@scripts/setup test
	@scripts/install-peers
	@scripts/install-fault-tools
	$(MAKE) check

check: lint unit chaos-short

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo deny --log-level error check bans licenses sources
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet

unit:
	@[ -n "$${AESP_TEST_FDB_CLUSTER:-}" ] || echo "SKIPPED: everything on FoundationDB; AESP_TEST_FDB_CLUSTER names no cluster file (docs/foundationdb.md)"
	@[ -n "$${AESP_TEST_FDB_BIN:-}" ] || echo "SKIPPED: FoundationDB's TLS, topologies and backup; AESP_TEST_FDB_BIN names no folder with the server's programs (docs/foundationdb.md)"
	$(BUILD)
	cargo nextest run --workspace --locked
	cargo test --doc --workspace --locked --quiet

bench: setup ## Measures a bare relay and the governed path in one run.
	cargo build --release -p aesp-node -p aesp-tests --bins
	@mkdir -p $(OUT)
	$(CARGO_TARGET_DIR)/release/aesp-bench --out $(OUT)
	@[ -n "$${AESP_TEST_FDB_CLUSTER:-}" ] || echo "SKIPPED: the store on FoundationDB; AESP_TEST_FDB_CLUSTER names no cluster file (docs/foundationdb.md)"
	@[ -z "$${AESP_TEST_FDB_CLUSTER:-}" ] || cargo run --release -p aesp-storage --example fdb_rate -- "$$AESP_TEST_FDB_CLUSTER" "$${AESP_TEST_FDB_LIBRARY:-}" $(OUT)/fdb.json

chaos: ## Breaks real nodes and Runtimes and checks the invariants. DURATION=540 seconds, NODES=1,3.
	@scripts/setup build
	@scripts/install-fault-tools
	$(BUILD)
	$(CARGO_TARGET_DIR)/debug/aesp-chaos run --nodes $(NODES) --within $(DURATION) --out $(OUT)

chaos-short: ## The same in three minutes: part of `make test`.
	$(BUILD)
	$(CARGO_TARGET_DIR)/debug/aesp-chaos run --short --nodes $(NODES) --within 150 --out $(OUT)

fuzz: ## Fuzzes everything that parses strangers' bytes. SECONDS=60 each, TARGETS="row_key schema" chooses.
	@scripts/setup fuzz
	scripts/fuzz $(SECONDS) $(TARGETS)

coverage: ## Runs every test and reports which lines of the decision code they ran; fails below 90 %.
	@scripts/setup coverage
	@scripts/install-peers
	@scripts/install-fault-tools
	scripts/coverage $(OUT)

advisories: ## Known vulnerabilities in dependencies; needs the network.
	cargo deny check advisories

clean: ## Removes the figures; the target directory stays.
	rm -rf target/out
