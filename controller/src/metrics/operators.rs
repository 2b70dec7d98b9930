//! Metrics of operator actions and overrides.

use std::time::Duration;

use maglev_core::event::{Audit, AuditAction};
use maglev_core::overrides::{OverrideKind, OverrideMeta};
use maglev_core::time::WallTime;
use maglev_core::view::View;
use prometheus::{IntCounterVec, IntGauge, Registry};

use super::text::{FamilyType, TextEncoder};
use super::{RESULTS, descriptors};

/// Counters of operator actions.
#[derive(Debug)]
pub struct OperatorMetrics {
    actions: IntCounterVec,
    saves: IntCounterVec,
    unsaved: IntGauge,
    ownership_unsaved: IntGauge,
}

impl OperatorMetrics {
    /// Creates counters of zero.
    ///
    /// # Errors
    /// Two metrics have the same name.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let names = AuditAction::ALL.map(AuditAction::as_str);
        Ok(Self {
            actions: descriptors::OPERATOR_ACTIONS.counters_of(registry, names)?,
            saves: descriptors::SAVES.counters_of(registry, RESULTS)?,
            unsaved: descriptors::UNSAVED.int_gauge(registry)?,
            ownership_unsaved: descriptors::OWNERSHIP_UNSAVED.int_gauge(registry)?,
        })
    }

    pub fn audit(&self, audit: &Audit) {
        self.actions.with_label_values(&[audit.action.as_str()]).inc();
    }

    pub fn record_save(&self, ok: bool) {
        self.saves.with_label_values(&[RESULTS[usize::from(!ok)]]).inc();
        self.unsaved.set((!ok).into());
    }

    pub fn record_ownership_save(&self, ok: bool) {
        self.ownership_unsaved.set((!ok).into());
    }
}

/// Writes the families that follow from a view.
pub fn render(view: &View, text: &mut TextEncoder) {
    let mut counts = OverrideKind::NAMES.map(|kind| (kind, 0_u64));
    for listed in view.overrides.list() {
        for (_, count) in counts.iter_mut().filter(|(kind, _)| *kind == listed.kind.as_str()) {
            *count += 1;
        }
    }
    let mut family = text.family("maglev_overrides", FamilyType::Gauge, "Operator overrides in force.");
    for (kind, count) in counts {
        family.sample(&[("kind", kind)], count);
    }
    let times = |name, help, of: fn(&OverrideMeta) -> Option<WallTime>, text: &mut TextEncoder| {
        let mut family = text.family(name, FamilyType::Gauge, help);
        for listed in view.overrides.list() {
            let Some(at) = of(&listed.meta) else { continue };
            let (frontend, pool) = listed.slot.as_ref().map_or(("", ""), |(frontend, pool)| (frontend, pool));
            let labels = [
                ("kind", listed.kind.as_str()),
                ("backend", &*listed.backend),
                ("frontend", frontend),
                ("pool", pool),
            ];
            family.sample(&labels, Duration::from_nanos(at.0).as_secs_f64());
        }
    };
    times(
        "maglev_override_timestamp_seconds",
        "Creation time of an override, as a Unix timestamp.",
        |meta| Some(meta.at),
        text,
    );
    times(
        "maglev_override_expiry_timestamp_seconds",
        "Expiry time of an override, as a Unix timestamp.",
        |meta| meta.expires,
        text,
    );
}
