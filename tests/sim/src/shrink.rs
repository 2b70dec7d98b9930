//! A run that fails is made shorter as long as it still fails in the same way.

use super::run::{RunReport, run};
use super::script::FaultScript;

/// How many runs are made for it at most.
const RUNS: usize = 400;

/// The shortest script that is found to fail as `script` does, and what comes of it.
///
/// # Errors
/// Those of [`run`].
pub fn shrink(script: &FaultScript) -> Result<(FaultScript, RunReport), String> {
    let (mut script, mut report) = (script.clone(), run(script)?);
    let (mut runs, mut size) = (0, script.faults.len());
    // As delta debugging does: large pieces go first, then smaller ones, until no single deed can go.
    while size > 0 && runs < RUNS {
        let mut removed = false;
        let mut from = script.faults.len().saturating_sub(size);
        while runs < RUNS && script.faults.len() >= size {
            let selected: Vec<usize> =
                (0..script.faults.len()).filter(|index| !(from..from + size).contains(index)).collect();
            let shorter = script.only(&selected);
            let outcome = run(&shorter)?;
            runs += 1;
            if fails_alike(&outcome, &report) {
                (script, report, removed) = (shorter, outcome, true);
            }
            if from == 0 {
                break;
            }
            from = from.saturating_sub(size);
        }
        if !removed || size > script.faults.len() {
            size /= 2;
        }
    }
    Ok((script, report))
}

/// Whether two runs fail in the same way: in the same words, but for numbers.
fn fails_alike(one: &RunReport, other: &RunReport) -> bool {
    let words = |report: &RunReport| {
        let first = report.violations.first()?;
        Some(first.chars().filter(|c| !c.is_ascii_digit()).collect::<String>())
    };
    words(one).is_some() && words(one) == words(other)
}
