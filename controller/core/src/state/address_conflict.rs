//! VIPs whose address VPP has on an interface of its own. VPP accepts them, and gives them no traffic.

use alloc::collections::BTreeSet;

use super::{Ctx, State};
use crate::dataplane::VipKey;
use crate::event::Kind;

impl State {
    /// Takes in which VIPs they are, and tells what has changed.
    pub(super) fn shadowed(&mut self, vips: BTreeSet<VipKey>, ctx: &mut Ctx) {
        if self.sync.info.is_none() {
            return;
        }
        for vip in self.sync.shadowed.symmetric_difference(&vips) {
            ctx.event(Kind::AddressConflict { vip: *vip, conflicting: vips.contains(vip) });
        }
        self.sync.shadowed = vips;
    }
}
