//! The seeds that have failed, one per line: the seed, and which of its deeds are left of it; what was found is told behind
//! a `#`.

use super::script::FaultScript;

/// Reads the file of seeds.
///
/// # Errors
/// A line makes no sense.
pub fn read(text: &str) -> Result<Vec<FaultScript>, String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty()).map(parse).collect()
}

/// Reads one line.
///
/// # Errors
/// It makes no sense.
pub fn parse(line: &str) -> Result<FaultScript, String> {
    let mut numbers = line
        .split_whitespace()
        .map(|word| word.parse::<u64>().map_err(|error| format!("`{line}`: `{word}`: {error}")));
    let seed = numbers.next().ok_or_else(|| format!("`{line}` has no seed"))??;
    let selected = numbers.map(|number| number.map(|n| n as usize)).collect::<Result<Vec<_>, _>>()?;
    Ok(FaultScript::draw(seed, (!selected.is_empty()).then_some(&selected)))
}
