#!/usr/bin/env bash
# Expected: commands that FRR's vtysh reads from -c, from standard input or from a file with -f have the same effect, and an
#           error among them the same exit status.
# Happens:  -c stops at the error, keeps the lines before it, and returns 1. Standard input goes on behind the error, and
#           returns 0. -f goes on too, returns an error, and refuses `configure terminal`, as a file is in that mode already.
# Here:     who announces a VIP by FRR from a script: only -c both stops and tells, and its first lines stay in force.
# Seen with FRR 8.4.4 of Debian 12.
# shellcheck source=findings/lib.sh
. "$(dirname "$0")/lib.sh"
as_root
debian frr=8.4.4-1.1~deb12u2

export daemons=$work/root/usr/lib/frr LD_LIBRARY_PATH="$lib:$lib/frr"
mkdir "$work/etc" "$work/vty"
touch "$work/etc/vtysh.conf" "$work/etc/frr.conf"
printf '%s\n' 'configure terminal' 'router bgp 65001' 'nonsense' 'bgp router-id 192.0.2.1' >"$work/commands"

# In namespaces of its own: FRR's group and vtysh's PAM service, which nothing installs here.
unshare --net --mount bash >"$work/out" 2>"$work/errors" <<'NAMESPACE' || unavailable "$(cat "$work/errors")"
set -eu
ip link set lo up
{ grep -v '^frrvty:' /etc/group; echo frrvty:x:59991:root; } >"$work/group"
cp -r /etc/pam.d "$work/pam"
cp "$work/root/etc/pam.d/frr" "$work/pam/frr"
mount --bind "$work/group" /etc/group
mount --bind "$work/pam" /etc/pam.d
cd "$work"
for daemon in zebra bgpd; do
	"$daemons/$daemon" -d -u root -g root --vty_socket "$work/vty" -i "$work/$daemon.pid" -z "$work/zebra.api" -f "$work/etc/frr.conf" -P 0
done
vtysh() { command vtysh --config_dir "$work/etc" --vty_socket "$work/vty" "$@"; }
show() { # STATUS
	local id
	id=$(vtysh -c 'show running-config' | grep -c 'bgp router-id' || true)
	echo "status $1, router-id set: $id"
	vtysh -c 'configure terminal' -c 'no router bgp' >/dev/null
}
vtysh -c 'show version' | sed -n 1p
status=0; vtysh -c 'configure terminal' -c 'router bgp 65001' -c nonsense -c 'bgp router-id 192.0.2.1' >/dev/null || status=$?
show "$status"
status=0; vtysh <"$work/commands" >/dev/null || status=$?
show "$status"
status=0; vtysh -f "$work/commands" >"$work/said" 2>&1 || status=$?
show "$((status > 0))"
head -n1 "$work/said"
kill "$(cat "$work/bgpd.pid")" "$(cat "$work/zebra.pid")"
NAMESPACE

head -n1 "$work/out"
line() { sed -n "$1p" "$work/out"; }
expect 'by -c' 'status 1, router-id set: 0' "$(line 2)"
expect 'by standard input' 'status 0, router-id set: 1' "$(line 3)"
expect 'by -f' 'status 1, router-id set: 1' "$(line 4)"
expect 'words of -f' 'line 1: % Unknown command[4]: configure terminal' "$(line 5)"
