#!/usr/bin/env bash
# Starts the programs of an arm64 package in qemu: `maglevd` and `maglevc` answer, and the prober finds a server up.
#
#   scripts/deb-start.sh PACKAGE
set -euo pipefail

directory=$(mktemp -d)
processes=()

end() {
	((${#processes[@]} == 0)) || kill "${processes[@]}" || true
	wait
	rm -r "$directory"
}
trap end EXIT

dpkg-deb --extract "$1" "$directory"
cd "$directory"

# Waits until a command succeeds.
await() { # COMMAND...
	local tries=300
	until "$@" >said 2>&1; do
		if ((tries-- == 0)); then
			cat said prober.log maglevd.log
			echo "in vain: $*"
			return 1
		fi
		sleep 0.1
	done
	cat said
}

qemu-aarch64-static usr/sbin/maglevd --version
qemu-aarch64-static usr/sbin/maglevd-prober --version
qemu-aarch64-static usr/sbin/maglevd --check --config etc/vpp-maglev/maglev.yaml

# The server that is probed is maglevd's own, for metrics.
port=$((20000 + $$ % 10000))
cat >maglev.yaml <<-END
	maglev:
	  healthchecks:
	    metrics: { type: http, port: $port, params: { path: /metrics }, interval: 100ms }
	  backends:
	    self: { address: 127.0.0.1, healthcheck: metrics }
	  frontends:
	    self: { address: 192.0.2.1, pools: [ { name: only, backends: { self: } } ] }
	  vpp: { lb: { ipv4-src-address: 192.0.2.2 } }
END
# Without the sandbox, as qemu has no seccomp for those inside.
qemu-aarch64-static usr/sbin/maglevd-prober --sandbox off --targets 127.0.0.1 --socket prober.sock 2>prober.log &
processes+=($!)
qemu-aarch64-static usr/sbin/maglevd --sandbox off --config maglev.yaml --state-dir= --prober prober.sock --vpp-api-addr= \
	--grpc-addr= --grpc-socket maglevd.sock --metrics-addr "127.0.0.1:$port" 2>maglevd.log &
processes+=($!)

is_up() {
	qemu-aarch64-static usr/bin/maglevc --server unix:maglevd.sock show backends | tee /dev/stderr | grep -qw up
}
await is_up
