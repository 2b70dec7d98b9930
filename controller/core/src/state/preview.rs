//! What would be done to VPP, worked out on a copy: nothing is written.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::{Input, Output, State};
use crate::Name;
use crate::config::Config;
use crate::dataplane::{ActualState, ActualVip, LbConf, Step, VipKey, VipPlan};
use crate::maglev::table::{self, Server};
use crate::time::Now;

/// What would be done to VPP.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlanPreview {
    /// The global settings that would be sent. A change of `sticky_buckets_per_core` drops all flows.
    pub conf: Option<LbConf>,
    /// The VIPs that would be changed, in the order in which their first steps would be made.
    pub vips: Vec<VipPreview>,
}

/// What would be done to one VIP.
#[derive(Clone, Debug, PartialEq)]
pub struct VipPreview {
    /// The VIP.
    pub vip: VipKey,
    /// Its frontend; `None` is a VIP that is to go.
    pub frontend: Option<Name>,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// Which part of new flows, 0 to 1, would go to another server than now; `None` for a VIP that comes or goes.
    pub moved: Option<f64>,
    /// Whether the VIP is taken away and made anew, which breaks all its flows.
    pub resets: bool,
}

impl State {
    /// What would be done to a VPP that has `actual`: now, or after a reload to `config`. Steps that have to wait for
    /// others come after them, as they would.
    #[must_use]
    pub fn preview(&self, actual: ActualState, config: Option<Arc<Config>>, now: Now) -> PlanPreview {
        let mut trial = self.clone();
        let mut out = Vec::new();
        trial.sync.forget_jobs();
        if let Some(config) = config {
            trial.handle(Input::Reload(config), now, &mut out);
        }
        trial.handle(Input::AllRead(actual.clone()), now, &mut out);
        let mut preview = trial.carry_out(out, now);
        for planned in &mut preview.vips {
            let after = trial.sync.now().and_then(|actual| actual.vips.get(&planned.vip));
            planned.moved =
                actual.vips.get(&planned.vip).zip(after).and_then(|(before, after)| moved(before, after));
        }
        preview
    }

    /// Lets everything that is asked of VPP succeed at once, until nothing more is asked.
    fn carry_out(&mut self, mut out: Vec<Output>, now: Now) -> PlanPreview {
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
                        self.plan_of(vip, &mut preview, &mut places).steps.extend(steps);
                        self.handle(Input::StepsApplied { vip, done, error: None }, now, &mut out);
                    }
                    _ => {}
                }
            }
        }
        for planned in &mut preview.vips {
            planned.resets = planned.frontend.is_some() && planned.steps.contains(&Step::RemoveVip);
        }
        preview
    }

    fn plan_of<'a>(
        &self,
        vip: VipKey,
        preview: &'a mut PlanPreview,
        places: &mut BTreeMap<VipKey, usize>,
    ) -> &'a mut VipPreview {
        let index = *places.entry(vip).or_insert_with(|| {
            let frontend = self.vips.get(&vip).map(|index| Arc::clone(&self.frontends[*index].name));
            preview.vips.push(VipPreview { vip, frontend, steps: Vec::new(), moved: None, resets: false });
            preview.vips.len() - 1
        });
        &mut preview.vips[index]
    }
}

/// Which part of new flows goes to another server after than before. A flow's hash picks its entry by its low bits, so
/// the shorter of two tables stands as often in the longer as it fits.
fn moved(before: &ActualVip, after: &ActualVip) -> Option<f64> {
    let (before, after) = (owners(before)?, owners(after)?);
    let length = before.len().max(after.len());
    let differ = |entry: &usize| before[entry % before.len()] != after[entry % after.len()];
    let moved = (0..length).filter(differ).count();
    // Tables have at most 2^20 entries, which an f64 holds exactly.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    Some(moved as f64 / length as f64)
}

/// The server of each entry of the new-flow table.
fn owners(vip: &ActualVip) -> Option<Vec<Option<IpAddr>>> {
    let length = vip.table_length.filter(|length| length.is_power_of_two())?;
    let addresses: Vec<_> = vip.servers.keys().copied().collect();
    let servers: Vec<Server> =
        vip.servers.iter().map(|(server, s)| (table::raw(*server), s.weight)).collect();
    Some(
        table::table(&servers, length).into_iter().map(|owner| owner.map(|index| addresses[index])).collect(),
    )
}
