//! The identity of one probe.

/// Identifies a probe by the slot of its check and a counter. A late reply to a finished probe carries an old epoch, so it
/// matches nothing.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ProbeId {
    /// Slot of the check.
    pub slot: u32,
    /// Number of probes started in this slot, counted across the checks that used it.
    pub epoch: u32,
}

impl From<u64> for ProbeId {
    fn from(word: u64) -> Self {
        Self { slot: word as u32, epoch: (word >> 32) as u32 }
    }
}

impl From<ProbeId> for u64 {
    fn from(id: ProbeId) -> Self {
        Self::from(id.epoch) << 32 | Self::from(id.slot)
    }
}
