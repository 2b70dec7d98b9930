//! What operators have to do with it: who, when, why, and for how long.

use alloc::format;
use alloc::string::String;

use super::super::backends::Backend;
use super::super::frontends::Slot;
use super::standing::Standing;
use super::words::{Age, age};
use super::{Explanation, Topic};
use crate::overrides::{Note, Says};
use crate::time::{Now, Wall};

impl Explanation<'_> {
    /// What an operator, or else the configuration, wants of a backend as a whole.
    pub fn operator(&mut self, backend: &Backend) {
        let state = self.state;
        let name = &backend.name;
        let enabled = state.config.backends.get(name).is_some_and(|b| b.enabled);
        let wish = state.overrides.enabled.get(name).map(|(enabled, _)| *enabled);
        if !enabled && wish.is_none() {
            self.say(
                Topic::State,
                format!("the configuration has `enabled: false`: no probes, no weight; `set backend {name} enable` overrides it"),
            );
        }
        for found in state.overrides.of_backend(name) {
            let by = noted(&found.note, self.now);
            let text = match found.says {
                Says::Disabled => {
                    format!("disabled {by}: no probes, no weight; `set backend {name} enable` ends that")
                }
                Says::Paused if enabled || wish == Some(true) => {
                    format!("paused {by}: no probes, no weight; `set backend {name} resume` ends that")
                }
                Says::Paused => format!("paused {by}, which will hold when the configuration enables it"),
                Says::Enabled if enabled => format!("enabled {by}, as the configuration has it too by now"),
                Says::Enabled => {
                    format!(
                        "enabled {by}, although the configuration has `enabled: false`; `set backend {name} disable` ends that"
                    )
                }
                Says::Weight(_) => continue,
            };
            self.say(Topic::Operator, text);
        }
    }
}

impl Standing<'_> {
    /// Where a weight comes from that is not the configured one.
    pub fn overridden(&self, slot: &Slot, configured: u8) -> String {
        let frontend = &self.frontend;
        let (pool, backend) =
            (&frontend.config.pools[slot.pool].name, &self.state.backends[slot.backend].name);
        let path = (frontend.name.clone(), pool.clone(), backend.clone());
        let by = self.state.overrides.weights.get(&path).map(|(_, note)| noted(note, self.now));
        format!("set to {} {}; configured: {configured}", slot.weight, by.unwrap_or_default())
    }
}

/// Who asked for it, when, why, and for how much longer.
fn noted(note: &Note, now: Now) -> String {
    let Note { who, at, reason, expires } = note;
    let why = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
    let left = |expires: &Wall| format!(", for another {}", Age(*expires - now.wall));
    let left = expires.as_ref().map(left).unwrap_or_default();
    format!("by {who} {} ago{why}{left}", age(*at, now))
}
