//! Explanation of overrides: requester, age, reason and expiry.

use alloc::format;
use alloc::string::String;

use super::super::backends::BackendEntry;
use super::super::frontends::FrontendSlot;
use super::context::FrontendContext;
use super::format::{Age, age};
use super::{Explanation, Topic};
use crate::overrides::{OverrideKind, OverrideMeta};
use crate::time::{Now, WallTime};

impl Explanation<'_> {
    /// Adds the overrides of a backend, or `enabled: false` of the configuration.
    pub fn operator(&mut self, backend: &BackendEntry) {
        let state = self.state;
        let name = &backend.name;
        let enabled = state.config.backends.get(name).is_some_and(|b| b.enabled);
        let override_enabled = state.overrides.enabled.get(name).map(|(enabled, _)| *enabled);
        if !enabled && override_enabled.is_none() {
            self.add(
                Topic::State,
                format!("the configuration has `enabled: false`: no probes, no weight; `set backend {name} enable` overrides it"),
            );
        }
        for found in state.overrides.of_backend(name) {
            let by = describe_meta(&found.meta, self.now);
            let text = match found.kind {
                OverrideKind::Disabled => {
                    format!("disabled {by}: no probes, no weight; `set backend {name} enable` ends that")
                }
                OverrideKind::Paused if enabled || override_enabled == Some(true) => {
                    format!("paused {by}: no probes, no weight; `set backend {name} resume` ends that")
                }
                OverrideKind::Paused => {
                    format!("paused {by}, which will hold when the configuration enables it")
                }
                OverrideKind::Enabled if enabled => {
                    format!("enabled {by}, as the configuration has it too by now")
                }
                OverrideKind::Enabled => {
                    format!(
                        "enabled {by}, although the configuration has `enabled: false`; `set backend {name} disable` ends that"
                    )
                }
                OverrideKind::Weight(_) => continue,
            };
            self.add(Topic::Operator, text);
        }
    }
}

impl FrontendContext<'_> {
    /// Returns the source of an overridden weight.
    pub fn overridden(&self, slot: &FrontendSlot, configured: u8) -> String {
        let frontend = &self.frontend;
        let (pool, backend) =
            (&frontend.config.pools[slot.pool].name, &self.state.backends[slot.backend].name);
        let path = (frontend.name.clone(), pool.clone(), backend.clone());
        let by = self.state.overrides.weights.get(&path).map(|(_, meta)| describe_meta(meta, self.now));
        format!("set to {} {}; configured: {configured}", slot.weight, by.unwrap_or_default())
    }
}

/// Returns requester, age, reason and remaining lifetime.
fn describe_meta(meta: &OverrideMeta, now: Now) -> String {
    let OverrideMeta { who, at, reason, expires } = meta;
    let reason = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
    let left = |expires: &WallTime| format!(", for another {}", Age(*expires - now.wall));
    let left = expires.as_ref().map(left).unwrap_or_default();
    format!("by {who} {} ago{reason}{left}", age(*at, now))
}
