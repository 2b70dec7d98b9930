//! What operators have to do with it.

use alloc::format;
use alloc::string::String;

use super::super::backends::Backend;
use super::super::frontends::Slot;
use super::standing::Standing;
use super::{Explanation, Topic};
use crate::health::Health;

impl Explanation<'_> {
    /// What an operator, or else the configuration, wants of a backend as a whole.
    pub fn operator(&mut self, backend: &Backend) {
        let name = &backend.name;
        let enabled = self.state.config.backends.get(name).is_some_and(|b| b.enabled);
        let wish = self.state.overrides.enabled.get(name);
        match (backend.tracker.health(), wish) {
            (Health::Disabled, Some(false)) => self.say(
                Topic::Operator,
                format!("an operator has disabled it: no probes, no weight; `set backend {name} enable` ends that"),
            ),
            (Health::Disabled, _) if !enabled => self.say(
                Topic::State,
                format!("the configuration has `enabled: false`: no probes, no weight; `set backend {name} enable` overrides it"),
            ),
            (_, Some(true)) if !enabled => {
                self.say(Topic::Operator, "an operator has enabled it, although the configuration has `enabled: false`");
            }
            _ => {}
        }
        if backend.tracker.health() == Health::Paused {
            self.say(
                Topic::Operator,
                format!(
                    "an operator has paused it: no probes, no weight; `set backend {name} resume` ends that"
                ),
            );
        }
    }
}

impl Standing<'_> {
    /// Where a weight comes from that is not the configured one.
    pub fn overridden(&self, slot: &Slot, configured: u8) -> String {
        format!("an operator has set it to {}; configured: {configured}", slot.weight)
    }
}
