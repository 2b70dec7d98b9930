//! Stored results.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// All results. A run replaces only the parts it measures.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Report {
    /// Parts by name.
    pub parts: BTreeMap<String, Part>,
}

/// Results of one part.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Part {
    /// Date.
    pub date: String,
    /// Machine and versions.
    pub machine: Vec<String>,
    /// Checkers in turn.
    pub cases: Vec<BenchCase>,
    /// Other figures, and those derived from the cases.
    pub figures: Vec<Figure>,
    /// Omitted measurements with the reason.
    pub left_out: Vec<String>,
}

/// A checker with one type of probe.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct BenchCase {
    /// Name of the checker.
    pub who: String,
    /// Name of the probe.
    pub probe: String,
    /// Number of backends.
    pub backends: u32,
    /// Probe interval in seconds.
    pub interval: f64,
    /// Rounds.
    pub rounds: Vec<Round>,
}

/// One round of a checker.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Round {
    /// CPU time per probe of all processes, in µs.
    pub cpu: f64,
    /// CPU time per probe of each program.
    pub parts: BTreeMap<String, f64>,
    /// Fraction of CPU time spent in the kernel.
    pub system: f64,
    /// Probes that arrived.
    pub probes: u64,
    /// Fraction of the expected probes.
    pub achieved: f64,
    /// Gap between probes of a backend in ms: median, 99th percentile and maximum.
    pub gap: [f64; 3],
    /// Excess of the last two over the intended maximum, in ms.
    pub late: [f64; 2],
    /// Memory of each program, in MiB.
    pub memory: BTreeMap<String, f64>,
}

/// A figure with all its samples.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Figure {
    /// Description.
    pub what: String,
    /// Unit; `×` for a ratio.
    pub unit: String,
    /// Samples.
    pub values: Vec<f64>,
    /// Target.
    pub reach: Option<Target>,
}

/// Target of a figure.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub enum Target {
    /// Upper bound.
    AtMost(f64),
    /// Lower bound.
    AtLeast(f64),
}

impl Figure {
    /// Creates a figure without a target.
    #[must_use]
    pub fn new(what: impl Into<String>, unit: &str, values: Vec<f64>) -> Self {
        Self { what: what.into(), unit: unit.to_owned(), values, reach: None }
    }

    /// Sets an upper bound as the target.
    #[must_use]
    pub fn at_most(self, reach: f64) -> Self {
        Self { reach: Some(Target::AtMost(reach)), ..self }
    }

    /// Sets a lower bound as the target.
    #[must_use]
    pub fn at_least(self, reach: f64) -> Self {
        Self { reach: Some(Target::AtLeast(reach)), ..self }
    }

    /// Returns whether the median meets the target; `None` without a target.
    #[must_use]
    pub fn is_met(&self) -> Option<bool> {
        let median = median(&self.values);
        self.reach.map(|reach| match reach {
            Target::AtMost(most) => median <= most,
            Target::AtLeast(least) => median >= least,
        })
    }
}

impl Report {
    /// Reads the results of earlier runs in `directory`, or returns an empty report.
    ///
    /// # Errors
    /// If the file has another format.
    pub fn read(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join("results.json");
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| path.display().to_string()),
            Err(_) => Ok(Self::default()),
        }
    }

    /// Writes the results.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, directory: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(directory)?;
        Ok(fs::write(directory.join("results.json"), serde_json::to_string_pretty(self)? + "\n")?)
    }
}

impl Part {
    /// Returns the case with that checker and probe.
    #[must_use]
    pub fn case(&self, who: &str, probe: &str, backends: u32) -> Option<&BenchCase> {
        self.cases.iter().find(|case| case.who == who && case.probe == probe && case.backends == backends)
    }

    /// Adds a round.
    pub fn add(&mut self, who: &str, probe: &str, backends: u32, interval: f64, round: Round) {
        let known = self
            .cases
            .iter_mut()
            .find(|case| case.who == who && case.probe == probe && case.backends == backends);
        match known {
            Some(case) => case.rounds.push(round),
            None => {
                let (who, probe) = (who.to_owned(), probe.to_owned());
                self.cases.push(BenchCase { who, probe, backends, interval, rounds: vec![round] });
            }
        }
    }

    /// Adds a figure without its non-finite samples, unless none are left.
    pub fn add_figure(&mut self, mut figure: Figure) {
        figure.values.retain(|value| value.is_finite());
        if !figure.values.is_empty() {
            self.figures.push(figure);
        }
    }

    /// Records an omission once.
    pub fn leave_out(&mut self, what: String) {
        if !self.left_out.contains(&what) {
            eprintln!("LEFT OUT {what}");
            self.left_out.push(what);
        }
    }
}

/// Returns the median; NaN without values.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    percentile(values, 50.0)
}

/// Returns a percentile; NaN without values.
#[must_use]
pub fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    sorted[(last as f64 * percent / 100.0).round() as usize]
}

/// Returns minimum and maximum.
#[must_use]
pub fn spread(values: &[f64]) -> (f64, f64) {
    (percentile(values, 0.0), percentile(values, 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_actual_samples() {
        let values = [3.0, 1.0, 2.0, 5.0, 4.0];
        assert_eq!((median(&values), spread(&values)), (3.0, (1.0, 5.0)));
        assert_eq!(percentile(&values, 99.0), 5.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn median_is_compared_with_target() {
        let figure = Figure::new("", "×", vec![0.2, 0.9, 0.3]);
        assert_eq!(figure.is_met(), None);
        assert_eq!(figure.clone().at_most(0.3).is_met(), Some(true));
        assert_eq!(figure.at_least(0.4).is_met(), Some(false));
    }

    #[test]
    fn written_report_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Report::read(directory.path()).unwrap().parts.is_empty());
        let mut part = Part::default();
        part.add("C floor", "ICMP", 10, 1.0, Round { cpu: 7.5, ..Round::default() });
        part.add("C floor", "ICMP", 10, 1.0, Round { cpu: 8.5, ..Round::default() });
        Report { parts: [("probes".to_owned(), part)].into() }.write(directory.path()).unwrap();
        let report = Report::read(directory.path()).unwrap();
        assert_eq!(report.parts["probes"].case("C floor", "ICMP", 10).unwrap().rounds[1].cpu, 8.5);
    }
}
