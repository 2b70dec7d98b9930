//! Stale backends in a frontend: their health is out of date, and their weights follow it all the same.

use alloc::format;
use alloc::string::String;

use super::State;
use super::explain::list;
use super::frontends::{FrontendEntry, FrontendSlot};

impl State {
    /// Reports whether a backend's health is out of date although the prober is connected.
    pub(super) fn is_stale_slot(&self, slot: &FrontendSlot) -> bool {
        let backend = &self.backends[slot.backend];
        self.prober.connected && backend.is_probed() && backend.tracker.is_stale()
    }

    /// Returns the warning about a frontend's stale backends.
    pub(super) fn stale_warning(&self, frontend: &FrontendEntry) -> Option<String> {
        let names = self.names_of(frontend, |slot| self.is_stale_slot(slot));
        (!names.is_empty()).then(|| format!("no verdict arrives about {names}: the health shown is stale"))
    }

    /// Returns the warning about a frontend's hidden backends.
    pub(super) fn hidden_warning(&self, frontend: &FrontendEntry) -> Option<String> {
        let names = self.names_of(frontend, |slot| self.backends[slot.backend].tracker.is_hidden());
        (!names.is_empty()).then(|| {
            format!(
                "local faults hide {names} alone, while other backends answer: a failure would go unnoticed"
            )
        })
    }

    fn names_of(&self, frontend: &FrontendEntry, is_meant: impl Fn(&FrontendSlot) -> bool) -> String {
        let slots = frontend.slots.iter().filter(|slot| is_meant(slot));
        list(slots.map(|slot| &self.backends[slot.backend].name))
    }
}
