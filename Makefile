# The front doors. `make` alone prints them; docs/development.md says more about each.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

# Everything that is built once and kept lies outside the clone, so that a fresh clone is warm.
export ROBOTIMAGE_CACHE ?= $(HOME)/.cache/robotimage
export CARGO_TARGET_DIR ?= $(ROBOTIMAGE_CACHE)/target

export CARGO ?= cargo
# Suites run side by side; they share a cluster and use a namespace each.
export TEST_THREADS ?= 3
TESTBED := $(CARGO_TARGET_DIR)/debug/testbed

.NOTPARALLEL:

##@ See it
.PHONY: demo
demo: prerequisites ## a robot goes from git to a running image on a real cluster
	@$(TESTBED) demo

##@ Check it
.PHONY: test lint unit suites campaign faults simulate fuzz
test: prerequisites lint unit suites ## everything: lint, unit and contract tests, suites against the real parts
lint: chart-drift crds-drift ## formatting, clippy without a warning, generated files, the chart
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) test --quiet --workspace --locked --test chart -- --include-ignored
unit: ## unit, property and contract tests: cargo, git, python3 and tar are needed
	$(CARGO) test --workspace --locked
suites: parts ## the suites that need real parts; `make suites ONLY=name` runs those whose name holds it
	@scripts/suites $(ONLY)
campaign: parts ## 1000 pushes over connections that break; ROBOTIMAGE_PUSHES=n, ROBOTIMAGE_SEED=s and ROBOTIMAGE_PUSH=i repeat
	ROBOTIMAGE_PUSHES=$${ROBOTIMAGE_PUSHES:-1000} $(CARGO) test --locked --package robotimage-tests --test registry a_campaign -- --ignored --nocapture
faults: parts ## every part of a cluster broken under builds, one after another (about half an hour); `make faults ONLY="etcd killed"`
	ROBOTIMAGE_FAULTS="$(or $(ONLY),all)" $(CARGO) test --locked --package robotimage-tests --test cluster a_table_of_faults -- --ignored --nocapture
simulate: ## 100000 random histories of the operator's decision; ROBOTIMAGE_HISTORIES=n, ROBOTIMAGE_SEED=s repeat
	ROBOTIMAGE_HISTORIES=$${ROBOTIMAGE_HISTORIES:-100000} ROBOTIMAGE_SEED=$${ROBOTIMAGE_SEED:-$$(date +%s)} \
	  $(CARGO) test --release --locked --package robotimage-operator --lib whatever_happens -- --nocapture
fuzz: ## every fuzz target for MINUTES=10, JOBS=2 at a time; ONLY="target target"; fails when one finds something
	@scripts/fuzz $(ONLY)

.PHONY: bench bench-operator
bench: prerequisites ## what the builder costs beside other tools (about half an hour); `make bench ONLY=cold` one part
	@$(CARGO) build --workspace --locked --bin bench
	@$(CARGO_TARGET_DIR)/debug/bench $(ONLY)
bench-operator: prerequisites ## what the operator costs with 10000 resources (about 15 minutes); BENCH_OBJECTS=500 for a quick look
	@$(CARGO) build --locked --package robotimage-tests --bin bench
	@$(CARGO_TARGET_DIR)/debug/bench operator

##@ Generate
.PHONY: crds crds-drift chart chart-drift golden
crds: ## crds/robotimages.yaml from the types in crds/src/api
	$(CARGO) run --quiet --locked --bin crdgen > crds/robotimages.yaml.new
	mv crds/robotimages.yaml.new crds/robotimages.yaml
chart: crds ## the chart's copy of the CRD
	cp crds/robotimages.yaml charts/robotimage/files/robotimages.yaml
golden: ## rewrite golden files and the generated parts of docs/reference.md; look at the difference before you commit it
	UPDATE_GOLDEN=1 $(CARGO) test --quiet --locked --package robotimage-operator --lib golden
	UPDATE_GOLDEN=1 $(CARGO) test --quiet --locked --package robotimage-tests --test chart --test docs -- --include-ignored
crds-drift:
	@$(CARGO) run --quiet --locked --bin crdgen | diff -u crds/robotimages.yaml - \
	  || { echo 'crds/robotimages.yaml is not what the types say: run `make crds`' >&2; exit 1; }
chart-drift:
	@diff -u crds/robotimages.yaml charts/robotimage/files/robotimages.yaml \
	  || { echo 'the CRD of the chart is not crds/robotimages.yaml: run `make chart`' >&2; exit 1; }

##@ Work on it
.PHONY: cli kubectl cluster-up cluster-down images install
cli: ## the command line `robotimage`, with the launcher that it puts into images beside it
	$(CARGO) build --locked --release --package robotimage-builder
	RUSTFLAGS='-C target-feature=+crt-static' $(CARGO) build --locked --profile launcher --package robotimage-launcher --target x86_64-unknown-linux-gnu
	install -D --target-directory $(CARGO_TARGET_DIR)/cli $(CARGO_TARGET_DIR)/release/robotimage $(CARGO_TARGET_DIR)/x86_64-unknown-linux-gnu/launcher/robotimage-launcher
kubectl: ## the plugin kubectl-robotimage, for a folder of PATH: `kubectl robotimage status`
	$(CARGO) build --locked --release --package robotimage-kubectl
	install -D --target-directory $(CARGO_TARGET_DIR)/cli $(CARGO_TARGET_DIR)/release/kubectl-robotimage
cluster-up: prerequisites ## start the test bed and keep it: cluster, registries, git server, conda channel
	@$(TESTBED) up
	@echo 'eval "$$($(TESTBED) env)" gives kubectl, helm and all addresses'
cluster-down: ## end the kept test bed
	@$(TESTBED) down
images: prerequisites ## operator and builder images, assembled by our own crates and pushed to the kept test bed
	@$(TESTBED) images
install: prerequisites ## build both images and install the chart into the kept test bed
	@$(TESTBED) install

##@ House
.PHONY: help prerequisites parts clean
help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
prerequisites: ## check what must be there, each with the command that installs it; Debian packages are installed
	@scripts/prerequisites
	@$(CARGO) build --workspace --locked --bin testbed
	@$(TESTBED) setup
parts: prerequisites ## build every real part of the test bed into the cache (about 15 minutes the first time)
	@$(TESTBED) build
clean: ## remove what cargo built; the parts of the test bed stay in $ROBOTIMAGE_CACHE/parts
	$(CARGO) clean
