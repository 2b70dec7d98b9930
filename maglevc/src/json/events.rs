//! Events as JSON.

use maglev_proto::v1::watch_events_response::Event;
use maglev_proto::v1::{
    LocalFaultsEvent, LogEvent, MassFailureEvent, MassFailureResult, OperatorEvent, SyncEvent,
    WatchEventsResponse,
};
use serde_json::{Value, json};

use super::{given, seconds, time, transition, vip};
use crate::words;

/// Renders an event: its time, the replay flag, its kind, and an object named by the kind.
pub fn event(event: &WatchEventsResponse) -> Value {
    let (kind, body) = match &event.event {
        None => ("unknown", Value::Null),
        Some(Event::Backend(backend)) => {
            let moved = backend.transition.as_ref().map(transition);
            ("backend", json!({ "name": backend.name, "address": backend.address, "transition": moved }))
        }
        Some(Event::Frontend(frontend)) => {
            let (from, to) = (words::frontend_state(frontend.from()), words::frontend_state(frontend.to()));
            let pool = given(&frontend.active_pool);
            ("frontend", json!({ "name": frontend.name, "from": from, "to": to, "active_pool": pool }))
        }
        Some(Event::Prober(prober)) => ("prober", json!({ "connected": prober.connected })),
        Some(Event::MassFailure(failure)) => ("mass_failure", mass_failure_event(failure)),
        Some(Event::LocalFaults(faults)) => ("local_faults", local_faults_event(faults)),
        Some(Event::Vpp(vpp)) => ("vpp", json!({ "connected": vpp.connected })),
        Some(Event::Sync(sync)) => ("sync", sync_event(sync)),
        Some(Event::SyncFailure(failure)) => {
            let vip = failure.vip.as_ref().map(vip);
            ("sync_failure", json!({ "vip": vip, "step": given(&failure.step), "error": failure.error }))
        }
        Some(Event::CheckRejected(rejected)) => {
            ("check_rejected", json!({ "name": rejected.name, "reason": rejected.reason }))
        }
        Some(Event::Drift(drift)) => {
            ("drift", json!({ "vip": drift.vip.as_ref().map(vip), "reverted": drift.reverted }))
        }
        Some(Event::AddressConflict(conflict)) => {
            let vip = conflict.vip.as_ref().map(vip);
            ("address_conflict", json!({ "vip": vip, "conflicting": conflict.conflicting }))
        }
        Some(Event::LbConf(conf)) => ("lb_conf", json!({ "error": given(&conf.error) })),
        Some(Event::Operator(order)) => ("operator", operator_event(order)),
        Some(Event::Reload(_)) => ("reload", json!({})),
        Some(Event::Log(log)) => ("log", log_event(log)),
        Some(Event::Dropped(dropped)) => ("dropped", json!({ "count": dropped.count })),
    };
    json!({ "at": time(event.at.as_ref()), "replay": event.replay, "kind": kind, kind: body })
}

fn mass_failure_event(failure: &MassFailureEvent) -> Value {
    let mut body = json!({ "result": words::mass_failure_result(failure.result()) });
    if failure.result() == MassFailureResult::Suspected {
        body["failing"] = failure.failing.into();
        body["total"] = failure.total.into();
        body["hold_seconds"] = json!(seconds(failure.hold.as_ref()));
    }
    body
}

fn local_faults_event(faults: &LocalFaultsEvent) -> Value {
    json!({
        "active": faults.active,
        "name": given(&faults.name),
        "fault": given(&faults.fault),
        "hidden": faults.hidden,
    })
}

fn sync_event(sync: &SyncEvent) -> Value {
    json!({
        "vip": sync.vip.as_ref().map(vip),
        "vip_added": sync.vip_added,
        "vip_removed": sync.vip_removed,
        "as_added": sync.as_added,
        "as_removed": sync.as_removed,
        "as_weight_updated": sync.as_weight_updated,
    })
}

fn operator_event(order: &OperatorEvent) -> Value {
    json!({
        "actor": order.actor,
        "action": words::audit_action(order.action()),
        "subject": given(&order.subject),
        "from": given(&order.from),
        "to": given(&order.to),
        "reason": given(&order.reason),
        "expires": time(order.expires.as_ref()),
    })
}

fn log_event(log: &LogEvent) -> Value {
    let fields: serde_json::Map<String, Value> =
        log.fields.iter().map(|field| (field.name.clone(), json!(field.value))).collect();
    json!({
        "level": words::log_level(log.level()),
        "target": log.target,
        "message": log.message,
        "fields": fields,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn event_is_named_by_kind() {
        let dropped = maglev_proto::v1::DroppedEvent { count: 7 };
        let told = WatchEventsResponse {
            at: Some(fixture::at(0)),
            replay: false,
            event: Some(Event::Dropped(dropped)),
        };
        assert_eq!(
            event(&told).to_string(),
            r#"{"at":"2026-11-22T12:00:00Z","replay":false,"kind":"dropped","dropped":{"count":7}}"#
        );
    }

    #[test]
    fn drift_shows_reverted() {
        for reverted in [Some(true), Some(false), None] {
            let drift = maglev_proto::v1::DriftEvent { vip: Some(fixture::vip()), reverted };
            let told = WatchEventsResponse { at: None, replay: false, event: Some(Event::Drift(drift)) };
            assert_eq!(event(&told)["drift"]["reverted"], json!(reverted));
        }
    }
}
