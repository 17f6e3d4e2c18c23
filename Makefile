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
	cargo test $(LOCKED) --bench change --bench streams --bench extension --bench kube

# The Go programs that the benches are measured against.
.PHONY: peers
peers:
	@if [ -f bench/peers/go.mod ]; then cd bench/peers && go vet ./... && go build -o '$(CARGO_TARGET_DIR)/peers/' ./...; fi

.PHONY: bench
bench: ## measure, beside go-control-plane; method and last table in bench/README.md
	@bench/run

.PHONY: generate
generate: ## rewrite what is generated and compared: crds/, the chart's roles, tests/golden/, manifests/install.yaml
	TSGW_GENERATE=1 cargo test --test fast
	@$(MAKE) manifests

.PHONY: manifests
manifests: ## rewrite manifests/install.yaml, the plain form of manifests/chart
	@tools/build helm
	tools/manifests > manifests/install.yaml.new
	mv manifests/install.yaml.new manifests/install.yaml

# What the image is called, and how its program is built: without anything of the system that it runs on.
IMAGE ?= tailscale-gateway:$(shell sed -n 's/^version = "\(.*\)"/\1/p;T;q' Cargo.toml)
STATIC := x86_64-unknown-linux-musl
export IMAGE
# What builds it; podman and buildah take the same words.
BUILDER ?= docker

.PHONY: static
static: ## build the program as the image has it and check that it is static; needs musl-gcc
	@rustup target list --installed | grep -qx $(STATIC) || rustup target add $(STATIC)
	cargo build --release --locked --target $(STATIC) --bin tailscale-gateway
	@tools/static '$(CARGO_TARGET_DIR)/$(STATIC)/release/tailscale-gateway'

.PHONY: image
image: ## build the container image IMAGE (tailscale-gateway:VERSION)
	$(BUILDER) build --tag $(IMAGE) .

.PHONY: deploy
deploy: ## install the chart with IMAGE into the cluster of the current kubectl context
	@tools/build helm
	$$(tools/build --print helm) upgrade --install tailscale-gateway manifests/chart \
		--namespace tailscale-gateway --create-namespace \
		--set image.repository="$${IMAGE%:*}" --set image.tag="$${IMAGE##*:}"

.PHONY: undeploy
undeploy: ## remove what `make deploy` installed; the definitions and their objects stay
	@tools/build helm
	$$(tools/build --print helm) uninstall tailscale-gateway --namespace tailscale-gateway

.PHONY: clean
clean: ## remove what was built (the fetched tools stay)
	cargo clean
