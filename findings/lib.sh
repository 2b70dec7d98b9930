#!/usr/bin/env bash
# Shared by the findings: a temporary folder, pinned packages in it, and comparisons.
set -euo pipefail

work=$(mktemp -d)
export work
cleanup() {
	local job
	for job in $(jobs -p); do kill -KILL "$job" 2>/dev/null || true; done
	wait 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT

# Ends a finding that cannot run here, with exit status 2.
unavailable() { # TEXT
	echo "cannot run here: $1" >&2
	exit 2
}

as_root() {
	[ "$(id -u)" = 0 ] || unavailable 'it needs root, for a network namespace of its own'
}

# Unpacks packages of Debian 12, with those dependencies that this machine lacks. Installs nothing.
debian() { # PACKAGE=VERSION...
	local needed packages
	needed=$(apt-get --simulate --no-install-recommends install "$@" 2>/dev/null) || unavailable "no package $*; try apt-get update"
	mapfile -t packages < <(awk '/^Inst /{print $2}' <<<"$needed")
	mkdir -p "$work/deb" "$work/root"
	(cd "$work/deb" && apt-get -qq -o APT::Sandbox::User=root download "$@" "${packages[@]}") || unavailable "no package $*"
	for package in "$work"/deb/*.deb; do dpkg-deb --extract "$package" "$work/root"; done
	lib=$work/root/usr/lib/$(uname -m)-linux-gnu
	export lib
	export PATH="$work/root/usr/sbin:$work/root/usr/bin:$PATH" LD_LIBRARY_PATH="$lib"
}

# Makes a program of Rust: src/main.rs from standard input, with these lines of [dependencies].
rust() { # DEPENDENCY...
	cargo new --quiet --vcs none --name finding "$work/rust" || unavailable 'no cargo'
	cat >"$work/rust/src/main.rs"
	printf '%s\n' "$@" >>"$work/rust/Cargo.toml"
	(cd "$work/rust" && cargo build --quiet --target-dir "$work/target") || unavailable "no crates $*"
}

# Waits at most ten seconds.
await() { # COMMAND...
	local _
	for _ in {1..100}; do
		if "$@" &>/dev/null; then return; fi
		sleep 0.1
	done
	unavailable "never came true: $*"
}

# Prints a result, and ends with exit status 1 if it is not the known one.
expect() { # NAME KNOWN SEEN
	echo "$1: $3"
	if [ "$2" != "$3" ]; then
		echo "changed: it was $2" >&2
		exit 1
	fi
}
