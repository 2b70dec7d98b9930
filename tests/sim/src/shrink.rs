//! A run that fails is made shorter as long as it still fails in the same way.

use super::run::{Report, run};
use super::script::Script;

/// How many runs are made for it at most.
const RUNS: usize = 400;

/// The shortest script that is found to fail as `script` does, and what comes of it.
///
/// # Errors
/// Those of [`run`].
pub fn shrink(script: &Script) -> Result<(Script, Report), String> {
    let (mut script, mut report) = (script.clone(), run(script)?);
    let (mut runs, mut size) = (0, script.deeds.len());
    // As delta debugging does: large pieces go first, then smaller ones, until no single deed can go.
    while size > 0 && runs < RUNS {
        let mut gone = false;
        let mut from = script.deeds.len().saturating_sub(size);
        while runs < RUNS && script.deeds.len() >= size {
            let kept: Vec<usize> =
                (0..script.deeds.len()).filter(|index| !(from..from + size).contains(index)).collect();
            let shorter = script.only(&kept);
            let outcome = run(&shorter)?;
            runs += 1;
            if alike(&outcome, &report) {
                (script, report, gone) = (shorter, outcome, true);
            }
            if from == 0 {
                break;
            }
            from = from.saturating_sub(size);
        }
        if !gone || size > script.deeds.len() {
            size /= 2;
        }
    }
    Ok((script, report))
}

/// Whether two runs fail in the same way: in the same words, but for numbers.
fn alike(one: &Report, other: &Report) -> bool {
    let words = |report: &Report| {
        let first = report.violations.first()?;
        Some(first.chars().filter(|c| !c.is_ascii_digit()).collect::<String>())
    };
    words(one).is_some() && words(one) == words(other)
}
