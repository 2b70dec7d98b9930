#!/usr/bin/env bash
# Expected: a protocol that an operator disables by hand stays so until somebody enables it, or BIRD restarts. A `configure`
#           of an unchanged file changes nothing, and one that is `soft` still less.
# Happens:  each `configure` enables it again: the state comes from the file, even if nothing in the file has changed. So a
#           script that reloads BIRD for another reason announces a withdrawn VIP.
# Here:     whoever withdraws a VIP by `birdc disable`, as before work on a load balancer, gets it back with the next reload.
#           Write `disabled;` into the file too.
# Seen with BIRD 2.0.12 of Debian 12.
# shellcheck source=findings/lib.sh
. "$(dirname "$0")/lib.sh"
debian bird2=2.0.12-7

cat >"$work/bird.conf" <<'BIRD'
router id 192.0.2.1;
protocol static vip {
	ipv4;
	route 198.51.100.80/32 blackhole;
}
BIRD

ask() { birdcl -s "$work/bird.ctl" "$@"; }
state() { ask show protocols vip | awk '$1 == "vip" { print $4 }'; }

bird --version
bird -f -c "$work/bird.conf" -s "$work/bird.ctl" &
await ask show status
before=$(sha256sum "$work/bird.conf")
expect 'after the start' up "$(state)"
for command in 'configure' 'configure soft'; do
	ask disable vip >/dev/null
	expect 'after disable vip' down "$(state)"
	# shellcheck disable=SC2086
	ask $command | tail -n1
	expect "after $command" up "$(state)"
done
[ "$before" = "$(sha256sum "$work/bird.conf")" ]
