//! Each alert by itself, and its runbook.

use std::collections::BTreeSet;
use std::process::Command;

use maglev_lab::skip_without;

use crate::{doc, text};

const RULES: &str = "monitoring/alerts.yml";
const TESTS: &str = "monitoring/alerts.test.yml";
const RUNBOOKS: &str = "runbooks.md";

/// Returns the texts after `key` in the lines of `text`.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.trim_start().strip_prefix(key)).map(str::trim).collect()
}

fn alerts(rules: &str) -> BTreeSet<&str> {
    values(rules, "- alert:").into_iter().collect()
}

fn promtool(words: &[&str], file: &str) {
    let output = Command::new("promtool").args(words).arg(doc(file)).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{text}");
}

#[test]
fn alert_rules_pass_promtool_tests() {
    if skip_without("alert_rules_pass_promtool_tests", &["promtool"]) {
        return;
    }
    promtool(&["check", "rules", "--lint=all", "--lint-fatal"], RULES);
    promtool(&["test", "rules"], TESTS);
}

/// Returns the alerts of promtool's tests, and true where a test expects that the alert is quiet.
fn tested_alerts(tests: &str) -> Vec<(&str, bool)> {
    tests
        .split("alertname: ")
        .skip(1)
        .map(|rest| {
            let (name, rest) = rest.split_once('\n').unwrap();
            (name, rest.trim_start().starts_with("exp_alerts: []"))
        })
        .collect()
}

// promtool passes a test that expects a name to be quiet which no rule has.
#[test]
fn tests_name_alerts_of_the_rules() {
    let (rules, tests) = (text(RULES), text(TESTS));
    let alerts = alerts(&rules);
    for (alert, _) in tested_alerts(&tests) {
        assert!(alerts.contains(alert), "{alert} is not an alert");
    }
}

#[test]
fn each_alert_has_firing_and_quiet_tests() {
    let (rules, tests) = (text(RULES), text(TESTS));
    let tried = tested_alerts(&tests);
    for alert in alerts(&rules) {
        for quiet in [false, true] {
            assert!(tried.contains(&(alert, quiet)), "{alert} has no test with quiet = {quiet}");
        }
    }
}

#[test]
fn alerts_and_runbooks_match() {
    let (rules, runbooks) = (text(RULES), text(RUNBOOKS));
    let sections: BTreeSet<&str> = values(&runbooks, "### ").into_iter().collect();
    assert_eq!(alerts(&rules), sections);
    // Rule line and `runbook_url` annotation, in the same order.
    let names = values(&rules, "- alert:");
    let links = values(&rules, "runbook_url:");
    let wanted: Vec<_> =
        names.iter().map(|name| format!("docs/{RUNBOOKS}#{}", name.to_lowercase())).collect();
    assert_eq!(links, wanted);
}

#[test]
fn each_runbook_has_all_parts() {
    let runbooks = text(RUNBOOKS);
    for section in runbooks.split("\n### ").skip(1) {
        let (name, body) = section.split_once('\n').unwrap();
        for part in ["**Means**", "**Users**", "**Look**", "**Escalate**", "**Silence**"] {
            assert!(body.contains(part), "{name}: no {part}");
        }
        assert!(body.contains("**Do**") || body.contains("| do |"), "{name}: no **Do**");
    }
}

#[test]
fn each_alert_has_severity_and_annotations() {
    let rules = text(RULES);
    for rule in rules.split("- alert: ").skip(1) {
        let severity = values(rule, "severity:");
        assert!(matches!(severity[..], ["critical" | "warning"]), "{rule}");
        for key in ["expr:", "summary:", "description:", "runbook_url:"] {
            assert_eq!(values(rule, key).len(), 1, "{key} of {rule}");
        }
    }
}
