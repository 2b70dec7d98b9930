//! The traffic of a VIP while its servers are replaced: a reload does not take its last weight.

use std::time::Duration;

use tokio::time::Instant;

use super::config_model::{ConfigEdit, ConfigModel, STARTUP};
use super::world::SimWorld;

/// Longest time until a stopped `maglevd` starts, and reads VPP.
const AWAY: Duration = Duration::from_secs(60);

impl SimWorld {
    /// Expects the VIPs with weight to keep some after a change of the file, until new servers may be known.
    pub fn expect_traffic(&mut self, edit: &ConfigEdit) {
        let ConfigEdit::Move(_) = edit else { return };
        let Some(weights) = self.vpp.as_ref().map(super::vpp_model::RunningVpp::weights) else { return };
        let time = if self.controller.is_some() { STARTUP } else { AWAY };
        for frontend in 0..self.model.frontends.len() {
            let has_weight = weights
                .get(&ConfigModel::vip(frontend))
                .is_some_and(|servers| servers.values().any(|weight| *weight > 0));
            if has_weight && !self.model.frontends[frontend].is_absent && self.oracle.is_calm(frontend) {
                self.kept_until[frontend] = Instant::now() + time;
            }
        }
    }

    /// Expects VIPs to keep weight for a while after a start of `maglevd`.
    pub fn expect_traffic_after_start(&mut self) {
        let until = Instant::now() + STARTUP;
        self.kept_until.iter_mut().for_each(|kept_until| *kept_until = until.min(*kept_until));
    }

    /// Expects nothing of a VIP's weight any more: another fault may take it.
    pub fn forget_traffic(&mut self) {
        self.kept_until.fill(Instant::now());
    }

    /// Returns a violation if a VIP has lost its last weight.
    pub fn find_lost_traffic(&self) -> Option<String> {
        let (now, weights) = (Instant::now(), self.vpp.as_ref()?.weights());
        let is_lost = |frontend: &usize| {
            now < self.kept_until[*frontend]
                && weights
                    .get(&ConfigModel::vip(*frontend))
                    .is_none_or(|servers| servers.values().all(|weight| *weight == 0))
        };
        let lost = (0..self.kept_until.len()).find(is_lost)?;
        Some(format!("f{lost} lost all its weight while its servers were replaced"))
    }
}
