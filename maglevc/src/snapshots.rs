//! Snapshots of the output of every command, as text and as JSON, and of every failure, against the fake daemon.
//!
//! `MAGLEV_REWRITE=1 cargo test -p maglevc` rewrites the files of `snapshots/`; review the difference.

use std::collections::HashSet;
use std::path::Path;
use std::str::FromStr;
use std::{env, fs};

use maglev_proto::v1::{ConfigFault, ConfigProblem, Override, OverrideKind, Plan};
use tonic::Status;

use crate::client::ServerAddress;
use crate::command;
use crate::failure::Failure;
use crate::fake::{FakeDaemon, FakeState};
use crate::grammar::{BackendAction, Verb};
use crate::screen::{ColorChoice, Screen};
use crate::{OutputFormat, fixture, session, show};

/// A command, and a change to the fake daemon before it.
struct SnapshotCase {
    name: &'static str,
    line: &'static str,
    before: fn(&mut FakeState),
}

const fn case(name: &'static str, line: &'static str) -> SnapshotCase {
    SnapshotCase { name, line, before: |_| {} }
}

const CASES: &[SnapshotCase] = &[
    case("help", "help"),
    case("help-topic", "help sy"),
    case("help-no-topic", "help nothing"),
    case("foreign-words", "show lb vips"),
    case("show-version", "show version"),
    case("show-frontends", "show frontends"),
    case("show-frontend", "show frontends web"),
    case("show-backends", "show backends"),
    case("show-backend", "sh ba nginx0"),
    case("show-backend-overridden", "show backends nginx1"),
    case("show-healthchecks", "show healthchecks"),
    case("show-healthcheck", "show healthchecks ng"),
    case("show-overrides", "show overrides"),
    SnapshotCase {
        name: "show-no-overrides",
        line: "show overrides",
        before: |state| state.overrides.clear(),
    },
    SnapshotCase { name: "show-overrides-persist-error", line: "show overrides", before: full },
    SnapshotCase {
        name: "show-no-overrides-persist-error",
        line: "show overrides",
        before: |state| {
            state.overrides.clear();
            full(state);
        },
    },
    case("show-vpp-info", "show vpp info"),
    case("show-vpp-lb-state", "show vpp lb state"),
    case("show-vpp-lb-counters", "show vpp lb counters"),
    case("set-backend-pause", "set backend sorry pause"),
    case("set-backend-resume", "set backend nginx1 resume"),
    case("set-backend-disable", "set backend nginx0 disable reason 'disk swap' for 2h"),
    case("set-backend-enable", "set backend sorry enable"),
    case("set-backend-enable-for", "set backend sorry enable for 1d"),
    case("set-backend-as-before", "set backend nginx1 pause"),
    case("set-backend-gone-enable", "set backend sor enable"),
    SnapshotCase { name: "set-backend-gone-resume", line: "set backend sor resume", before: paused },
    case("set-backend-gone-disable", "set backend sor disable"),
    SnapshotCase { name: "set-backend-persist-error", line: "set backend nginx0 disable", before: full },
    case("set-weight", "set frontend web pool primary backend nginx0 weight 30 for 1h30m"),
    case("set-weight-rounded", "set frontend web pool primary backend nginx0 weight 57"),
    case("set-weight-as-before", "set frontend web pool fallback backend sorry weight 50"),
    case("unset-weight", "unset frontend web pool fallback backend sorry weight"),
    SnapshotCase {
        name: "unset-weight-gone",
        line: "unset frontend we pool prim backend nginx weight",
        before: |state| weighted(state, ["we", "prim", "nginx"]),
    },
    SnapshotCase {
        name: "unset-weight-gone-from-pool",
        line: "unset frontend web pool fallback backend sor weight",
        before: |state| weighted(state, ["web", "fallback", "sor"]),
    },
    SnapshotCase {
        name: "set-weight-gone",
        line: "set frontend we pool prim backend nginx weight 30",
        before: |state| weighted(state, ["we", "prim", "nginx"]),
    },
    SnapshotCase {
        name: "set-weight-persist-error",
        line: "set frontend web pool primary backend nginx0 weight 30",
        before: full,
    },
    SnapshotCase {
        name: "unset-weight-gone-persist-error",
        line: "unset frontend we pool prim backend nginx weight",
        before: |state| {
            weighted(state, ["we", "prim", "nginx"]);
            full(state);
        },
    },
    case("explain-backend", "explain backend nginx0"),
    case("explain-frontend", "explain frontend web"),
    case("sync", "sync vpp lb state"),
    case("sync-dry-run", "sync vpp lb state dry-run"),
    SnapshotCase {
        name: "sync-nothing",
        line: "sync vpp lb state",
        before: |state| state.plan = Plan::default(),
    },
    case("config-check", "config check"),
    case("config-check-plan", "config check plan"),
    SnapshotCase { name: "config-check-bad", line: "config check plan", before: bad },
    case("config-reload", "config reload"),
    SnapshotCase { name: "config-reload-bad", line: "config reload", before: bad },
    SnapshotCase { name: "config-reload-unreadable", line: "config reload", before: unreadable },
    case("no-such-backend", "show backends apache"),
    case("no-such-backend-but-alike", "set backend ngnix0 disable"),
    case("prefix-of-a-backend", "set backend sorr disable"),
    case("prefix-of-backends", "set backend nginx resume"),
    case("prefix-of-a-frontend", "set frontend we pool primary backend nginx0 weight 0"),
    case("prefix-of-a-pool", "unset frontend web pool prim backend nginx0 weight"),
    case("prefix-of-a-member", "set frontend web pool primary backend nginx weight 0"),
    case("no-such-pool", "set frontend web pool spare backend sorry weight 1"),
    case("no-such-member", "unset frontend web pool primary backend sorry weight"),
    case("ambiguous", "explain backend nginx"),
    case("unknown-word", "show bakcends"),
    case("not-whole", "set backend nginx0"),
    SnapshotCase { name: "denied", line: "set backend nginx0 disable", before: denied },
    SnapshotCase { name: "refused", line: "set backend nginx0 resume", before: refused },
];

fn bad(state: &mut FakeState) {
    let problem = ConfigProblem {
        path: "maglev.frontends.web.pools[1].backends.nginx9".into(),
        message: "no such backend".into(),
    };
    state.fault = Some(ConfigFault { parse_error: String::new(), problems: vec![problem] });
}

/// Makes the removed backend a paused one.
fn paused(state: &mut FakeState) {
    state.overrides[1].kind = OverrideKind::Paused.into();
}

fn full(state: &mut FakeState) {
    state.persist_error = "/var/lib/vpp-maglev/overrides.json: No space left on device (os error 28)".into();
}

/// Adds an override of a weight that is not in the configuration.
fn weighted(state: &mut FakeState, [frontend, pool, backend]: [&str; 3]) {
    state.overrides.push(Override {
        frontend: frontend.into(),
        pool: pool.into(),
        weight: Some(7),
        dangling: true,
        ..fixture::override_of(backend, OverrideKind::Weight, None)
    });
}

fn unreadable(state: &mut FakeState) {
    let parse_error = "/etc/vpp-maglev/maglev.yaml: mapping values are not allowed at line 3 column 7".into();
    state.fault = Some(ConfigFault { parse_error, problems: Vec::new() });
}

fn denied(state: &mut FakeState) {
    state.refusal = Some(Status::permission_denied("nobody (uid 65534) may view; this takes operate"));
}

fn refused(state: &mut FakeState) {
    state.refusal = Some(Status::failed_precondition("backend nginx0 is disabled: enable it first"));
}

#[test]
fn outputs_match_snapshots() {
    let wrong: Vec<&str> = CASES.iter().filter(|case| !is_as_recorded(case)).map(|case| case.name).collect();
    assert!(wrong.is_empty(), "other than recorded: {wrong:?}; MAGLEV_REWRITE=1 records anew");
}

#[test]
fn every_verb_has_a_snapshot() {
    use Verb::{
        ConfigCheck, ConfigReload, ExplainBackend, ExplainFrontend, Help, SetBackend, SetWeight,
        ShowBackends, ShowFrontends, ShowHealthchecks, ShowOverrides, ShowVersion, ShowVppInfo,
        ShowVppLbCounters, ShowVppLbState, SyncVppLbState, UnsetWeight,
    };
    let shown: HashSet<Verb> = CASES.iter().filter_map(|case| Some(parse(case.line).ok()?.verb)).collect();
    let all: HashSet<Verb> = [
        ConfigCheck,
        ConfigReload,
        ExplainBackend,
        ExplainFrontend,
        Help,
        SetBackend(BackendAction::Pause),
        SetBackend(BackendAction::Resume),
        SetBackend(BackendAction::Disable),
        SetBackend(BackendAction::Enable),
        SetWeight,
        ShowBackends,
        ShowFrontends,
        ShowHealthchecks,
        ShowOverrides,
        ShowVersion,
        ShowVppInfo,
        ShowVppLbCounters,
        ShowVppLbState,
        SyncVppLbState,
        UnsetWeight,
    ]
    .into();
    assert_eq!(shown, all);
}

#[test]
fn unreachable_server_is_one_line() {
    let mut fake = FakeDaemon::start();
    let address = fake.address();
    fake.stop();
    let said = answer(&address, "show version", OutputFormat::Text).unwrap_err().to_string();
    assert!(said.starts_with(&format!("cannot reach maglevd at {address}: ")), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

fn is_as_recorded(case: &SnapshotCase) -> bool {
    let transcript = [OutputFormat::Text, OutputFormat::Json].map(|output| transcript(case, output)).concat();
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/snapshots").join(case.name).with_extension("txt");
    if env::var_os("MAGLEV_REWRITE").is_some() {
        fs::write(&file, &transcript).unwrap();
    }
    let recorded = fs::read_to_string(&file).unwrap_or_default();
    if recorded != transcript {
        println!("{}: recorded:\n{recorded}\nnow:\n{transcript}", file.display());
    }
    recorded == transcript
}

fn transcript(case: &SnapshotCase, output: OutputFormat) -> String {
    let fake = FakeDaemon::start();
    (case.before)(&mut fake.state.lock().unwrap());
    let flag = if output == OutputFormat::Json { " --output json" } else { "" };
    let (said, code) = match answer(&fake.address(), case.line, output) {
        Ok((said, good)) => (said, i32::from(!good)),
        Err(failure) => (failure.render(output, plain()) + "\n", 1),
    };
    format!("$ maglevc{flag} {}\n{said}[exit {code}]\n\n", case.line)
}

fn answer(server: &str, line: &str, output: OutputFormat) -> Result<(String, bool), Failure> {
    let command = parse(line)?;
    let Ok(server) = ServerAddress::from_str(server);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let shown = runtime.block_on(show::ask(&server, &command))?;
    Ok((session::render(&shown, fixture::now(), output, plain()), !shown.is_failure()))
}

fn parse(line: &str) -> Result<command::Command, Failure> {
    let words: Vec<String> = crate::line::split(line).words.into_iter().map(|word| word.text).collect();
    command::parse(&words).map_err(Failure::mistaken)
}

fn plain() -> Screen {
    Screen::new(ColorChoice::Never, false)
}
