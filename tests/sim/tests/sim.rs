//! Simulation of the whole system in virtual time: new seeds each run, and all seeds that ever failed.
//!
//! `make soak SEEDS=n` runs more of them.

#![cfg(test)]

use std::time::{SystemTime, UNIX_EPOCH};

use maglev_sim::script::FaultScript;
use maglev_sim::{run, seeds, shrink};

/// Number of new seeds per run.
const NEW: u64 = 40;

/// Runs a script. A failing script is shrunk before it is reported.
fn passes(script: &FaultScript) {
    let report = run(script).unwrap();
    if report.violations.is_empty() {
        return;
    }
    let (script, report) = shrink::shrink(script).unwrap();
    panic!(
        "{}\n\n{:?}\nReplay it with `make soak SEED='{script}'`",
        report.trace.join("\n"),
        report.violations
    );
}

#[test]
fn recorded_seeds_pass() {
    let found = seeds::read(include_str!("sim.seeds")).unwrap();
    found.iter().for_each(passes);
}

#[test]
fn new_seeds_pass() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let first = now.as_secs() << 16;
    (first..first + NEW).for_each(|seed| passes(&FaultScript::draw(seed, None)));
}

#[test]
fn same_seed_gives_same_run() {
    for seed in 0..4 {
        let script = FaultScript::draw(seed, None);
        let (one, other) = (run(&script).unwrap(), run(&script).unwrap());
        let differs = one.trace.iter().zip(&other.trace).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!((one.digest, one.simulated), (other.digest, other.simulated), "seed {seed}");
    }
}
