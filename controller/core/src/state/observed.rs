//! The state of VPP as read last, updated by each step that VPP has applied since.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;

use crate::dataplane::{ActualState, ActualVip, VipKey};
use crate::surroundings::Surroundings;

/// Reads of VPP so far, by which an earlier reading is told from a void one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct VppReads {
    /// Number of full reads, one for each connection.
    pub full: u64,
    /// Number of reads that found a change by another client.
    pub drifts: u64,
}

/// The state of VPP as read last. It survives a lost connection, but is then no longer fresh.
#[derive(Clone, Debug, Default)]
pub(super) struct ObservedState {
    actual: Option<Arc<ActualState>>,
    is_fresh: bool,
    reads: VppReads,
    /// VIPs whose address VPP has on an interface, on this connection.
    conflicts: BTreeSet<VipKey>,
    /// Surroundings of VIPs, on this connection. Shared, as each snapshot clones the state.
    surroundings: Arc<BTreeMap<VipKey, Surroundings>>,
}

impl ObservedState {
    /// Reports whether VPP was read on this connection.
    pub const fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// Returns the state as read last, on any connection.
    pub fn latest(&self) -> Option<&ActualState> {
        self.actual.as_deref()
    }

    /// Returns the state if it was read on this connection.
    pub fn fresh(&self) -> Option<&ActualState> {
        self.latest().filter(|_| self.is_fresh)
    }

    /// Returns a shared reference to the state if it was read on this connection.
    pub fn fresh_shared(&self) -> Option<Arc<ActualState>> {
        self.actual.clone().filter(|_| self.is_fresh)
    }

    /// Returns a VIP of VPP if it was read on this connection.
    pub fn vip(&self, vip: &VipKey) -> Option<&ActualVip> {
        self.fresh()?.vips.get(vip)
    }

    /// Returns the state as read last, to be updated.
    pub fn latest_mut(&mut self) -> Option<&mut ActualState> {
        self.actual.as_mut().map(Arc::make_mut)
    }

    /// Returns a VIP as read last, to be updated.
    pub fn vip_mut(&mut self, vip: &VipKey) -> Option<&mut ActualVip> {
        self.latest_mut()?.vips.get_mut(vip)
    }

    /// Stores a full read of VPP.
    pub fn set(&mut self, actual: ActualState) {
        self.actual = Some(Arc::new(actual));
        self.is_fresh = true;
        self.reads.full += 1;
    }

    /// Returns the number of reads so far.
    pub const fn reads(&self) -> VppReads {
        self.reads
    }

    /// Records that a read differed from this state.
    pub const fn record_drift(&mut self) {
        self.reads.drifts += 1;
    }

    /// Requires a full read before the state is used again.
    pub const fn mark_unread(&mut self) {
        self.is_fresh = false;
    }

    /// Returns the VIPs with an address conflict.
    pub const fn conflicts(&self) -> &BTreeSet<VipKey> {
        &self.conflicts
    }

    /// Replaces the VIPs with an address conflict.
    pub fn set_conflicts(&mut self, conflicts: BTreeSet<VipKey>) {
        self.conflicts = conflicts;
    }

    /// Returns the surroundings of a VIP, if they are known.
    pub fn surroundings(&self, vip: &VipKey) -> Option<&Surroundings> {
        self.surroundings.get(vip)
    }

    /// Replaces the surroundings of all VIPs.
    pub fn set_surroundings(&mut self, surroundings: BTreeMap<VipKey, Surroundings>) {
        self.surroundings = Arc::new(surroundings);
    }
}
