# Each target says what it does; the work is in deploy/dev and cargo. `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help fuzz setup services build demo down test two-versions laws mutants lint deny check-deploy test-deploy test-compile test-ami memory bench-resque resque-kills chaos walk-1000
FLEET ?= 3
REPEAT ?= 1
export FLEET REPEAT
MINUTES ?= 2
GATEWAYDS ?= 100
CASES ?= 1000000

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: ## install what is missing: system packages, moto, gatewayd's npm peer (all but the packages under .dev)
	@deploy/dev/setup

services: setup ## start the private Postgres and Redis
	@deploy/dev/services start

build: ## build every binary (the EC2 SDK takes some minutes, once)
	@echo "build: cargo build --workspace --all-targets (the first time takes some minutes)"
	@cargo build --workspace --all-targets

demo: setup build ## a fleet of FLEET gatewayds on this machine, on real programs, without AWS
	@deploy/dev/demo

down: ## end everything that demo and test started; keeps only what setup installed
	@deploy/dev/down

test: services build ## set up and run every test, the laws on release binaries among them
	@deploy/dev/previous
	@deploy/dev/test
	@deploy/dev/laws

two-versions: services build ## the previous release's services beside these, an upgrade under load and the way back
	@deploy/dev/previous
	@deploy/dev/test --test two_versions

laws: services ## the laws on release binaries, REPEAT=1 times (docs/laws.md)
	@deploy/dev/laws

fuzz: services ## property tests of everything that reads outside input, CASES=1000000 each (settings a tenth, over sockets a twentieth, names in Postgres a quarter)
	PROPTEST_CASES=$(CASES) cargo test --workspace --release --lib -- hostile redact
	@PROPTEST_CASES=$(CASES) deploy/dev/test --release --test names

mutants: services ## each law fails when its protection is taken out (half an hour)
	@deploy/dev/mutants

lint: ## formatting and clippy, as CI runs them
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --workspace --test laws -- -D warnings

deny: ## licences, bans and sources of all dependencies (installs cargo-deny under .dev if there is none)
	@deploy/dev/deny

check-deploy: setup ## the Nomad job and the Compose file say the same
	@deploy/dev/check-deploy

test-deploy: setup ## deploy it for real: an engine of our own, images, Compose; scale, kill, roll, take down
	@deploy/dev/test-deploy

test-compile: setup ## have Docker compile the images as it does for a user (outside CI: a quarter of an hour, 8 GB of disk)
	@deploy/dev/test-compile

test-ami: setup ## make a golden image in a folder, check it over SSH, and have gatewayd answer there (no EC2)
	@deploy/dev/test-ami

bench-resque: services ## our Resque client beside npm node-resque; writes docs/benchmarks.md
	@deploy/dev/bench-resque

resque-kills: build ## 200 SIGKILLs of a Resque worker under load: none lost, and how many twice
	RESQUE_KILLS=200 cargo test --workspace --test kills -- --nocapture

chaos: services ## a fleet of GATEWAYDS for MINUTES while everything goes wrong, from SEED; judged by ledger and database
	cargo build --workspace --release --bins
	@deploy/dev/chaos --minutes $(MINUTES) --gatewayds $(GATEWAYDS) $(if $(SEED),--seed $(SEED))

walk-1000: services ## a thousand gatewayds from new to live: transitions a second, memory of each service
	cargo build --workspace --release --bins
	@deploy/dev/chaos --walk 1000

memory: services ## idle memory of each service, in a release build
	cargo build --workspace --release --bins
	@deploy/dev/memory
