//! Model of a prober with scripted outcomes and verdict histories.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use maglev_core::state::{CheckSet, Input};
use maglev_ipc::{CheckId, Outcome, OutcomeCode, OutcomeDetail, VerdictHistory};

use super::world::ScenarioWorld;

/// Detail of a probe to a target without a route.
pub const NO_ROUTE: &str = "no route from this host";

/// Model of a prober.
#[derive(Default)]
pub struct ScriptedProber {
    pub set: CheckSet,
    pub seq: u64,
    /// Time for which probes with answers are in flight.
    pub latency: Duration,
    pub verdicts: BTreeMap<IpAddr, (u64, u8)>,
}

impl ScenarioWorld {
    pub fn target(&self, check: CheckId) -> IpAddr {
        self.prober.set.checks.iter().find(|(id, ..)| *id == check).unwrap().2.target
    }

    pub fn install(&mut self, set: CheckSet) {
        let checks: Vec<_> = set
            .checks
            .iter()
            .map(|(id, interval, check)| format!("#{id} {} {:?}", check.target, interval.interval))
            .collect();
        let mut checks_in_force = set.checks.clone();
        if let Some(dropped) = &set.dropped {
            let gone: Vec<_> = dropped.iter().map(|id| format!("-#{id} {}", self.target(*id))).collect();
            let checks = checks.iter().map(|check| format!("+{check}"));
            self.lines
                .push(format!("checks {}", gone.into_iter().chain(checks).collect::<Vec<_>>().join(", ")));
            let kept = self.prober.set.checks.iter().filter(|(id, ..)| !dropped.contains(id));
            checks_in_force.extend(kept.cloned());
        } else {
            self.lines.push(format!("checks {}", checks.join(", ")));
        }
        self.prober.set = CheckSet { checks: checks_in_force, ..set };
    }

    pub fn prober_up(&mut self, keeps_history: bool) {
        self.feed(Input::ProberUp);
        if keeps_history {
            let histories: Vec<_> = self
                .prober
                .set
                .checks
                .iter()
                .filter_map(|(id, _, check)| self.history(*id, check.target))
                .collect();
            self.feed(Input::Histories(histories));
        } else {
            self.prober.verdicts.clear();
        }
        self.feed(Input::Committed(self.prober.set.generation));
    }

    pub fn history(&self, check: CheckId, target: IpAddr) -> Option<VerdictHistory> {
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
            has_no_route: false,
        };
        Some(VerdictHistory { last, bits: passes, len: known })
    }

    pub fn outcomes(&mut self, names: &[&str], code: OutcomeCode, detail: OutcomeDetail) {
        for name in names {
            let address = self.config.backends[*name].address;
            let check = self.prober.set.checks.iter().find(|(_, _, check)| check.target == address);
            let Some(&(check, ..)) = check else {
                self.lines.push(format!("{name} is not probed"));
                continue;
            };
            self.prober.seq += 1;
            if let Some(passed) = code.passed() {
                let (passes, known) = self.prober.verdicts.entry(address).or_default();
                *passes = *passes << 1 | u64::from(passed);
                *known = (*known + 1).min(64);
            }
            let (seq, detail, has_no_route) = (self.prober.seq, detail.clone(), detail == NO_ROUTE.into());
            let latency = if code.has_answer() { self.prober.latency } else { Duration::ZERO };
            let started = self.now.0.saturating_sub(latency.as_nanos() as u64);
            self.feed(Input::Outcomes(vec![Outcome {
                check,
                seq,
                started,
                duration: Duration::ZERO,
                code,
                detail,
                timeout: None,
                not_after: None,
                has_no_route,
            }]));
        }
    }

    pub fn reject(&mut self, name: &str, why: &str) {
        let address = self.config.backends[name].address;
        let check = self.prober.set.checks.iter().find(|(_, _, check)| check.target == address).unwrap().0;
        self.feed(Input::CheckRejected(check, why.to_owned()));
    }
}
