#!/usr/bin/env bash
# Checks the systemd units: that systemd has nothing to say about them, and how exposed it finds the daemons.
set -euo pipefail
cd "$(dirname "$0")/../systemd"

units=$(mktemp -d)
trap 'rm -r "$units"' EXIT

# The programs need not be there yet, and a template is looked at as an instance of it.
for unit in *.service *.socket; do
	sed 's,/usr/sbin/maglevd[a-z-]*,/bin/true,' "$unit" >"$units/${unit/@./@example.}"
done
cd "$units"

# It exits with 0 for keys that it does not know; what it says is what counts.
said=$(SYSTEMD_UNIT_PATH="$units:" systemd-analyze verify --man=no ./* 2>&1) || true
if [[ -n $said ]]; then
	echo "$said"
	exit 1
fi

# Ten times the exposure, as systemd-analyze prints it.
check_exposure() { # LIMIT UNIT
	local report
	if ! report=$(systemd-analyze security --offline=true --threshold="$1" "$2" 2>&1); then
		grep -E '✗|Overall' <<<"$report"
		return 1
	fi
	tail -n 1 <<<"$report"
}
# PrivateUsers= would save 0.2, and hide who used the API.
check_exposure 4 vpp-maglevd.service
check_exposure 14 vpp-maglevd-prober.service
check_exposure 14 vpp-maglevd-prober@example.service

# The prober of a namespace is the prober.
check_twins() { # UNIT
	local twin=${1/./@example.} difference
	difference=$(diff <(sed '/^Description=/d' "$1") \
		<(sed '/^Description=/d; /^# Entered by systemd/d; /^NetworkNamespacePath=/d; s/@%i//; s/ --netns %i//
			/^# The names of network/d; /^BindReadOnlyPaths=.run.netns$/d' "$twin")) || {
		echo "$1 and $twin differ:"
		echo "$difference"
		return 1
	}
}
check_twins vpp-maglevd-prober.service
check_twins vpp-maglevd-prober.socket
