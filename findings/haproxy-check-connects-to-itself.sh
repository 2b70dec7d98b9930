#!/usr/bin/env bash
# Expected: a TCP check of a port where nobody listens is refused, each time.
# Happens:  if the port is within the range from which the kernel takes source ports, and the address is of this host, then a
#           connection now and then gets the checked port as its own source. TCP connects such a socket to itself, and
#           HAProxy marks the server UP. The range is narrow here, so that it takes a second and not hours.
# Here:     `maglevd-prober` refuses a connection whose two ends are equal. For others, choose ports of servers outside
#           net.ipv4.ip_local_port_range, or reserve them in net.ipv4.ip_local_reserved_ports.
# Seen with HAProxy 2.6.12 of Debian 12, on Linux 6.18.
# shellcheck source=findings/lib.sh
. "$(dirname "$0")/lib.sh"
as_root
debian haproxy=2.6.12-1+deb12u4

cat >"$work/haproxy.cfg" <<'CONF'
defaults
	mode tcp
	timeout connect 1s
	timeout client 1s
	timeout server 1s
listen nobody
	bind 127.0.0.1:18080
	server nobody 127.0.0.1:50010 check inter 20ms rise 1 fall 1
CONF

haproxy -v | sed -n 1p
unshare --net bash >"$work/log" 2>&1 <<'NAMESPACE' || [ $? = 124 ] || unavailable "$(cat "$work/log")"
ip link set lo up
sysctl -qw net.ipv4.ip_local_port_range='50000 50031' || exit 1
timeout 15 haproxy -db -f "$work/haproxy.cfg"
NAMESPACE
grep -m1 'is UP' "$work/log" || true
expect 'a server that is not there was UP' yes "$(grep -q 'is UP' "$work/log" && echo yes || echo no)"
