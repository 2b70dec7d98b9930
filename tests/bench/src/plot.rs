//! Bar chart of the cost per probe: one bar per checker with the range of its rounds.

use std::fmt::Write as _;

use super::report::{BenchCase, Part, median, spread};

const WIDTH: f64 = 860.0;
/// Left edge and maximum length of the bars.
const LEFT: f64 = 250.0;
const SCALE: f64 = 520.0;
const ROW: f64 = 24.0;
const TITLE: f64 = 34.0;
/// Medium tones, visible on light and dark backgrounds.
const COLORS: [(&str, &str); 4] =
    [("vpp-maglev", "#1f8fd0"), ("HAProxy", "#d9822b"), ("keepalived", "#b45fb0"), ("C floor", "#8a939c")];
const STYLE: &str = "<style>
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
.range { stroke: #1f2328; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .range { stroke: #e6edf3 } }
</style>
";

/// Draws the cases with that number of backends; `None` without cases.
#[must_use]
pub fn draw(part: &Part, backends: u32) -> Option<String> {
    let cases: Vec<_> = part.cases.iter().filter(|case| case.backends == backends).collect();
    let longest = cases.iter().map(|case| spread(&costs(case)).1).fold(f64::NAN, f64::max);
    if cases.is_empty() || !longest.is_finite() {
        return None;
    }
    let height = TITLE + ROW * cases.len() as f64 + 12.0;
    let title = format!("CPU time per probe, {backends} backends: median and range, in µs");
    // Here and below, writing to a string cannot fail.
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">\n{STYLE}"
    );
    _ = writeln!(text, "<text class=\"title\" x=\"8\" y=\"20\">{title}</text>");
    for (row, case) in cases.iter().enumerate() {
        bar(&mut text, case, TITLE + ROW * row as f64, SCALE / longest);
    }
    Some(text + "</svg>\n")
}

fn costs(case: &BenchCase) -> Vec<f64> {
    case.rounds.iter().map(|round| round.cpu).collect()
}

fn bar(text: &mut String, case: &BenchCase, top: f64, scale: f64) {
    let costs = costs(case);
    let (least, most) = spread(&costs);
    let color = COLORS.iter().find(|(who, _)| *who == case.who).map_or("#8a939c", |(_, color)| color);
    let (baseline, middle) = (top + 15.0, top + 10.0);
    let (label, end) = (LEFT - 10.0, LEFT + most * scale + 8.0);
    let cost = median(&costs);
    _ = writeln!(
        text,
        "<text x=\"{label}\" y=\"{baseline}\" text-anchor=\"end\">{}: {}</text>",
        case.probe, case.who
    );
    _ = writeln!(
        text,
        "<rect x=\"{LEFT}\" y=\"{}\" width=\"{:.1}\" height=\"16\" rx=\"2\" fill=\"{color}\"/>",
        top + 2.0,
        cost * scale
    );
    let (from, to) = (LEFT + least * scale, LEFT + most * scale);
    _ = writeln!(
        text,
        "<line class=\"range\" x1=\"{from:.1}\" y1=\"{middle}\" x2=\"{to:.1}\" y2=\"{middle}\"/>"
    );
    _ = writeln!(text, "<text x=\"{end:.1}\" y=\"{baseline}\">{cost:.1}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Round;

    #[test]
    fn each_case_has_a_bar() {
        let mut part = Part::default();
        for (who, cpu) in [("vpp-maglev", 5.0), ("HAProxy", 10.0)] {
            part.add(who, "HTTP", 10, 1.0, Round { cpu, ..Round::default() });
        }
        let picture = draw(&part, 10).unwrap();
        assert_eq!(picture.matches("<rect").count(), 2);
        assert!(picture.contains("width=\"260.0\"") && picture.contains("width=\"520.0\""), "{picture}");
        assert_eq!(draw(&part, 11), None);
    }
}
