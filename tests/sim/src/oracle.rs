//! The oracle: deviations that are tolerable, and until when. It shares no code with the code under test.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use maglev_core::event::Kind;
use maglev_core::health::{Health, TransitionCause};
use maglev_ipc::OutcomeCode;
use tokio::time::Instant;

use super::config_model::ConfigModel;

/// Maximum age of verdicts that justify a transition. Probes may have no verdict for minutes in between.
const MEMORY: Duration = Duration::from_secs(600);

/// Tolerable deviations, and evidence for transitions.
#[derive(Debug)]
pub struct Oracle {
    /// Per frontend: end of the time in which its weights may be wrong.
    pub wrong_until: Vec<Instant>,
    /// Per frontend: end of the time in which `maglevd` may write to it.
    write_until: Vec<Instant>,
    /// End of the time in which global parameters and foreign VIPs may be wrong.
    pub rest_wrong_until: Instant,
    rest_write_until: Instant,
    /// End of the time in which VPP may differ from `maglevd`'s view of it.
    pub differs_until: Instant,
    /// Per server: send times and verdicts of its probes. A backend takes over those of another with an equal check.
    verdicts: BTreeMap<usize, VecDeque<(Instant, bool)>>,
    /// Per backend: end of the time in which it loses fewer than `fall` probes.
    loss_tolerated_until: Vec<Instant>,
}

impl Oracle {
    /// Returns an oracle that expects nothing before `from`.
    pub fn new(model: &ConfigModel, from: Instant) -> Self {
        Self {
            wrong_until: vec![from; model.frontends.len()],
            write_until: vec![from; model.frontends.len()],
            rest_wrong_until: from,
            rest_write_until: from,
            differs_until: from,
            verdicts: BTreeMap::new(),
            loss_tolerated_until: vec![Instant::now(); model.backends.len()],
        }
    }

    /// Tolerates deviations of a frontend for this time.
    pub fn tolerate(&mut self, frontend: usize, within: Duration) {
        let until = Instant::now() + within;
        if let (Some(wrong_until), Some(write_until)) =
            (self.wrong_until.get_mut(frontend), self.write_until.get_mut(frontend))
        {
            *wrong_until = (*wrong_until).max(until);
            *write_until = *wrong_until;
        }
    }

    /// Returns true if `maglevd` has no reason to change a frontend.
    pub fn is_calm(&self, frontend: usize) -> bool {
        self.write_until[frontend].max(self.differs_until) <= Instant::now()
    }

    /// Tolerates deviations of everything for this time.
    pub fn tolerate_all(&mut self, within: Duration) {
        (0..self.wrong_until.len()).for_each(|frontend| self.tolerate(frontend, within));
        self.rest_wrong_until = self.rest_wrong_until.max(Instant::now() + within);
        self.rest_write_until = self.rest_wrong_until;
    }

    /// Tolerates a difference between VPP and `maglevd`'s view of it for this time.
    pub fn tolerate_difference(&mut self, within: Duration) {
        self.differs_until = self.differs_until.max(Instant::now() + within);
    }

    /// Ends such a difference within this time, even if it ended later before.
    pub fn expect_comparison_within(&mut self, within: Duration) {
        let now = Instant::now();
        if self.differs_until > now {
            self.differs_until = now + within;
        }
    }

    /// Returns the latest time at which VPP may differ from `maglevd`'s view of it.
    pub fn latest_comparison(&self) -> Instant {
        self.differs_until
    }

    /// Tolerates existing deviations for this time. Correct frontends must stay correct.
    pub fn tolerate_outage(&mut self, within: Duration) {
        let (now, until) = (Instant::now(), Instant::now() + within);
        let (differs, rest) =
            (self.differs_until > now, (&mut self.rest_wrong_until, &mut self.rest_write_until));
        for (wrong_until, write_until) in self.wrong_until.iter_mut().zip(&mut self.write_until).chain([rest])
        {
            *wrong_until = (*wrong_until).max(until);
            if differs || *write_until > now {
                *write_until = *wrong_until;
            }
        }
    }

    /// Tolerates losses below `fall` for this time. Returns true if the backend's frontends are correct, and no other loss is
    /// in progress.
    pub fn tolerate_loss(&mut self, backend: usize, frontends: &[usize], within: Duration) -> bool {
        let now = Instant::now();
        let calm = self.loss_tolerated_until[backend] <= now
            && self.differs_until <= now
            && frontends.iter().all(|f| self.wrong_until[*f] <= now);
        self.loss_tolerated_until[backend] = now + within;
        calm
    }

    /// Records a probe of a server and its result.
    pub fn record_probe(&mut self, server: usize, code: OutcomeCode) {
        let Some(passed) = code.passed() else { return };
        let verdicts = self.verdicts.entry(server).or_default();
        verdicts.push_back((Instant::now(), passed));
        if verdicts.len() > 256 {
            verdicts.pop_front();
        }
    }

    /// Returns a violation if a transition lacks probes that justify it.
    pub fn check_transition(&self, kind: &Kind, model: &ConfigModel) -> Option<String> {
        let Kind::Backend { name, transition, .. } = kind else { return None };
        let TransitionCause::Outcome { .. } = transition.cause else { return None };
        let backend = ConfigModel::number(name)?;
        let check = &model.checks[model.backends[backend]?];
        let since = Instant::now().checked_sub(MEMORY);
        let recent = |(at, _): &&(Instant, bool)| since.is_none_or(|since| *at >= since);
        let mut known = self.verdicts.get(&model.server(backend)).into_iter().flatten();
        let (needed, wanted) = match (transition.from, transition.to) {
            (Health::Up, Health::Down) => (check.fall, false),
            (Health::Down, Health::Up) => (check.rise, true),
            // They may be old: the prober keeps its history.
            (_, to) => {
                let speaks = known.any(|(_, passed)| *passed == (to == Health::Up));
                return (!speaks).then(|| format!("b{backend} became {to} without a matching probe"));
            }
        };
        let matching = known.filter(recent).filter(|(_, passed)| *passed == wanted).count();
        (matching < needed as usize).then(|| {
            let to = transition.to;
            format!("b{backend} became {to} after {matching} matching probes instead of {needed}")
        })
    }

    /// Returns a violation if a write for this VIP, or a global one, is not expected.
    pub fn check_write(&self, model: &ConfigModel, vip: Option<IpAddr>) -> Option<String> {
        let now = Instant::now();
        let frontend = vip.and_then(|vip| (0..model.frontends.len()).find(|f| ConfigModel::vip(*f) == vip));
        let until = frontend.map_or(self.rest_write_until, |frontend| self.write_until[frontend]);
        (now > until.max(self.differs_until))
            .then(|| "VPP was written to without a pending change".to_owned())
    }
}
