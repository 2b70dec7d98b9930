//! Address conflicts: VPP has the address of a VIP on one of its interfaces. It accepts the VIP, but gives it no traffic.

use alloc::collections::BTreeSet;

use super::{Ctx, State};
use crate::dataplane::VipKey;
use crate::event::Kind;

impl State {
    /// Replaces the set of conflicting VIPs, and reports the differences.
    pub(super) fn update_conflicts(&mut self, vips: BTreeSet<VipKey>, ctx: &mut Ctx) {
        if !self.vpp.is_connected() {
            return;
        }
        for vip in self.observed.conflicts().symmetric_difference(&vips) {
            ctx.event(Kind::AddressConflict { vip: *vip, conflicting: vips.contains(vip) });
        }
        self.observed.set_conflicts(vips);
    }
}
