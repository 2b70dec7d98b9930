//! Outcome codes, events, signals and exit codes: documentation against programs.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use maglev_lab::maglevd::MaglevdSetup;
use maglev_lab::process::Process;
use maglev_lab::programs::program;
use maglev_lab::test_dir::TestDir;
use maglev_proto::DESCRIPTORS;
use maglev_proto::v1::Code;
use maglev_tests::docs::manual::Manual;
use maglev_tests::docs::page;
use nix::sys::signal::Signal;
use prost::Message;
use prost_types::{FieldDescriptorProto, FileDescriptorSet};

use crate::assert_same;
use crate::flags::PROGRAMS;

/// Returns the code spans in the first column of tables with this heading.
fn documented(head: &str) -> BTreeSet<String> {
    let pages = page::all();
    let rows = pages.iter().flat_map(|page| page.tables(head)).flat_map(|table| &table.rows);
    rows.flat_map(|row| row[0].codes.clone()).collect()
}

/// Same, grouped by the program named above each table.
fn documented_by_program(head: &str) -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut documented = BTreeMap::<_, BTreeSet<_>>::new();
    for page in page::all() {
        for table in page.tables(head) {
            let program = table.about(&PROGRAMS);
            let program =
                program.unwrap_or_else(|| panic!("{}: {:?} is not a program", page.name, table.below));
            documented
                .entry(program)
                .or_default()
                .extend(table.rows.iter().flat_map(|row| row[0].codes.clone()));
        }
    }
    documented
}

fn set<T: ToString>(values: impl IntoIterator<Item = T>) -> BTreeSet<String> {
    values.into_iter().map(|value| value.to_string()).collect()
}

#[test]
fn every_outcome_code_is_documented() {
    let codes = (1..).map_while(|number| Code::try_from(number).ok());
    let names = codes.map(|code| code.as_str_name().trim_start_matches("CODE_").to_owned());
    assert_same("codes", &documented("code"), &names.collect());
}

#[test]
fn every_event_is_documented() {
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
    let mut messages = files.into_iter().flat_map(|file| file.message_type);
    let response = messages.find(|message| message.name() == "WatchEventsResponse").unwrap();
    let events = response.field.iter().filter(|field| field.oneof_index.is_some());
    // These two describe the stream itself.
    let mut documented = documented("event");
    documented.extend(set(["log", "dropped"]));
    assert_same("events", &documented, &set(events.map(FieldDescriptorProto::name)));
}

/// Returns the signals that a process handles: caught, or blocked for a signalfd.
fn handled_signals(process: &Process) -> BTreeSet<String> {
    let mask = |key: &str| u64::from_str_radix(&process.status(key), 16).unwrap();
    let mask = mask("SigCgt") | mask("SigBlk");
    // Signals of Rust's stack overflow handler, and SIGCHLD of the runtime.
    let others = [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGCHLD];
    let signals = Signal::iterator().filter(|signal| mask >> (*signal as i32 - 1) & 1 == 1);
    set(signals.filter(|signal| !others.contains(signal)).map(Signal::as_str))
}

#[test]
fn every_signal_is_documented() {
    let dir = TestDir::new();
    let prober = dir.prober(None, &[]);
    let maglevd = MaglevdSetup::new(&dir, "maglev:\n").start();
    let there = BTreeMap::from([
        ("maglevd", handled_signals(&maglevd.process)),
        ("maglevd-prober", handled_signals(&prober)),
    ]);
    assert_eq!(documented_by_program("signal"), there);
    for (program, signals) in there {
        let manual = page::read(&format!("docs/man/{program}.8"));
        let (_, section) = manual.split_once(".Ss Signals\n").unwrap();
        let section = section.split("\n.S").next().unwrap_or_default();
        let items = section.lines().filter(|line| line.contains("Dv "));
        let words = items.flat_map(str::split_whitespace).filter(|word| word.starts_with("SIG"));
        assert_same(&format!("signals of {program}, in its manual"), &set(words), &signals);
    }
}

#[test]
fn every_exit_code_is_documented() {
    let seen = exit_codes();
    assert_eq!(documented_by_program("exit code"), seen);
    for (program, codes) in seen {
        let section = if program == "maglevc" { 1 } else { 8 };
        let items = Manual::read(&format!("docs/man/{program}.{section}")).items();
        let items = items.iter().filter(|item| item.section == "EXIT STATUS");
        let documented: String = items.map(|item| format!("{} ", item.head)).collect();
        let documented = set(documented.split([' ', ',']).filter(|word| !word.is_empty()));
        assert_same(&format!("exit codes of {program}, in its manual"), &documented, &codes);
    }
}

/// Provokes and returns the exit codes of each program.
fn exit_codes() -> BTreeMap<&'static str, BTreeSet<String>> {
    let dir = TestDir::new();
    let good = dir.write("good.yaml", "maglev:\n");
    let broken = dir.write("broken.yaml", "maglev: [\n");
    let absurd = "maglev:\n  backends:\n    a: { address: 192.0.2.1, healthcheck: none }\n";
    let absurd = dir.write("absurd.yaml", absurd);
    let checks = [good, broken, absurd].map(|file| {
        let output =
            Command::new(program("maglevd").unwrap()).args(["--check", "--config"]).arg(file).output();
        output.unwrap().status.code().unwrap()
    });
    let nobody = format!("unix:{}", dir.path("nobody.sock").display());
    let ended = |name: &str, words: &[&str]| {
        let output = Command::new(program(name).unwrap()).args(words).output().unwrap();
        output.status.code().unwrap()
    };
    let prober = ["--version", "--socket=/nowhere/prober.sock", "--nonsense"];
    let prober = prober.map(|word| ended("maglevd-prober", &[word]));
    let maglevc = [&["help"][..], &["--server", &nobody, "show", "version"], &["--nonsense"]];
    let maglevc = maglevc.map(|words| ended("maglevc", words));
    // Interruption by these signals needs a terminal. maglevc's own tests cover it.
    let by_signals = [Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGTERM].map(|signal| 128 + signal as i32);
    BTreeMap::from([
        ("maglevd", set(checks)),
        ("maglevd-prober", set(prober)),
        ("maglevc", set(maglevc.into_iter().chain(by_signals))),
    ])
}
