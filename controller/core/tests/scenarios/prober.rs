//! A prober that says what it is told to, and remembers it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use maglev_core::state::{CheckSet, Input};
use maglev_ipc::{CheckId, Outcome, OutcomeCode, OutcomeDetail, VerdictHistory};

use super::world::World;

/// What a prober remembers.
#[derive(Default)]
pub struct Prober {
    pub set: CheckSet,
    pub seq: u64,
    pub verdicts: BTreeMap<IpAddr, (u64, u8)>,
}

impl World {
    pub fn target(&self, check: CheckId) -> IpAddr {
        self.prober.set.checks.iter().find(|(id, ..)| *id == check).unwrap().2.target
    }

    pub fn install(&mut self, set: CheckSet) {
        let checks: Vec<_> = set
            .checks
            .iter()
            .map(|(id, pace, check)| format!("#{id} {} {:?}", check.target, pace.interval))
            .collect();
        let mut checks_in_force = set.checks.clone();
        if let Some(dropped) = &set.dropped {
            let gone: Vec<_> = dropped.iter().map(|id| format!("-#{id} {}", self.target(*id))).collect();
            let checks = checks.iter().map(|check| format!("+{check}"));
            self.said
                .push(format!("checks {}", gone.into_iter().chain(checks).collect::<Vec<_>>().join(", ")));
            let kept = self.prober.set.checks.iter().filter(|(id, ..)| !dropped.contains(id));
            checks_in_force.extend(kept.cloned());
        } else {
            self.said.push(format!("checks {}", checks.join(", ")));
        }
        self.prober.set = CheckSet { checks: checks_in_force, ..set };
    }

    pub fn prober_up(&mut self, remembers: bool) {
        self.tell(Input::ProberUp);
        if remembers {
            let streaks: Vec<_> = self
                .prober
                .set
                .checks
                .iter()
                .filter_map(|(id, _, check)| self.streak(*id, check.target))
                .collect();
            self.tell(Input::Histories(streaks));
        } else {
            self.prober.verdicts.clear();
        }
        self.tell(Input::Committed(self.prober.set.generation));
    }

    pub fn streak(&self, check: CheckId, target: IpAddr) -> Option<VerdictHistory> {
        let (passes, known) = *self.prober.verdicts.get(&target)?;
        let code = if passes & 1 == 1 { OutcomeCode::L7Ok } else { OutcomeCode::L4Tout };
        let last = Outcome {
            check,
            seq: self.prober.seq,
            started: 0,
            duration: Duration::ZERO,
            code,
            detail: OutcomeDetail::None,
            timeout: None,
            not_after: None,
        };
        Some(VerdictHistory { last, bits: passes, len: known })
    }

    pub fn outcomes(&mut self, names: &[&str], code: OutcomeCode, detail: OutcomeDetail) {
        for name in names {
            let address = self.config.backends[*name].address;
            let check = self.prober.set.checks.iter().find(|(_, _, check)| check.target == address);
            let Some(&(check, ..)) = check else {
                self.said.push(format!("{name} is not probed"));
                continue;
            };
            self.prober.seq += 1;
            if let Some(passed) = code.passed() {
                let (passes, known) = self.prober.verdicts.entry(address).or_default();
                *passes = *passes << 1 | u64::from(passed);
                *known = (*known + 1).min(64);
            }
            let (seq, detail) = (self.prober.seq, detail.clone());
            self.tell(Input::Outcomes(vec![Outcome {
                check,
                seq,
                started: self.now.0,
                duration: Duration::ZERO,
                code,
                detail,
                timeout: None,
                not_after: None,
            }]));
        }
    }

    pub fn refuse(&mut self, name: &str, why: &str) {
        let address = self.config.backends[name].address;
        let check = self.prober.set.checks.iter().find(|(_, _, check)| check.target == address).unwrap().0;
        self.tell(Input::CheckRejected(check, why.to_owned()));
    }
}
