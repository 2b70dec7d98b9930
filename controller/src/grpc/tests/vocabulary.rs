//! Consistency of event names.

use std::collections::BTreeSet;

use maglev_core::dataplane::{Step, VipKey};
use maglev_core::event::{Audit, AuditAction, Event, Kind, LocalFaultsChange, MassFailureResult};
use maglev_core::failover::FrontendState;
use maglev_core::plan::StepCounts;
use maglev_proto::DESCRIPTORS;
use maglev_proto::v1::watch_events_response::Event as ApiEvent;
use prost::Message;
use prost_types::FileDescriptorSet;

use crate::fixture;
use crate::grpc::convert;

fn kinds() -> Vec<Kind> {
    let vip = VipKey::host("192.0.2.80".parse().unwrap(), 6, 80);
    let (from, to) = (FrontendState::Up, FrontendState::Down);
    vec![
        fixture::nginx0_down().kind,
        Kind::Frontend { name: "web".into(), from, to, active_pool: None },
        Kind::Prober { connected: true },
        Kind::MassFailure(MassFailureResult::Dismissed),
        Kind::LocalFaults(LocalFaultsChange::Cleared),
        Kind::CheckRejected { name: "nginx0".into(), reason: String::new() },
        Kind::Vpp { connected: true },
        Kind::Drift { vip: Some(vip), reverted: true },
        Kind::AddressConflict { vip, conflicting: true },
        Kind::LbConf { error: None },
        Kind::Synced { vip, counts: StepCounts::default() },
        Kind::StepFailed { vip, step: Step::RemoveVip, error: String::new() },
        Kind::Reloaded,
        Kind::Operator(Audit::of("root".into(), AuditAction::Sync)),
    ]
}

/// Returns the events in the API's description.
fn described() -> BTreeSet<String> {
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
    let mut messages = files.into_iter().flat_map(|file| file.message_type);
    let response = messages.find(|message| message.name() == "WatchEventsResponse").unwrap();
    let events = response.field.into_iter().filter(|field| field.oneof_index.is_some());
    events.map(|field| field.name().to_owned()).collect()
}

#[test]
fn core_and_api_event_names_agree() {
    for kind in kinds() {
        let name = kind.name();
        let event = convert::event(&Event { at: fixture::wall(0), kind }).event;
        let variant = format!("{:?}", event.unwrap()).to_lowercase();
        assert!(variant.starts_with(&format!("{}(", name.replace('_', ""))), "{name} is {variant}");
        assert!(described().contains(name), "{name}");
    }
}

#[test]
fn drift_event_reports_repair() {
    let vip = Some(VipKey::host("192.0.2.80".parse().unwrap(), 6, 80));
    for (vip, reverted) in [(vip, true), (vip, false), (None, true)] {
        let payload =
            convert::event(&Event { at: fixture::wall(0), kind: Kind::Drift { vip, reverted } }).event;
        let Some(ApiEvent::Drift(drift)) = payload else { panic!("{payload:?}") };
        assert_eq!((drift.vip.is_some(), drift.reverted), (vip.is_some(), Some(reverted)));
    }
}
