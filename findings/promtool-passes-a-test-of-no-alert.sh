#!/usr/bin/env bash
# Expected: a test of rules that names an alert which no rule has is an error, or fails.
# Happens:  promtool says SUCCESS, if the test expects that the alert does not fire: an alert that does not exist does not fire
#           either. So a test that guards against false alarms goes on passing after the alert is renamed, or was misspelt
#           from the start.
# Here:     the tests of our alerts are such a file, and each alert in it must be one of the rules: tests/tests/monitoring.
# Seen with promtool 2.42.0 of Debian 12.
# shellcheck source=findings/lib.sh
. "$(dirname "$0")/lib.sh"
debian prometheus=2.42.0+ds-5+deb12u1

cat >"$work/rules.yml" <<'YAML'
groups:
  - name: servers
    rules:
      - alert: ServerDown
        expr: up == 0
YAML

# Tests that the alert is silent while the server is down, which is false.
test_of() { # ALERT
	cat >"$work/test.yml" <<-YAML
		rule_files: [rules.yml]
		evaluation_interval: 30s
		tests:
		  - interval: 30s
		    input_series:
		      - { series: 'up{job="web"}', values: 0x20 }
		    alert_rule_test:
		      - { eval_time: 5m, alertname: $1, exp_alerts: [] }
	YAML
	if (cd "$work" && promtool test rules test.yml) &>"$work/out"; then echo passes; else echo fails; fi
}

promtool --version | sed -n 1p
expect 'ServerDown' fails "$(test_of ServerDown)"
expect 'SreverDown' passes "$(test_of SreverDown)"
