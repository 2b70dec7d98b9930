//! The identity of one probe.

/// Names a probe by the slot of its check. What comes late for one that is over finds another epoch.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ProbeId {
    /// The slot.
    pub slot: u32,
    /// How many probes have started in this slot, whatever check was in it.
    pub epoch: u32,
}

impl From<u64> for ProbeId {
    fn from(word: u64) -> Self {
        Self { slot: word as u32, epoch: (word >> 32) as u32 }
    }
}

impl From<ProbeId> for u64 {
    fn from(key: ProbeId) -> Self {
        Self::from(key.epoch) << 32 | Self::from(key.slot)
    }
}
