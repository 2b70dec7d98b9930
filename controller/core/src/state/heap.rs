//! VPP's heap. VPP ends when its heap is full, so what its tables would not leave room for is never sent.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use super::frontends::FrontendEntry;
use super::{Ctx, State};
use crate::dataplane::{ActualState, VipKey, VppMemory};
use crate::event::Kind;

/// Bytes of an entry of a new-flow table.
const ENTRY: u64 = 4;

/// Bytes of a bucket of a table of known flows.
const BUCKET: u64 = 64;

/// Bytes for each unit of weight while VPP computes a new-flow table.
const WEIGHT: u64 = 24;

/// VPP's memory at its connection, and the tables that it had then.
#[derive(Clone, Debug, Default)]
pub(super) struct HeapGuard {
    memory: Option<VppMemory>,
    tables: BTreeMap<VipKey, u64>,
    buckets: Option<u32>,
    excess: Option<String>,
}

impl HeapGuard {
    /// Records a connection. Until its VPP is measured, its heap has the size of the last one.
    pub fn connected(&mut self) {
        let memory = self.memory.map(|last| VppMemory { free: last.total, ..last });
        *self = Self { memory, ..Self::default() };
    }

    /// Records the memory of the connected VPP.
    pub const fn measured(&mut self, memory: VppMemory) {
        self.memory = Some(memory);
    }

    /// Records the tables that VPP had when its memory was measured.
    pub fn found(&mut self, actual: &ActualState) {
        let bytes = |length: Option<u32>| ENTRY * u64::from(length.unwrap_or_default());
        self.tables = actual.vips.iter().map(|(vip, found)| (*vip, bytes(found.table_length))).collect();
        self.buckets = actual.conf.map(|conf| conf.sticky_buckets_per_core);
    }

    /// Returns the reason for which the configuration does not fit.
    pub fn excess(&self) -> Option<&str> {
        self.excess.as_deref()
    }
}

impl State {
    /// Holds what the configuration asks of VPP's heap against what VPP has.
    pub(super) fn weigh_heap(&mut self, ctx: &mut Ctx) {
        let excess = self.heap_excess();
        if excess.is_some() && excess != self.heap.excess {
            ctx.event(Kind::LbConf { error: excess.clone() });
        }
        self.heap.excess = excess;
    }

    fn heap_excess(&self) -> Option<String> {
        let VppMemory { total, free, workers } =
            self.heap.memory.filter(|_| !self.config.frontends.is_empty())?;
        let buckets = self.config.lb.conf.sticky_buckets_per_core;
        let flows = u64::from(workers.max(1)) * (u64::from(buckets) + 1) * BUCKET;
        // VPP keeps a table until the next one is complete.
        let scratch = self.frontends.iter().map(scratch).max().unwrap_or_default();
        let (mut tables, mut added) = (0, 0);
        for frontend in self.frontends.iter() {
            let wanted = ENTRY * u64::from(frontend.config.created_table_length());
            let found = self.heap.tables.get(&frontend.vip);
            tables += found.copied().unwrap_or(wanted);
            added += if found.is_some() { 0 } else { wanted };
        }
        // VPP may not have made the tables of known flows yet, but it has counted them since their size was set.
        let new_flows = if self.heap.buckets == Some(buckets) { 0 } else { flows };
        let (all, more) = (tables + flows + scratch, added + new_flows + scratch);
        let parts = format!("new-flow tables {}, tables of known flows {}", mib(tables), mib(flows));
        if all > total {
            Some(format!("VPP's heap has {} and the tables need {} ({parts})", mib(total), mib(all)))
        } else if more > free {
            Some(format!(
                "VPP's heap has {} free and the tables need {} more ({parts})",
                mib(free),
                mib(more)
            ))
        } else {
            None
        }
    }
}

/// Returns the bytes that VPP needs while it computes the table of a frontend.
fn scratch(frontend: &FrontendEntry) -> u64 {
    let weights: u64 = frontend.slots.iter().map(|slot| u64::from(slot.scale.units(slot.weight))).sum();
    ENTRY * u64::from(frontend.config.created_table_length()) + WEIGHT * weights
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
