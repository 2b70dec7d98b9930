//! What was measured, as it is kept.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// Everything. A run replaces the parts that it measures, and keeps the others.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Report {
    /// By name.
    pub parts: BTreeMap<String, Part>,
}

/// What one part of a run has found.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Part {
    /// The day.
    pub date: String,
    /// Where, and beside what.
    pub machine: Vec<String>,
    /// Checkers at work, in turn.
    pub cases: Vec<Case>,
    /// Everything else, and what follows from the cases.
    pub figures: Vec<Figure>,
    /// What was not measured, and why.
    pub left_out: Vec<String>,
}

/// A checker at one kind of probe.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Case {
    /// The checker's name.
    pub who: String,
    /// The probe's name.
    pub probe: String,
    /// How many backends.
    pub backends: u32,
    /// How often each is probed, in seconds.
    pub interval: f64,
    /// Each time that it had its turn.
    pub rounds: Vec<Round>,
}

/// One turn of a checker.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Round {
    /// Processor time per probe of all its processes, in µs.
    pub cpu: f64,
    /// The same of each program.
    pub parts: BTreeMap<String, f64>,
    /// What of it was spent in the kernel, in parts of 1.
    pub system: f64,
    /// Probes that arrived.
    pub probes: u64,
    /// They, in parts of those that should have.
    pub achieved: f64,
    /// Between two probes of a backend, in ms: the median, the 99th percentile, and the longest.
    pub gap: [f64; 3],
    /// By how much the last two were longer than they were meant to be at most, in ms.
    pub late: [f64; 2],
    /// Memory of each program, in MiB.
    pub memory: BTreeMap<String, f64>,
}

/// A number, as often as it was taken.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Figure {
    /// What it says.
    pub what: String,
    /// Its unit; `×` for a ratio.
    pub unit: String,
    /// Each time.
    pub values: Vec<f64>,
    /// What it is to be at most, or at least.
    pub reach: Option<Reach>,
}

/// What a figure is to be.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub enum Reach {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

impl Figure {
    /// Without a reach.
    #[must_use]
    pub fn new(what: impl Into<String>, unit: &str, values: Vec<f64>) -> Self {
        Self { what: what.into(), unit: unit.to_owned(), values, reach: None }
    }

    /// That is to be no more than this.
    #[must_use]
    pub fn at_most(self, reach: f64) -> Self {
        Self { reach: Some(Reach::AtMost(reach)), ..self }
    }

    /// That is to be no less than this.
    #[must_use]
    pub fn at_least(self, reach: f64) -> Self {
        Self { reach: Some(Reach::AtLeast(reach)), ..self }
    }

    /// Whether its median is what it is to be.
    #[must_use]
    pub fn is_met(&self) -> Option<bool> {
        let median = median(&self.values);
        self.reach.map(|reach| match reach {
            Reach::AtMost(most) => median <= most,
            Reach::AtLeast(least) => median >= least,
        })
    }
}

impl Report {
    /// What earlier runs have kept in `folder`; nothing, if there were none.
    ///
    /// # Errors
    /// It is of another shape.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("results.json");
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| path.display().to_string()),
            Err(_) => Ok(Self::default()),
        }
    }

    /// Keeps it.
    ///
    /// # Errors
    /// There is no room.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder)?;
        Ok(fs::write(folder.join("results.json"), serde_json::to_string_pretty(self)? + "\n")?)
    }
}

impl Part {
    /// The case of that checker and probe.
    #[must_use]
    pub fn case(&self, who: &str, probe: &str, backends: u32) -> Option<&Case> {
        self.cases.iter().find(|case| case.who == who && case.probe == probe && case.backends == backends)
    }

    /// Adds one turn.
    pub fn add(&mut self, who: &str, probe: &str, backends: u32, interval: f64, round: Round) {
        let known = self
            .cases
            .iter_mut()
            .find(|case| case.who == who && case.probe == probe && case.backends == backends);
        match known {
            Some(case) => case.rounds.push(round),
            None => {
                let (who, probe) = (who.to_owned(), probe.to_owned());
                self.cases.push(Case { who, probe, backends, interval, rounds: vec![round] });
            }
        }
    }

    /// Adds a figure, if there is one: with too little to go by, some are not numbers.
    pub fn tell(&mut self, mut figure: Figure) {
        figure.values.retain(|value| value.is_finite());
        if !figure.values.is_empty() {
            self.figures.push(figure);
        }
    }

    /// Says, once, that something is not measured.
    pub fn leave_out(&mut self, what: String) {
        if !self.left_out.contains(&what) {
            eprintln!("LEFT OUT {what}");
            self.left_out.push(what);
        }
    }
}

/// The middle one; not a number if there is none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    percentile(values, 50.0)
}

/// The value that so many percent do not exceed; not a number if there is none.
#[must_use]
pub fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    sorted[(last as f64 * percent / 100.0).round() as usize]
}

/// The least and the greatest.
#[must_use]
pub fn spread(values: &[f64]) -> (f64, f64) {
    (percentile(values, 0.0), percentile(values, 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_there_were() {
        let values = [3.0, 1.0, 2.0, 5.0, 4.0];
        assert_eq!((median(&values), spread(&values)), (3.0, (1.0, 5.0)));
        assert_eq!(percentile(&values, 99.0), 5.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_reach_is_held_against_the_median() {
        let figure = Figure::new("", "×", vec![0.2, 0.9, 0.3]);
        assert_eq!(figure.is_met(), None);
        assert_eq!(figure.clone().at_most(0.3).is_met(), Some(true));
        assert_eq!(figure.at_least(0.4).is_met(), Some(false));
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Report::read(folder.path()).unwrap().parts.is_empty());
        let mut part = Part::default();
        part.add("C floor", "ICMP", 10, 1.0, Round { cpu: 7.5, ..Round::default() });
        part.add("C floor", "ICMP", 10, 1.0, Round { cpu: 8.5, ..Round::default() });
        Report { parts: [("probes".to_owned(), part)].into() }.write(folder.path()).unwrap();
        let report = Report::read(folder.path()).unwrap();
        assert_eq!(report.parts["probes"].case("C floor", "ICMP", 10).unwrap().rounds[1].cpu, 8.5);
    }
}
