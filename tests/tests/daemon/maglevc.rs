//! Operator changes with `maglevc`, end to end: program, daemon and a restart.

use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use maglev_lab::maglevd::{Maglevd, MaglevdSetup};
use maglev_lab::programs::program;
use maglev_proto::v1::BackendState;
use nix::unistd::geteuid;
use serde_json::{Value, json};

use crate::{BACKENDS, VIP, WebFixture};

/// Runs `maglevc`, which must succeed, and returns its output.
fn run_words(maglevd: &Maglevd, words: &[&str]) -> String {
    let output = maglevd.maglevc(words);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""), "{words:?}");
    text(&output.stdout).to_owned()
}

/// Same for a command without quoted words.
fn run_command(maglevd: &Maglevd, command: &str) -> String {
    run_words(maglevd, &command.split(' ').collect::<Vec<_>>())
}

fn json_of(maglevd: &Maglevd, command: &str) -> Value {
    serde_json::from_str(&run_command(maglevd, &format!("--output json {command}"))).unwrap()
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

/// `maglevc watch events`, killed on drop.
struct EventWatch(Child, Lines<BufReader<ChildStdout>>);

impl EventWatch {
    fn new(maglevd: &Maglevd, kinds: &[&str]) -> Self {
        let server = format!("unix:{}", maglevd.socket().display());
        let mut command = Command::new(program("maglevc").unwrap());
        command.args(["--server", &server, "watch", "events"]).args(kinds);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self(child, lines)
    }

    /// Returns the next line that contains `with`.
    fn line(&mut self, with: &str) -> String {
        let found = self.1.by_ref().map(Result::unwrap).find(|line| line.contains(with));
        found.unwrap_or_else(|| panic!("no line contains {with}"))
    }
}

impl Drop for EventWatch {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[test]
fn disable_is_announced_and_survives_restart() {
    let fixture = WebFixture::new();
    let mut maglevd = fixture.settled();
    let mut watch = EventWatch::new(&maglevd, &["backend", "operator"]);
    // A subscriber first receives the current state.
    watch.line("backend c is up");
    let disable = ["set", "backend", "a", "disable", "reason", "disk swap", "for", "2h"];
    let answer = run_words(&maglevd, &disable);
    let until = answer.strip_prefix("a is disabled until ").and_then(|rest| rest.strip_suffix(" (was up)\n"));
    let until = until.unwrap_or_else(|| panic!("{answer}"));
    fixture.observer().until([(VIP, fixture.weights(0, 10, 0))]);

    let reported = watch.line(" operator ");
    let what = format!(": disable backend a, up -> disabled, until {until}: disk swap");
    let (_, who) = reported
        .strip_suffix(&what)
        .unwrap_or_else(|| panic!("{reported}"))
        .split_once(" operator ")
        .unwrap();
    let root = geteuid().is_root() && who == "root";
    assert!(root || who.ends_with(&format!("(uid {})", geteuid())), "{who}");

    let overrides = json_of(&maglevd, "show overrides");
    let [only] = overrides["overrides"].as_array().unwrap().as_slice() else { panic!("{overrides}") };
    for (name, value) in [
        ("kind", json!("disabled")),
        ("backend", json!("a")),
        ("actor", json!(who)),
        ("reason", json!("disk swap")),
        ("dangling", json!(false)),
    ] {
        assert_eq!(only[name], value, "{overrides}");
    }
    assert!(only["expires"].as_str().unwrap().starts_with(until.trim_end_matches('Z')), "{overrides}");
    assert_eq!(overrides["persist_error"], Value::Null);

    drop(watch);
    maglevd.process.kill();
    let mut maglevd = fixture.setup(fixture.config()).start();
    maglevd.until_up(&["b", "c"]);
    assert_eq!(json_of(&maglevd, "show overrides"), overrides);
    let listed = run_command(&maglevd, "show overrides");
    for expected in ["a  ", "disabled", who, "1h", "disk swap"] {
        assert!(listed.contains(expected), "{expected} in\n{listed}");
    }
    let backend = run_command(&maglevd, "show backends a");
    for expected in
        ["state        disabled", &format!("disabled by {who}"), &format!("until {until}"), "disk swap"]
    {
        assert!(backend.contains(expected), "{expected} in\n{backend}");
    }
    let why = run_command(&maglevd, "explain backend a");
    for expected in [
        "a is disabled, weight 0 in web",
        &format!("disabled by {who}"),
        "disk swap",
        "`set backend a enable`",
    ] {
        assert!(why.contains(expected), "{expected} in\n{why}");
    }
    // The first probe may complete before the write to disk that the answer waits for.
    let enabled = run_command(&maglevd, "set backend a enable");
    assert!(
        ["a is unknown until it is probed (was disabled)\n", "a is up (was disabled)\n"]
            .contains(&enabled.as_str()),
        "{enabled}"
    );
    maglevd.until_up(&["a"]);
    fixture.observer().until([(VIP, fixture.weights(20, 10, 0))]);
    assert_eq!(run_command(&maglevd, "show overrides"), "nothing is overridden\n");
}

#[test]
fn explain_reports_failover() {
    let fixture = WebFixture::new();
    let mut maglevd = fixture.settled();
    for server in [0, 1] {
        fixture.servers.http[server].answer(503);
        maglevd.until_backend(BACKENDS[server], BackendState::Down);
    }
    fixture.observer().until([(VIP, fixture.weights(0, 0, 10))]);
    for (command, conclusion, more) in [
        ("explain backend a", "a is down, weight 0 in web", &["HTTP 503", "pool first"][..]),
        ("explain backend c", "c is up, weight 10 in web", &["HTTP 200", "pool last"]),
        ("explain frontend web", ": pool last serves with c", &["a is down, b is down"]),
    ] {
        let why = run_command(&maglevd, command);
        let first = why.lines().next().unwrap();
        assert!(first.starts_with("state ") && first.ends_with(conclusion), "{why}");
        assert!(more.iter().all(|word| why.contains(word)), "{command}: {more:?} in\n{why}");
        let reasons = json_of(&maglevd, command);
        let first = &reasons["reasons"][0];
        let output = first["text"].as_str().unwrap();
        assert!(first["topic"] == "state" && output.ends_with(conclusion), "{reasons}");
    }
    let unknown = maglevd.maglevc(&["explain", "backend", "nobody"]);
    assert_eq!((unknown.status.code(), text(&unknown.stderr)), (Some(1), "no backend is named `nobody`\n"));
}

#[test]
fn weights_are_set_and_unset() {
    let fixture = WebFixture::new();
    let maglevd = fixture.settled();
    assert_eq!(
        run_command(&maglevd, "set frontend web pool first backend b weight 100 for 1d"),
        "b has weight 100 in pool first of web for 1d (was 50)\n"
    );
    fixture.observer().until([(VIP, fixture.weights(20, 20, 0))]);
    let shown = run_command(&maglevd, "show frontends web");
    assert!(shown.contains("100 (50)"), "{shown}");
    let unset = json_of(&maglevd, "unset frontend web pool first backend b weight");
    assert_eq!((&unset["was"], &unset["backend"]["weight"]), (&json!(100), &json!(50)), "{unset}");
    fixture.observer().until([(VIP, fixture.weights(20, 10, 0))]);
}

#[test]
fn dangling_overrides_can_be_removed() {
    let fixture = WebFixture::new();
    let mut maglevd = fixture.settled();
    run_command(&maglevd, "set backend a disable");
    run_command(&maglevd, "set frontend web pool first backend a weight 7");
    run_command(&maglevd, "set backend c pause");
    let mut config = fixture.config();
    config.backends.retain(|backend| backend.trim_start().starts_with("b:"));
    config.frontends = vec![crate::frontend("shop", VIP, "{ name: first, backends: { b: { weight: 1 } } }")];
    maglevd.reload(&fixture.dir, &config.to_string());

    let listed = run_command(&maglevd, "show overrides");
    for dangling in ["disabled*", "paused*", "weight 7*"] {
        assert!(listed.contains(dangling), "{dangling} in\n{listed}");
    }
    let gone = |what: &str| format!("{what} is not in the configuration; its override is undone\n");
    assert_eq!(run_command(&maglevd, "set backend a enable"), gone("a"));
    assert_eq!(run_command(&maglevd, "set backend c resume"), gone("c"));
    assert_eq!(
        run_command(&maglevd, "unset frontend web pool first backend a weight"),
        gone("a in pool first of web")
    );
    assert_eq!(run_command(&maglevd, "show overrides"), "nothing is overridden\n");
    let again = maglevd.maglevc(&["set", "backend", "a", "enable"]);
    assert_eq!((again.status.code(), text(&again.stderr)), (Some(1), "no backend is named `a`\n"));
}

#[test]
fn missing_state_dir_is_warned_about() {
    let fixture = WebFixture::new();
    let mut maglevd = fixture.setup(fixture.config()).flag("--state-dir", "").start();
    maglevd.until_up(&BACKENDS);
    let answer = run_command(&maglevd, "set backend a pause");
    let (first, warning) = answer.split_once('\n').unwrap();
    assert_eq!(first, "a is paused (was up)");
    let begun = "warning: a restart of maglevd would forget this: ";
    assert!(warning.starts_with(begun) && warning.contains("--state-dir"), "{answer}");
    let listed = run_command(&maglevd, "show overrides");
    assert!(listed.contains("\nwarning: a restart of maglevd would forget changes: "), "{listed}");
}

#[test]
fn view_role_cannot_change_state() {
    let fixture = WebFixture::new();
    let address = SocketAddr::new(fixture.servers.address(199), 9090);
    // A rule for users replaces the default rules, so all others have `view`.
    let api = "maglev:\n  api: { roles: [{ user: root, role: admin }] }\n";
    let config = fixture.config().to_string().replacen("maglev:\n", api, 1);
    let setup = MaglevdSetup::new(&fixture.dir, &config).vpp(&fixture.vpp);
    let mut maglevd = setup.flag("--grpc-addr", address).start();
    maglevd.until_up(&BACKENDS);
    let call = |words: &str| -> Output {
        let mut command = Command::new(program("maglevc").unwrap());
        command.args(["--server", &address.to_string()]).args(words.split(' ')).output().unwrap()
    };
    assert!(call("show overrides").status.success());
    for (words, name) in [
        ("set backend a disable", "DisableBackend"),
        ("set frontend web pool first backend a weight 1", "SetFrontendPoolBackendWeight"),
        ("unset frontend web pool first backend a weight", "UnsetFrontendPoolBackendWeight"),
    ] {
        let output = call(words);
        let complaint = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""), "{complaint}");
        let begun = format!("{name} requires the role operate; ");
        assert!(complaint.starts_with(&begun) && complaint.contains(" has view"), "{complaint}");
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
    }
    assert_eq!(maglevd.backend("a").state(), BackendState::Up);
}
