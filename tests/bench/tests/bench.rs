//! Short runs of the `make bench` harness with few backends. Every case must produce finite numbers.
#![cfg(test)]

use std::fs;
use std::path::Path;
use std::process::Command;

use maglev_bench::page::render;
use maglev_bench::report::{Part, Report};
use maglev_lab::programs::program;
use maglev_lab::skip;

/// Runs one part and returns its results, or `None` if this host cannot run it.
fn run(test: &str, part: &str, flags: &[&str]) -> Option<Part> {
    if skip(test, &["unshare", "setpriv", "ip"]) {
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join("page.md");
    let marks = "<!-- results: `make bench` writes what follows -->\n<!-- results end here -->\n";
    fs::write(&page, marks).unwrap();
    let mut command = Command::new(program("bench").unwrap());
    command.arg("--out").arg(directory.path()).arg("--page").arg(&page).args(["--only", part]).args(flags);
    let output = command.args(["--sizes", "20", "--window", "0.5"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}{}", String::from_utf8_lossy(&output.stdout));
    let mut report = Report::read(directory.path()).unwrap();
    let written = fs::read_to_string(&page).unwrap();
    assert!(written.contains(&render(&report)), "{written}");
    Some(report.parts.remove(part).unwrap())
}

/// Fails if a case of ours was left out. Checkers that are not installed may be missing.
fn check(part: &Part) {
    for figure in &part.figures {
        assert!(
            !figure.values.is_empty() && figure.values.iter().all(|value| value.is_finite()),
            "{figure:?}"
        );
    }
    let ours: Vec<_> = part.left_out.iter().filter(|what| what.contains("maglevd")).collect();
    assert!(ours.is_empty(), "{ours:#?}");
}

#[test]
fn every_checker_is_measured_without_payload() {
    measure("every_checker_is_measured_without_payload", "icmp,tcp", 3);
}

#[test]
fn every_checker_is_measured_with_http() {
    measure("every_checker_is_measured_with_http", "http", 2);
}

#[test]
fn every_checker_is_measured_with_https() {
    measure("every_checker_is_measured_with_https", "https", 2);
}

/// `ours` is the number of these probe types that vpp-maglev supports.
fn measure(test: &str, probes: &str, ours: usize) {
    let Some(part) = run(test, "probes", &["--rounds", "2", "--probes", probes]) else { return };
    check(&part);
    assert_eq!(
        part.cases.iter().filter(|case| case.who == "vpp-maglev").count(),
        ours,
        "{:#?}",
        part.left_out
    );
    for case in &part.cases {
        assert_eq!(case.rounds.len(), 2, "{case:#?}");
        for round in &case.rounds {
            assert!(round.probes > 0 && round.cpu > 0.0 && round.gap[0] > 0.0, "{case:#?}");
            assert!(round.memory.values().all(|mib| *mib > 0.0), "{case:#?}");
        }
    }
}

#[test]
fn failures_are_detected() {
    let Some(part) = run("failures_are_detected", "detection", &["--failures", "4"]) else { return };
    check(&part);
    let of_ours = part.figures.iter().filter(|figure| figure.what.starts_with("silent: vpp-maglev"));
    assert_eq!(of_ours.map(|figure| figure.values.len()).collect::<Vec<_>>(), [4, 4], "{part:#?}");
}

#[test]
fn failures_beside_hostile_servers_are_detected() {
    let Some(part) = run("failures_beside_hostile_servers_are_detected", "hostile", &["--failures", "2"])
    else {
        return;
    };
    check(&part);
    let measured = part.figures.iter().filter(|figure| figure.what.contains("failures not found"));
    assert_eq!(measured.count() + part.left_out.len(), 5, "{part:#?}");
}

#[test]
fn vpp_programming_is_measured() {
    let Some(part) = run("vpp_programming_is_measured", "following", &["--failures", "2"]) else { return };
    check(&part);
    assert!(part.figures.len() >= 7, "{part:#?}");
}

#[test]
fn daemon_costs_are_measured() {
    let Some(part) = run("daemon_costs_are_measured", "own", &[]) else { return };
    check(&part);
    assert!(part.figures.len() >= 8, "{part:#?}");
}

#[test]
fn interrupted_bench_leaves_no_processes() {
    if skip("interrupted_bench_leaves_no_processes", &["unshare", "setpriv", "ip"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(program("bench").unwrap());
    command.env("TMPDIR", dir.path()).arg("--out").arg(dir.path()).args(["--only", "own", "--sizes", "20"]);
    let mut process = maglev_lab::process::Process::spawn("bench", &mut command);
    let directory = || {
        let mut all = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        all.find(|path| path.join("prober.sock").exists())
    };
    // A listening prober is a process that could be left behind.
    maglev_lab::packets::until(|| directory().is_some(), || "no prober".to_owned());
    let directory = directory().unwrap();
    assert!(users(&directory) > 0);
    process.signal(nix::sys::signal::Signal::SIGINT);
    assert_eq!(process.end().code(), Some(130));
    maglev_lab::packets::until(|| users(&directory) == 0, || "processes remain".to_owned());
    assert!(!directory.exists());
}

/// Returns the number of processes with that directory in their environment. All processes of the harness have it.
fn users(directory: &Path) -> usize {
    let wanted = format!("TMPDIR={}", directory.display());
    let all = fs::read_dir("/proc").unwrap().flatten().map(|process| process.path().join("environ"));
    let environments = all.filter_map(|path| fs::read(path).ok());
    environments.filter(|text| text.split(|&byte| byte == 0).any(|one| one == wanted.as_bytes())).count()
}
