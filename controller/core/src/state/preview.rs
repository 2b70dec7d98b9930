//! Preview of the steps for VPP, computed on a clone of the state without any request to VPP.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::{Input, Output, PlanNote, State};
use crate::Name;
use crate::config::Config;
use crate::dataplane::{ActualState, ActualVip, LbConf, Step, VipKey, VipPlan};
use crate::maglev::table::{self, WeightedServer};
use crate::time::Now;

/// Preview of the steps for VPP.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlanPreview {
    /// New global settings. A change of `sticky_buckets_per_core` drops all flows.
    pub conf: Option<LbConf>,
    /// Changed VIPs, in the order of their first steps.
    pub vips: Vec<VipPreview>,
    /// What the steps do not show.
    pub notes: Vec<PlanNote>,
}

/// Preview of the steps for one VIP.
#[derive(Clone, Debug, PartialEq)]
pub struct VipPreview {
    /// The VIP.
    pub vip: VipKey,
    /// Its frontend; `None` for a VIP that is removed.
    pub frontend: Option<Name>,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// Share of new flows, 0 to 1, that moves to another server; `None` for a VIP that is created or removed.
    pub new_flows_moved: Option<f64>,
    /// True if the VIP is removed and created again, which breaks all its flows.
    pub recreates_vip: bool,
}

impl State {
    /// Returns the steps for a VPP with the state `actual`, under the present configuration or under `config`. A step that
    /// waits for another follows it, as in reality.
    #[must_use]
    pub fn preview(&self, actual: ActualState, config: Option<Arc<Config>>, now: Now) -> PlanPreview {
        let mut trial = self.clone();
        let mut out = Vec::new();
        trial.discard_jobs();
        let mut notes = Vec::new();
        if let Some(config) = config {
            trial.handle(Input::Reload(config), now, &mut out);
            notes = self.notes_on(&trial);
        }
        trial.handle(Input::AllRead(actual.clone()), now, &mut out);
        let mut preview = PlanPreview { notes, ..trial.apply_all(out, now) };
        preview.notes.extend(trial.foreign_note());
        for planned in &mut preview.vips {
            let after = trial.observed.vip(&planned.vip);
            planned.new_flows_moved = actual
                .vips
                .get(&planned.vip)
                .zip(after)
                .and_then(|(before, after)| moved_share(before, after));
        }
        preview
    }

    /// Applies all requests at once and with success, until there are no more.
    fn apply_all(&mut self, mut out: Vec<Output>, now: Now) -> PlanPreview {
        let (mut preview, mut places) = (PlanPreview::default(), BTreeMap::new());
        while !out.is_empty() {
            for output in core::mem::take(&mut out) {
                match output {
                    Output::SetConf(conf) => {
                        preview.conf = Some(conf);
                        self.handle(Input::ConfSet(None), now, &mut out);
                    }
                    Output::Apply(VipPlan { vip, steps }) => {
                        let done = steps.len();
                        self.preview_of(vip, &mut preview, &mut places).steps.extend(steps);
                        self.handle(Input::StepsApplied { vip, done, error: None }, now, &mut out);
                    }
                    _ => {}
                }
            }
        }
        for planned in &mut preview.vips {
            planned.recreates_vip = planned.frontend.is_some() && planned.steps.contains(&Step::RemoveVip);
        }
        preview
    }

    /// Returns the entry of a VIP, which is appended if it is missing.
    fn preview_of<'a>(
        &self,
        vip: VipKey,
        preview: &'a mut PlanPreview,
        places: &mut BTreeMap<VipKey, usize>,
    ) -> &'a mut VipPreview {
        let index = *places.entry(vip).or_insert_with(|| {
            let frontend =
                self.frontend_by_vip.get(&vip).map(|index| Arc::clone(&self.frontends[*index].name));
            let (steps, new_flows_moved) = (Vec::new(), None);
            preview.vips.push(VipPreview { vip, frontend, steps, new_flows_moved, recreates_vip: false });
            preview.vips.len() - 1
        });
        &mut preview.vips[index]
    }
}

/// Returns the share of new flows that moves to another server. The low bits of a flow's hash select its entry, so the
/// shorter of two tables repeats within the longer.
fn moved_share(before: &ActualVip, after: &ActualVip) -> Option<f64> {
    let (before, after) = (owners(before)?, owners(after)?);
    let length = before.len().max(after.len());
    let differ = |entry: &usize| before[entry % before.len()] != after[entry % after.len()];
    let moved = (0..length).filter(differ).count();
    // A table has at most 2^20 entries, which an f64 represents exactly.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    Some(moved as f64 / length as f64)
}

/// Returns the server of each entry of the new-flow table.
fn owners(vip: &ActualVip) -> Option<Vec<Option<IpAddr>>> {
    let length = vip.table_length.filter(|length| length.is_power_of_two())?;
    let addresses: Vec<_> = vip.servers.keys().copied().collect();
    let servers: Vec<WeightedServer> =
        vip.servers.iter().map(|(server, s)| (table::address_bytes(*server), s.weight)).collect();
    Some(
        table::new_flow_table(&servers, length)
            .into_iter()
            .map(|owner| owner.map(|index| addresses[index]))
            .collect(),
    )
}
