# What there is to do here. Needs Rust (rustup), Python 3 with pip, and Go; fetches the rest by itself.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

# Outside the tree, so that a fresh clone builds on what the last one built.
CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tailscale-gateway/target
export CARGO_TARGET_DIR

# In CI, a Cargo.lock that does not fit Cargo.toml is an error instead of something to mend.
LOCKED := $(if $(CI),--locked)

.PHONY: help
help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## try it: control plane, a real Envoy and a small backend on this machine, until Ctrl-C
	@tools/run

.PHONY: test
test: tools lint cargo-test peers ## everything that must hold before a change lands

.PHONY: tools
tools: ## fetch and build the programs that the tests drive (Envoy, grpcio, kube-apiserver, etcd, …)
	@tools/fetch
	@tools/build

.PHONY: lint
lint: ## format, clippy and documentation, warnings being errors
	cargo fmt --check
	cargo clippy $(LOCKED) --all-targets --workspace -- -D warnings
	RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' cargo doc $(LOCKED) --no-deps --document-private-items

.PHONY: cargo-test
cargo-test: tools
	cargo test $(LOCKED) --no-fail-fast
	cargo test $(LOCKED) --bench change --bench streams

# The Go programs that the benches are measured against.
.PHONY: peers
peers:
	@if [ -f bench/peers/go.mod ]; then cd bench/peers && go vet ./... && go build -o '$(CARGO_TARGET_DIR)/peers/' ./...; fi

.PHONY: bench
bench: ## measure, beside go-control-plane; method and last table in bench/README.md
	@bench/run

.PHONY: generate
generate: ## rewrite what is generated and compared: crds/ and the outputs in tests/golden/
	TSGW_GENERATE=1 cargo test --test fast

.PHONY: clean
clean: ## remove what was built (the fetched tools stay)
	cargo clean
