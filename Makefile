# Every target first installs what it needs and the machine lacks, as root on Debian 12.

# The prober is built by itself: in one build with the others, cargo would give its dependencies their features too.
PROBER := --locked --package maglevd-prober
OTHERS := --locked $(addprefix --package ,maglevd maglevc maglev-tests maglev-bench maglev-sim maglev-vppsim)

# Debian's Rust, if the one that comes first in PATH is too old.
export PATH := $(shell scripts/setup.sh path)

# How long `make fuzz` explores each target, and which: all, unless some are named.
MINUTES ?= 1
TARGET ?=

# What `make release` builds, and `make install` installs.
PROFILE ?= release
PROGRAMS ?= target/release
PREFIX ?= /usr/local
UNITDIR ?= $(PREFIX)/lib/systemd/system
SYSCONFDIR ?= /etc

# What operators read, also where there is no network.
GUIDES := operations user-guide config-guide healthchecks vpp security

# How many seeds `make soak` tries.
SEEDS ?= 1000

# The architecture by Debian's name, for the directory of the programs.
ARCH ?= $(or $(shell dpkg --print-architecture 2>/dev/null),$(shell uname -m))

.DEFAULT_GOAL := all
.PHONY: all help pkg-deb demo demo-run test soak lint bench fuzz deny build release install deb deb-check fmt clean

all: release ## Build the three programs for shipping, into build/ARCH; this is what `make` alone does
	install -Dm755 -t build/$(ARCH) $(addprefix $(PROGRAMS)/,maglevd maglevd-prober maglevc)

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: build ## Watch weights in VPP follow the health of three real servers, for less than a minute
	@target/debug/demo

demo-run: build ## Run the same setup until Ctrl-C, for experiments
	@target/debug/demo --stay

test: ## Run the lints and all tests
	@scripts/setup.sh build test proto container
	@scripts/test.sh

soak: ## Simulate the whole system under faults: SEEDS=n new seeds, or replay one by SEED='...', with its trace
	@scripts/setup.sh build
	@cargo build --quiet --locked --package maglev-sim --bin soak
	@target/debug/soak $(if $(SEED),--seed '$(SEED)',--seeds $(SEEDS))

lint: ## Check formatting, run clippy, and check the shell scripts and the API
	@scripts/setup.sh build test proto
	@scripts/test.sh lint

fuzz: ## Feed the decoders with hostile input: MINUTES=1 for each TARGET, or those named
	@scripts/setup.sh build fuzz
	@scripts/fuzz.sh $(MINUTES) $(TARGET)

deny: ## Compare the dependencies with deny.toml: licences, duplicates, sources, advisories
	@scripts/setup.sh build deny
	@scripts/test.sh deny

build: ## Build everything, for debugging
	@scripts/setup.sh build
	cargo build $(PROBER)
	cargo build $(OTHERS)

release: ## Build the three programs for shipping, in target/release
	@scripts/setup.sh build
	cargo build --profile $(PROFILE) $(CARGO_FLAGS) $(PROBER)
	cargo build --profile $(PROFILE) $(CARGO_FLAGS) --locked --package maglevd --package maglevc

# `--help` of the program lists what it can be told.
BENCH ?=

bench: release ## Measure probing beside HAProxy and keepalived, for half an hour, and write docs/performance.md
	@scripts/setup.sh build bench
	cargo build --release --locked --package maglev-bench --bin bench
	@target/release/bench --page docs/performance.md $(BENCH)

install: ## Install them, with units and manuals, below PREFIX (/usr/local) and DESTDIR
	install -Dm755 -t $(DESTDIR)$(PREFIX)/sbin $(PROGRAMS)/maglevd $(PROGRAMS)/maglevd-prober
	install -Dm755 -t $(DESTDIR)$(PREFIX)/bin $(PROGRAMS)/maglevc
	install -Dm644 -t $(DESTDIR)$(UNITDIR) systemd/*.service systemd/*.socket
	sed -i 's,/usr/sbin/,$(PREFIX)/sbin/,' $(DESTDIR)$(UNITDIR)/vpp-maglevd*.service
	install -Dm644 -t $(DESTDIR)$(PREFIX)/lib/sysusers.d systemd/sysusers.d/vpp-maglev.conf
	install -Dm644 -t $(DESTDIR)$(PREFIX)/lib/tmpfiles.d systemd/tmpfiles.d/vpp-maglev.conf
	install -Dm644 -t $(DESTDIR)$(PREFIX)/share/doc/vpp-maglev $(GUIDES:%=docs/%.md)
	install -Dm644 -t $(DESTDIR)$(PREFIX)/share/doc/vpp-maglev/examples docs/examples/*.yaml docs/firewall/*.nft
	install -Dm644 -t $(DESTDIR)$(PREFIX)/share/doc/vpp-maglev docs/monitoring.md docs/runbooks.md
	install -Dm644 -t $(DESTDIR)$(PREFIX)/share/vpp-maglev/monitoring docs/monitoring/alerts.yml docs/monitoring/dashboard.json
	for page in docs/man/*.[158]; do install -Dm644 -t $(DESTDIR)$(PREFIX)/share/man/man$${page##*.} $$page; done
	install -Dm644 -T maglevc/completions/maglevc.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/maglevc
	install -Dm644 -t $(DESTDIR)$(PREFIX)/share/zsh/vendor-completions maglevc/completions/_maglevc
	install -Dm644 -t $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d maglevc/completions/maglevc.fish
	@# What an operator has written stays.
	for file in default/vpp-maglev vpp-maglev/maglev.yaml; do \
		test -e $(DESTDIR)$(SYSCONFDIR)/$$file || install -Dm644 -T debian/etc/$$file $(DESTDIR)$(SYSCONFDIR)/$$file || exit; done

deb: ## Build the Debian packages, for amd64 and arm64, in target/deb
	@scripts/setup.sh build deb
	@scripts/deb.sh build

pkg-deb: deb ## The same as deb

deb-check: ## Build them, run lintian, start those for arm64, and build once more for comparison
	@scripts/setup.sh build deb
	@scripts/test.sh deb

fmt: ## Format everything
	@scripts/setup.sh build test
	cargo fmt --all
	shfmt --write $$(scripts/test.sh scripts)

clean: ## Remove what was built
	rm -rf target build
