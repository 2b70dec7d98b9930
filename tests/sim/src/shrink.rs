//! Shortening of a failing script while it fails in the same way.

use super::run::{RunReport, run};
use super::script::FaultScript;

/// Maximum number of runs.
const RUNS: usize = 400;

/// Returns the shortest script found that fails as `script` does, with its report.
///
/// # Errors
/// The errors of [`run`].
pub fn shrink(script: &FaultScript) -> Result<(FaultScript, RunReport), String> {
    let (mut script, mut report) = (script.clone(), run(script)?);
    let (mut runs, mut size) = (0, script.faults.len());
    // Delta debugging: removes large pieces first, then smaller ones, until each fault is needed.
    while size > 0 && runs < RUNS {
        let mut removed = false;
        let mut from = script.faults.len().saturating_sub(size);
        while runs < RUNS && script.faults.len() >= size {
            let selected: Vec<usize> =
                (0..script.faults.len()).filter(|index| !(from..from + size).contains(index)).collect();
            let shorter = script.select(&selected);
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

/// Returns true if two runs fail with the same message, apart from numbers.
fn fails_alike(one: &RunReport, other: &RunReport) -> bool {
    let words = |report: &RunReport| {
        let first = report.violations.first()?;
        Some(first.chars().filter(|c| !c.is_ascii_digit()).collect::<String>())
    };
    words(one).is_some() && words(one) == words(other)
}
