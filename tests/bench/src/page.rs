//! The page with the results, and its part that each run replaces.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;

use super::report::{BenchCase, Figure, Part, Report, Round, Target, median, spread};

/// Marks around the generated part.
const BEGIN: &str = "<!-- results: `make bench` writes what follows -->";
const END: &str = "<!-- results end here -->";
/// Parts in page order, with their headings.
pub const PARTS: [(&str, &str); 5] = [
    ("probes", "Cost of a probe"),
    ("detection", "Detection time"),
    ("hostile", "Detection time beside a hostile server"),
    ("following", "VPP synchronisation"),
    ("own", "Daemon costs: start, idle, scrapes and growth"),
];

/// Writes the results into the page.
///
/// # Errors
/// If the page has no marks.
pub fn update(page: &Path, report: &Report) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(page).with_context(|| page.display().to_string())?;
    let updated = replace(&text, &render(report))
        .with_context(|| format!("{}: no marks for results", page.display()))?;
    Ok(std::fs::write(page, updated)?)
}

fn replace(text: &str, results: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{results}\n{END}{after}"))
}

/// Returns the results as Markdown.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    for (name, title) in PARTS {
        if let Some(part) = report.parts.get(name) {
            section(&mut text, title, part);
        }
    }
    text.trim_end().to_owned() + "\n"
}

// Here and below, writing to a string cannot fail.
fn section(text: &mut String, title: &str, part: &Part) {
    _ = writeln!(text, "## {title}\n\n{}: {}.\n", part.date, part.machine.join("; "));
    let mut sizes: Vec<_> = part.cases.iter().map(|case| case.backends).collect();
    sizes.sort_unstable();
    sizes.dedup();
    // With a single checker, the figures are sufficient.
    let checkers = part.cases.iter().map(|case| &case.who).collect::<std::collections::BTreeSet<_>>().len();
    for &size in sizes.iter().filter(|_| checkers > 1) {
        cases(text, part.cases.iter().filter(|case| case.backends == size), size);
    }
    if !part.figures.is_empty() {
        figures(text, &part.figures);
    }
    if !part.left_out.is_empty() {
        text.push_str("Not measured:\n\n");
        for what in &part.left_out {
            _ = writeln!(text, "* {}", what.replace('\n', " "));
        }
        text.push('\n');
    }
}

fn cases<'a>(text: &mut String, cases: impl Iterator<Item = &'a BenchCase>, size: u32) {
    _ = writeln!(text, "### {size} backends\n");
    text.push_str(
        "| probe | checker | CPU time per probe, µs | kernel share | arrived | p99 lateness, ms | max. lateness, ms | memory, MiB |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for case in cases {
        let all = |of: fn(&Round) -> f64| case.rounds.iter().map(of).collect::<Vec<_>>();
        let middle = |of| median(&all(of));
        let (least, most) = spread(&all(|round| round.cpu));
        let parts = split(case, |round| &round.parts);
        let memory = split(case, |round| &round.memory);
        let memory: Vec<_> = memory.iter().map(|(_, mib)| format!("{mib:.0}")).collect();
        let own = if parts.len() > 1 {
            let own: Vec<_> = parts.iter().map(|(name, cpu)| format!("{name} {cpu:.1}")).collect();
            format!("; {}", own.join(", "))
        } else {
            String::new()
        };
        _ = writeln!(
            text,
            "| {} | {} | **{:.1}** ({least:.1}..{most:.1}{own}) | {:.0} % | {:.1} % | {:.1} | {:.0} | {} |",
            case.probe,
            case.who,
            middle(|round| round.cpu),
            middle(|round| round.system) * 100.0,
            middle(|round| round.achieved) * 100.0,
            middle(|round| round.late[0]),
            middle(|round| round.late[1]),
            memory.join(" + "),
        );
    }
    text.push('\n');
}

/// Returns a median per program, in reverse order of names.
fn split(case: &BenchCase, of: fn(&Round) -> &std::collections::BTreeMap<String, f64>) -> Vec<(String, f64)> {
    let Some(first) = case.rounds.first() else { return Vec::new() };
    let one = |name: &String| {
        let values: Vec<_> = case.rounds.iter().filter_map(|round| of(round).get(name).copied()).collect();
        (name.clone(), median(&values))
    };
    of(first).keys().rev().map(one).collect()
}

fn figures(text: &mut String, figures: &[Figure]) {
    text.push_str("| | median | min..max | target | |\n|---|---|---|---|---|\n");
    for figure in figures {
        let (least, most) = spread(&figure.values);
        let range = if figure.values.len() > 1 {
            format!("{}..{}", short(least), short(most))
        } else {
            String::new()
        };
        let reach = match figure.reach {
            Some(Target::AtMost(most)) => format!("≤ {most}"),
            Some(Target::AtLeast(least)) => format!("≥ {least}"),
            None => String::new(),
        };
        let met = match figure.is_met() {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "",
        };
        let (what, unit) = (&figure.what, &figure.unit);
        _ = writeln!(
            text,
            "| {what} | **{}** {unit} | {range} | {reach} | {met} |",
            short(median(&figure.values))
        );
    }
    text.push('\n');
}

/// Formats a value with its significant digits.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_between_marks_is_replaced() {
        let page = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let once = replace(&page, "new\n").unwrap();
        assert_eq!(once, format!("before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"));
        assert_eq!(replace(&once, "new\n").unwrap(), once);
        assert_eq!(replace("no marks", ""), None);
    }

    #[test]
    fn missed_target_is_shown() {
        let mut part = Part::default();
        part.add("vpp-maglev", "ICMP", 10, 1.0, Round { cpu: 7.5, achieved: 1.0, ..Round::default() });
        part.add("C floor", "ICMP", 10, 1.0, Round { cpu: 7.5, achieved: 1.0, ..Round::default() });
        part.figures.push(Figure::new("ratio", "×", vec![0.5, 0.6, 0.4]).at_most(0.35));
        let text = render(&Report { parts: [("probes".to_owned(), part)].into() });
        assert!(text.contains("| ICMP | C floor | **7.5** (7.5..7.5) |"), "{text}");
        assert!(text.contains("| ratio | **0.50** × | 0.40..0.60 | ≤ 0.35 | **missed** |"), "{text}");
    }

    #[test]
    fn performance_page_has_marks() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/performance.md");
        assert!(replace(&std::fs::read_to_string(page).unwrap(), "").is_some());
    }
}
