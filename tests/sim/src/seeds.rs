//! The file of failed seeds. Each line has a seed, the indexes of its relevant faults, and after `#` the finding.

use super::script::FaultScript;

/// Reads the file of seeds.
///
/// # Errors
/// A line is invalid.
pub fn read(text: &str) -> Result<Vec<FaultScript>, String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty()).map(parse).collect()
}

/// Reads one line.
///
/// # Errors
/// It is invalid.
pub fn parse(line: &str) -> Result<FaultScript, String> {
    let mut numbers = line
        .split_whitespace()
        .map(|word| word.parse::<u64>().map_err(|error| format!("`{line}`: `{word}`: {error}")));
    let seed = numbers.next().ok_or_else(|| format!("`{line}` has no seed"))??;
    let selected = numbers.map(|number| number.map(|n| n as usize)).collect::<Result<Vec<_>, _>>()?;
    Ok(FaultScript::draw(seed, (!selected.is_empty()).then_some(&selected)))
}
