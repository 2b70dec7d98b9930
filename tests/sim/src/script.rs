//! The script of a run: faults with their times, all drawn from the seed before the run begins, so that it can be shortened.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;

use super::config_model::ConfigModel;
use super::fault::{Fault, HostConfig, InitialSetting};
use super::late_stream;

/// A run.
#[derive(Clone, Debug)]
pub struct FaultScript {
    /// What everything is drawn from.
    pub seed: u64,
    /// The configuration at the start.
    pub model: ConfigModel,
    /// What else is otherwise than in most runs.
    pub host: HostConfig,
    /// What happens, and when; in the order in which it was drawn.
    pub faults: Vec<(Duration, Fault)>,
    /// Which of the deeds of the seed these are; `None` is all.
    pub selected: Option<Vec<usize>>,
}

impl FaultScript {
    /// The run of this seed, or what is left of it.
    pub fn draw(seed: u64, selected: Option<&[usize]>) -> Self {
        let rng = &mut Rng::with_seed(seed);
        let mut model = ConfigModel::draw(rng);
        let mut at = Duration::from_secs(rng.u64(..20));
        let mut faults = Vec::new();
        for _ in 0..rng.usize(3..30) {
            let fault = Fault::draw(rng);
            // A probe that is lost while nothing is known yet.
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
                // Enough for all to be well again, most times.
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

    /// The same without some of its deeds; `selected` are those that stay, counted from 0 in this one.
    pub fn only(&self, selected: &[usize]) -> Self {
        let all: Vec<usize> = self.selected.clone().unwrap_or_else(|| (0..self.faults.len()).collect());
        let selected: Vec<usize> = selected.iter().map(|index| all[*index]).collect();
        Self::draw(self.seed, Some(&selected))
    }
}

/// As a line of the file of seeds.
impl fmt::Display for FaultScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.seed)?;
        self.selected.iter().flatten().try_for_each(|index| write!(f, " {index}"))
    }
}
