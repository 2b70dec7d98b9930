//! The VIPs that `maglevd` owns in VPP. They are saved, so that a VIP that leaves the configuration while `maglevd` is not
//! running is still known as its own afterwards.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;

use crate::dataplane::VipKey;
use crate::time::WallTime;

/// Largest number of saved VIPs.
pub const MAX: usize = 100_000;

/// One run of the VPP process. Another run has none of our VIPs, and its VIPs of the same keys are another program's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VppRun {
    /// Process id.
    pub pid: u32,
    /// Start time.
    pub boot: WallTime,
}

/// The VIPs of one `maglevd`, in one run of VPP. A clone shares everything.
#[derive(Clone, Debug, Default)]
pub struct OwnedVips {
    /// The run of VPP; `None` if it cannot be told from another one.
    pub vpp: Option<VppRun>,
    /// VIPs of the configuration.
    pub(crate) configured: Arc<BTreeMap<VipKey, usize>>,
    /// VIPs that left the configuration, and are not yet removed from VPP.
    pub(crate) retired: Arc<BTreeSet<VipKey>>,
    /// VIPs of the last run of `maglevd`, until VPP is connected.
    pub(crate) restored: Arc<BTreeSet<VipKey>>,
}

impl OwnedVips {
    /// Creates the VIPs of the last run of `maglevd`.
    #[must_use]
    pub fn restored(vpp: Option<VppRun>, vips: BTreeSet<VipKey>) -> Self {
        Self { vpp, restored: Arc::new(vips), ..Self::default() }
    }

    /// Returns all VIPs, at most [`MAX`].
    #[must_use]
    pub fn vips(&self) -> BTreeSet<VipKey> {
        let configured = self.configured.keys();
        configured.chain(&*self.retired).chain(&*self.restored).copied().take(MAX).collect()
    }

    /// Reports whether nothing has changed between two values of one `maglevd`, without looking at each VIP.
    #[must_use]
    pub fn is_unchanged(&self, before: &Self) -> bool {
        self.vpp == before.vpp
            && Arc::ptr_eq(&self.configured, &before.configured)
            && Arc::ptr_eq(&self.retired, &before.retired)
            && Arc::ptr_eq(&self.restored, &before.restored)
    }
}
