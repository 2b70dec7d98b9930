//! The whole system in virtual time, from seeds: new ones each time, and all that have ever failed.
//!
//! `make soak SEEDS=n` runs more of them.

#![cfg(test)]

use std::time::{SystemTime, UNIX_EPOCH};

use maglev_sim::script::Script;
use maglev_sim::{run, seeds, shrink};

/// How many new seeds are tried each time.
const NEW: u64 = 40;

/// Runs a script; what fails is told as the shortest that fails alike.
fn passes(script: &Script) {
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
fn what_has_failed_once_does_not_fail_again() {
    let found = seeds::read(include_str!("sim.seeds")).unwrap();
    found.iter().for_each(passes);
}

#[test]
fn new_seeds_pass() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let first = now.as_secs() << 16;
    (first..first + NEW).for_each(|seed| passes(&Script::draw(seed, None)));
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..4 {
        let script = Script::draw(seed, None);
        let (one, other) = (run(&script).unwrap(), run(&script).unwrap());
        let differs = one.trace.iter().zip(&other.trace).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!((one.digest, one.simulated), (other.digest, other.simulated), "seed {seed}");
    }
}
