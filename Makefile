# Every target first installs what it needs and the machine lacks, as root on Debian 12.

# The prober is built by itself: in one build with the others, cargo would give its dependencies their features too.
PROBER := --locked --package prober
OTHERS := --locked --package controller --package maglevc --package maglev-tests

# Debian's Rust, if the one that comes first in PATH is too old.
export PATH := $(shell scripts/setup.sh path)

.DEFAULT_GOAL := help
.PHONY: help demo demo-run test lint build fmt clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: build ## Watch weights in VPP follow the health of three real servers, for less than a minute
	@target/debug/demo

demo-run: build ## Set up the same and leave it to you until Ctrl-C
	@target/debug/demo --stay

test: ## Run the lints and all tests
	@scripts/setup.sh build test
	@scripts/test.sh

lint: ## Check formatting, run clippy, and check the shell scripts
	@scripts/setup.sh build test
	@scripts/test.sh lint

build: ## Build everything, for debugging
	@scripts/setup.sh build
	cargo build $(PROBER)
	cargo build $(OTHERS)

fmt: ## Format everything
	@scripts/setup.sh build test
	cargo fmt --all
	shfmt --write $$(scripts/test.sh scripts)

clean: ## Remove what was built
	rm -rf target
