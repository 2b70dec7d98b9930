#!/usr/bin/env bash
# Expected: ExaBGP restarts a health checker that exits, and keeps the routes of its own configuration. If it gives up, it
#           fails, so that a supervisor restarts it.
# Happens:  after five deaths of the helper, ExaBGP ends as a whole: static routes that have nothing to do with the helper go
#           with it. Its exit status is 0, so that `Restart=on-failure` of systemd leaves it ended.
# Here:     who announces a VIP by a helper that asks `maglevd`: the helper must outlive a restart of `maglevd`, and ExaBGP
#           needs `Restart=always`.
# Seen with ExaBGP 4.2.21 of Debian 12.
# shellcheck source=findings/lib.sh
. "$(dirname "$0")/lib.sh"
debian exabgp=4.2.21-1.1

cat >"$work/exabgp.conf" <<'CONF'
process health {
	run /bin/false;
	encoder text;
}
neighbor 127.0.0.2 {
	router-id 192.0.2.1;
	local-address 127.0.0.1;
	local-as 65010;
	peer-as 65001;
	api {
		processes [ health ];
	}
	static {
		route 198.51.100.80/32 next-hop 192.0.2.1;
	}
}
CONF

status=0
cd "$work"
env PYTHONPATH="$work/root/usr/lib/python3/dist-packages" exabgp.daemon.user="$(id -un)" exabgp.api.cli=false exabgp.tcp.port=1790 \
	timeout 60 /usr/bin/python3 -m exabgp "$work/exabgp.conf" >"$work/log" 2>&1 || status=$?
grep -o 'exabgp 4[0-9.]*' "$work/log" | sed -n 1p
expect 'log' 'Too many death for health (5) terminating program' "$(grep -o 'Too many death.*' "$work/log")"
expect 'exit status' 0 "$status"
