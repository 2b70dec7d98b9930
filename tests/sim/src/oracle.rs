//! What has to be so, worked out anew from the truth: it shares no code with what it judges.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use maglev_core::event::Kind;
use maglev_core::health::{Health, TransitionCause};
use maglev_ipc::OutcomeCode;
use tokio::time::Instant;

use super::config_model::ConfigModel;

/// Verdicts older than this do not decide a transition.
const MEMORY: Duration = Duration::from_secs(120);

/// What is excused, and until when.
#[derive(Debug)]
pub struct Oracle {
    /// Per frontend: its weights may be wrong.
    pub wrong_until: Vec<Instant>,
    /// Per frontend: it may be written to.
    write_until: Vec<Instant>,
    /// The same for VPP's global settings, and VIPs that are not ours.
    pub rest_wrong_until: Instant,
    rest_write_until: Instant,
    /// VPP may have something else than it is taken to have.
    pub differs_until: Instant,
    /// Per backend: what came of its probes, and when they were sent.
    verdicts: Vec<VecDeque<(Instant, bool)>>,
    /// Per backend: it loses some probes, but fewer than `fall`.
    loss_tolerated_until: Vec<Instant>,
}

impl Oracle {
    /// Nothing is to be right before `from`.
    pub fn new(model: &ConfigModel, from: Instant) -> Self {
        Self {
            wrong_until: vec![from; model.frontends.len()],
            write_until: vec![from; model.frontends.len()],
            rest_wrong_until: from,
            rest_write_until: from,
            differs_until: from,
            verdicts: vec![VecDeque::new(); model.backends.len()],
            loss_tolerated_until: vec![Instant::now(); model.backends.len()],
        }
    }

    /// What a frontend should be has changed: it is to be right when this time has passed.
    pub fn tolerate(&mut self, frontend: usize, within: Duration) {
        let until = Instant::now() + within;
        if let (Some(wrong_until), Some(write_until)) =
            (self.wrong_until.get_mut(frontend), self.write_until.get_mut(frontend))
        {
            *wrong_until = (*wrong_until).max(until);
            *write_until = *wrong_until;
        }
    }

    /// What everything should be, or what it is, has changed.
    pub fn tolerate_all(&mut self, within: Duration) {
        (0..self.wrong_until.len()).for_each(|frontend| self.tolerate(frontend, within));
        self.rest_wrong_until = self.rest_wrong_until.max(Instant::now() + within);
        self.rest_write_until = self.rest_wrong_until;
    }

    /// VPP may have something else than it is taken to have: it is to be right when this time has passed.
    pub fn tolerate_difference(&mut self, within: Duration) {
        self.differs_until = self.differs_until.max(Instant::now() + within);
    }

    /// If it may have, that is seen within this time, whatever was to be before.
    pub fn expect_comparison_within(&mut self, within: Duration) {
        let now = Instant::now();
        if self.differs_until > now {
            self.differs_until = now + within;
        }
    }

    /// When VPP is to be right at the latest, as far as that is by what happened to all.
    pub fn latest_comparison(&self) -> Instant {
        self.differs_until
    }

    /// For this time nothing is done about what is wrong; but what is right is to stay as it is.
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

    /// Whether a backend's frontends are as they should be, and so is the way to it: it may lose probes below `fall`.
    pub fn tolerate_loss(&mut self, backend: usize, frontends: &[usize], within: Duration) -> bool {
        let now = Instant::now();
        let calm = self.loss_tolerated_until[backend] <= now
            && self.differs_until <= now
            && frontends.iter().all(|f| self.wrong_until[*f] <= now);
        self.loss_tolerated_until[backend] = now + within;
        calm
    }

    /// A probe was sent, and this will come of it.
    pub fn record_probe(&mut self, backend: usize, code: OutcomeCode) {
        let (Some(passed), Some(verdicts)) = (code.passed(), self.verdicts.get_mut(backend)) else { return };
        verdicts.push_back((Instant::now(), passed));
        if verdicts.len() > 256 {
            verdicts.pop_front();
        }
    }

    /// A transition write_until probes that speak for it.
    pub fn check_transition(&self, kind: &Kind, model: &ConfigModel) -> Option<String> {
        let Kind::Backend { name, transition, .. } = kind else { return None };
        let TransitionCause::Outcome { .. } = transition.cause else { return None };
        let backend = ConfigModel::number(name)?;
        let check = &model.checks[model.backends[backend]?];
        let since = Instant::now().checked_sub(MEMORY);
        let recent = |(at, _): &&(Instant, bool)| since.is_none_or(|since| *at >= since);
        let known = self.verdicts[backend].iter();
        let (needed, wanted) = match (transition.from, transition.to) {
            (Health::Up, Health::Down) => (check.fall, false),
            (Health::Down, Health::Up) => (check.rise, true),
            // They may be remembered from long ago.
            (_, to) => {
                let speaks = known.into_iter().any(|(_, passed)| *passed == (to == Health::Up));
                return (!speaks).then(|| format!("b{backend} became {to}, and no probe says so"));
            }
        };
        let speaking = known.filter(recent).filter(|(_, passed)| *passed == wanted).count();
        (speaking < needed as usize).then(|| {
            let to = transition.to;
            format!("b{backend} became {to}, and {speaking} of its probes say so, where {needed} are to")
        })
    }

    /// Something was written for this VIP, or for everybody. What is wrong with that.
    pub fn check_write(&self, model: &ConfigModel, vip: Option<IpAddr>) -> Option<String> {
        let now = Instant::now();
        let frontend = vip.and_then(|vip| (0..model.frontends.len()).find(|f| ConfigModel::vip(*f) == vip));
        let until = frontend.map_or(self.rest_write_until, |frontend| self.write_until[frontend]);
        (now > until.max(self.differs_until)).then(|| "nothing was to be written".to_owned())
    }
}
