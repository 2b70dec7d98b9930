//! The prober's limit of checks, and its consequences for the expected state.

use std::collections::BTreeSet;
use std::time::Duration;

use maglev_core::event::Kind;
use maglev_core::health::TransitionCause;
use maglevd_prober::set::ReceivedSet;
use tokio::time::Instant;

use super::config_model::ConfigModel;
use super::rejected_checks::SentChecks;
use super::world::SimWorld;

impl SimWorld {
    /// Handles a set that takes effect: records newly rejected and newly accepted checks.
    pub fn on_set_applied(&mut self, sent_checks: &mut SentChecks, set: &ReceivedSet) {
        sent_checks.record_rejected(set);
        let (sent, rejected) = (sent_checks.sent.len(), sent_checks.rejected.len());
        let has_room = rejected > 0 && sent - rejected < self.host.max_checks as usize;
        self.rejected_checks.room_since =
            has_room.then(|| self.rejected_checks.room_since.unwrap_or_else(Instant::now));
        for (id, _) in &set.rejected {
            if let Some(server) = sent_checks.sent.get(id).and_then(|target| ConfigModel::server_at(*target))
            {
                *self.rejected_checks.unreported.entry(server).or_default() += 1;
            }
        }
        let now = sent_checks.rejected_servers();
        let before = std::mem::replace(&mut self.rejected_checks.servers, now);
        let now = self.rejected_checks.servers.clone();
        let all: BTreeSet<_> = before.keys().chain(now.keys()).copied().collect();
        for server in all.into_iter().filter(|server| before.get(server) != now.get(server)) {
            for backend in self.model.backends_on(server) {
                let lost = self.fleet.probes_to_drop(server);
                let check =
                    self.model.backends[backend].map(|check| self.model.checks[check].longest_interval());
                let after = check.map_or(Duration::ZERO, |longest_interval| longest_interval * (lost + 1));
                self.tolerate_backend(backend, after);
            }
        }
    }

    /// Handles an event of `maglevd`. Returns a violation if it reports an outcome of a rejected check.
    pub fn on_event(&mut self, kind: &Kind) -> Option<String> {
        match kind {
            Kind::CheckRejected { name, .. } => {
                let unreported = self
                    .rejected_checks
                    .unreported
                    .get_mut(&self.model.server(ConfigModel::number(name)?))?;
                *unreported = unreported.saturating_sub(1);
                None
            }
            Kind::Backend { name, transition, .. } => {
                let backend = ConfigModel::number(name)?;
                let server = self.model.server(backend);
                self.rejected_checks.reported.insert(backend, transition.to);
                if !self.rejected_checks.has(server) {
                    return None;
                }
                for frontend in self.model.frontends_of(backend) {
                    self.oracle.tolerate(frontend, self.model.apply_time());
                }
                let knows =
                    self.rejected_checks.unreported.get(&server).is_none_or(|unreported| *unreported == 0);
                let heard = matches!(transition.cause, TransitionCause::Outcome { .. });
                let silent = self.rejected_checks.servers.get(&server).is_some_and(|all| *all);
                let to = transition.to;
                let checked = self.model.backends[backend].is_some();
                (knows && heard && silent && checked)
                    .then(|| format!("b{backend} became {to} although its check is rejected"))
            }
            _ => None,
        }
    }
}
