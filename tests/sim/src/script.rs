//! The script of a run: faults with their times, all drawn from the seed before the run begins, so that it can be shortened.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;

use super::config_model::ConfigModel;
use super::fault::{Fault, HostConfig, InitialSetting};
use super::late_stream;

/// The script of a run.
#[derive(Clone, Debug)]
pub struct FaultScript {
    /// Seed of everything.
    pub seed: u64,
    /// Initial configuration.
    pub model: ConfigModel,
    /// Other initial conditions.
    pub host: HostConfig,
    /// Faults with their times, in the order of drawing.
    pub faults: Vec<(Duration, Fault)>,
    /// Indexes of the selected faults of the seed; `None` for all.
    pub selected: Option<Vec<usize>>,
}

impl FaultScript {
    /// Draws the script of a seed, reduced to the selected faults.
    pub fn draw(seed: u64, selected: Option<&[usize]>) -> Self {
        let rng = &mut Rng::with_seed(seed);
        let mut model = ConfigModel::draw(rng);
        let mut at = Duration::from_secs(rng.u64(..20));
        let mut faults = Vec::new();
        for _ in 0..rng.usize(3..30) {
            let fault = Fault::draw(rng);
            // Loses a probe while backends are unknown.
            if matches!(fault, Fault::CrashController(..) | Fault::StopController(_) | Fault::Upgrade(_))
                && rng.bool()
            {
                faults.push((at, Fault::Lose(rng.usize(..6), rng.u32(1..3))));
            }
            faults.push((at, fault));
            at += match rng.u8(..10) {
                0..=1 => Duration::ZERO,
                2..=3 => Duration::from_millis(rng.u64(..2000)),
                4 => Duration::from_millis(rng.u64(..15_000)),
                // Mostly enough for a full recovery.
                _ => Duration::from_secs(rng.u64(40..120)),
            };
        }
        faults.extend(late_stream::draw(seed, &model, at));
        let selected = selected.map(<[usize]>::to_vec);
        if let Some(selected) = &selected {
            faults = selected.iter().filter_map(|index| faults.get(*index).cloned()).collect();
        }
        let mut host = HostConfig::default();
        for (_, fault) in &faults {
            match fault {
                Fault::Initial(InitialSetting::File(edit)) => model.edit(edit),
                Fault::Initial(InitialSetting::MaxChecks(checks)) => host.max_checks = *checks,
                Fault::Initial(InitialSetting::Stats) => host.stats = true,
                Fault::Initial(InitialSetting::Contained) => host.contained = true,
                _ => {}
            }
        }
        Self { seed, model, host, faults, selected }
    }

    /// Returns the script reduced to these faults, counted from 0 in this script.
    pub fn select(&self, selected: &[usize]) -> Self {
        let all: Vec<usize> = self.selected.clone().unwrap_or_else(|| (0..self.faults.len()).collect());
        let selected: Vec<usize> = selected.iter().map(|index| all[*index]).collect();
        Self::draw(self.seed, Some(&selected))
    }
}

/// Formats the script as a line of the file of seeds.
impl fmt::Display for FaultScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.seed)?;
        self.selected.iter().flatten().try_for_each(|index| write!(f, " {index}"))
    }
}
