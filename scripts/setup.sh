#!/usr/bin/env bash
# Installs from Debian what `make` needs and the machine lacks. Does nothing when all is there.
#
#   scripts/setup.sh build|test|bench|fuzz|deny|proto|container|deb...
#   scripts/setup.sh path            prints a PATH in which Debian's Rust comes first, if the first one is too old
#
# Without the tools to build, it fails; without those to test, it warns, and what needs them is skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

deny=target/tools/cargo-deny-0.20.2
buf=target/tools/buf-1.75.0
rust_version=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)

die() {
	echo "setup: $*" >&2
	exit 1
}

has() {
	PATH=$PATH:/usr/sbin command -v "$1" >/dev/null
}

has_rust() {
	local version
	version=$(rustc --version 2>/dev/null | cut -d' ' -f2) &&
		cargo --version >/dev/null 2>&1 &&
		printf '%s\n' "$rust_version" "$version" | sort -C -V
}

# Whether cargo is Debian's, or will be. The parts of another are not for Debian to add.
uses_debian_rust() {
	[[ $(command -v cargo || echo /usr/bin/cargo) == /usr/bin/cargo ]]
}

# Of Debian packages, those that are not installed.
list_uninstalled() {
	local package
	for package in "$@"; do
		[[ $(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || echo "$package"
	done
}

# Debian's own python, whichever comes first in PATH.
has_openmetrics() {
	/usr/bin/python3 -c 'import prometheus_client.openmetrics.parser' 2>/dev/null
}

list_missing() {
	case $1 in
	build)
		has_rust || echo cargo-web rustc-web
		has cc || echo gcc libc6-dev
		[[ -e /etc/ssl/certs/ca-certificates.crt ]] || echo ca-certificates
		;;
	test)
		has ip || echo iproute2
		has ping || echo iputils-ping
		has nft || echo nftables
		has nginx || echo nginx-light
		has openssl || echo openssl
		has systemd-socket-activate || echo systemd
		/usr/bin/python3 -c 'import grpc, google.protobuf' 2>/dev/null || echo python3-grpcio python3-protobuf
		has sysctl || echo procps
		has strace || echo strace
		has prlimit || echo util-linux
		compgen -G '/usr/lib/*/faketime/libfaketime.so.1' >/dev/null || echo libfaketime
		has promtool || echo prometheus
		has_openmetrics || echo python3-prometheus-client
		has shellcheck || echo shellcheck
		has shfmt || echo shfmt
		has mandoc || echo mandoc
		has zsh || echo zsh
		has fish || echo fish
		! uses_debian_rust || [[ -x /usr/bin/cargo-fmt ]] || echo rustfmt-web
		! uses_debian_rust || [[ -x /usr/bin/cargo-clippy ]] || echo rust-web-clippy
		has mandoc || echo mandoc
		has systemd-analyze || echo systemd
		;;
	fuzz)
		has c++ || echo g++
		;;
	bench)
		has ip || echo iproute2
		has nft || echo nftables
		has haproxy || echo haproxy
		has keepalived || echo keepalived
		has cc || echo gcc libc6-dev
		;;
	container)
		# To boot one, and to build the package that is tried out in it.
		[[ ${SKIP_CONTAINER:-} == 1 ]] || list_uninstalled systemd-container mmdebstrap \
			build-essential debhelper git cargo-web rustc-web libstd-rust-web-dev
		;;
	deb)
		# Packages are built with Debian's Rust in any case, as it has the standard library of arm64 too.
		list_uninstalled build-essential debhelper git lintian cargo-web rustc-web \
			libstd-rust-web-dev:amd64 libstd-rust-web-dev:arm64 gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static
		;;
	esac
}

update_lists() {
	local pause
	# Another apt may hold the lock, which apt-get does not wait for here.
	for pause in 10 30 90; do
		apt-get update -q && return
		sleep "$pause"
	done
	apt-get update -q
}

install() {
	# Those of another architecture, for Debian packages of it.
	if [[ " $* " == *:arm64\ * ]]; then
		dpkg --add-architecture arm64
	fi
	update_lists
	DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@"
	# The tests start servers of their own.
	if [[ " $* " == *' nginx-light '* && -d /run/systemd/system ]]; then
		systemctl disable --now nginx
	fi
	if [[ " $* " == *' prometheus '* && -d /run/systemd/system ]]; then
		systemctl disable --now prometheus
	fi
	# What is compared is started by the comparison.
	if [[ " $* " == *' haproxy '* && -d /run/systemd/system ]]; then
		systemctl disable --now haproxy
	fi
	if [[ " $* " == *' keepalived '* && -d /run/systemd/system ]]; then
		systemctl disable --now keepalived
	fi
}

if [[ $1 == path ]]; then
	has_rust || PATH=/usr/bin:$PATH
	echo "$PATH"
	exit
fi

packages=()
for tools in "$@"; do
	# Of words, one or two to a line.
	read -r -d '' -a missing < <(list_missing "$tools") || true
	packages+=("${missing[@]}")
done

if ((${#packages[@]})); then
	if ((EUID == 0)) && has apt-get; then
		install "${packages[@]}"
		hash -r
	else
		echo "setup: missing: ${packages[*]} (as root on Debian 12, this would install them)" >&2
	fi
fi

# Not packaged in Debian 12. It is compiled once, which takes some three minutes of two cores.
if [[ " $* " == *' deny '* && ! -x $deny/bin/cargo-deny ]]; then
	cargo install --quiet --locked --root "$deny" --no-default-features "cargo-deny@${deny##*-}" ||
		echo "setup: missing: cargo-deny" >&2
fi

# Not packaged in Debian either. Its wheel holds one static binary.
if [[ " $* " == *' proto '* && ! -x $buf/bin/buf ]]; then
	python3 -m pip install --quiet --no-deps --target "$buf" "buf-bin==${buf##*-}" 2>/dev/null ||
		echo "setup: missing: buf (from PyPI, by pip)" >&2
fi

has_rust || die "Rust $rust_version or later is needed; in PATH is $(rustc --version 2>/dev/null || echo none)"
has cc || die "a C compiler is not in PATH"
