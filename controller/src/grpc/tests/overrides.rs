//! Override calls, on a real core.

use std::time::{Duration, SystemTime};

use maglev_proto::v1::*;
use tonic::{Code, Response};

use super::*;
use crate::overrides::NOT_PERSISTED;
use crate::published::PersistStatus;

/// Returns a status in which every write has succeeded.
fn on_disk() -> PersistStatus {
    PersistStatus { number: u64::MAX, attempted: u64::MAX, error: String::new() }
}

fn metadata(reason: &str, seconds: Option<i64>) -> Option<OverrideMetadata> {
    let lifetime = seconds.map(|seconds| maglev_proto::Duration { seconds, nanos: 0 });
    Some(OverrideMetadata { reason: reason.into(), lifetime })
}

fn pause(name: &str) -> PauseBackendRequest {
    PauseBackendRequest { name: name.into(), metadata: None }
}

fn disable(name: &str, metadata: Option<OverrideMetadata>) -> DisableBackendRequest {
    DisableBackendRequest { name: name.into(), metadata }
}

fn set(path: [&str; 3], weight: u32) -> SetFrontendPoolBackendWeightRequest {
    let [frontend, pool, backend] = path.map(Into::into);
    SetFrontendPoolBackendWeightRequest { frontend, pool, backend, weight, metadata: None }
}

fn unset(path: [&str; 3]) -> UnsetFrontendPoolBackendWeightRequest {
    let [frontend, pool, backend] = path.map(Into::into);
    UnsetFrontendPoolBackendWeightRequest { frontend, pool, backend }
}

const SLOT: [&str; 3] = ["web", "primary", "nginx0"];

#[tokio::test]
async fn overrides_hold_and_are_listed_until_undone() {
    let daemon = daemon_of(fixture::driven(on_disk()).0).await;
    let mut client = daemon.client();
    let listed = async |client: &mut MaglevClient<Channel>| {
        client.list_overrides(ListOverridesRequest {}).await.unwrap().into_inner()
    };

    let paused = client.pause_backend(pause("nginx0")).await.unwrap().into_inner();
    assert_eq!((paused.backend.unwrap().state(), paused.persist_error.as_str()), (BackendState::Paused, ""));
    let resumed = client.resume_backend(ResumeBackendRequest { name: "nginx0".into() }).await;
    assert_eq!(resumed.unwrap().into_inner().backend.unwrap().state(), BackendState::Unknown);
    let request = disable("nginx0", metadata("disk swap", Some(7200)));
    let disabled = client.disable_backend(request).await.unwrap().into_inner().backend.unwrap();
    assert_eq!(
        (disabled.state(), disabled.enabled, disabled.overrides.len()),
        (BackendState::Disabled, false, 1)
    );
    let weighed = client.set_frontend_pool_backend_weight(set(SLOT, 7)).await.unwrap().into_inner();
    let member = weighed.frontend.unwrap().pools[0].backends[0].clone();
    assert_eq!((member.weight, member.configured_weight, member.overridden), (7, 100, true));

    let all = listed(&mut client).await;
    let [out, weight] = &all.overrides[..] else { panic!("{all:#?}") };
    assert_eq!((out.kind(), weight.kind()), (OverrideKind::Disabled, OverrideKind::Weight));
    assert_eq!(disabled.overrides.first(), Some(out));
    assert_eq!((out.backend.as_str(), out.reason.as_str(), out.weight), ("nginx0", "disk swap", None));
    let [at, expires] = [&out.at, &out.expires].map(|time| SystemTime::try_from(time.unwrap()).unwrap());
    assert_eq!(expires.duration_since(at).unwrap(), Duration::from_secs(7200));
    assert_eq!([&weight.frontend, &weight.pool, &weight.backend], SLOT);
    assert_eq!((weight.weight, weight.expires, weight.dangling), (Some(7), None, false));
    assert!(!weight.actor.is_empty());

    let unset = client.unset_frontend_pool_backend_weight(unset(SLOT)).await.unwrap().into_inner();
    assert_eq!(unset.frontend.unwrap().pools[0].backends[0].weight, 100);
    let enabled = client.enable_backend(EnableBackendRequest { name: "nginx0".into(), metadata: None }).await;
    assert_eq!(enabled.unwrap().into_inner().backend.unwrap().state(), BackendState::Unknown);
    assert_eq!(listed(&mut client).await, ListOverridesResponse::default());
}

#[tokio::test]
async fn rejections_have_code_and_name() {
    let daemon = daemon_of(fixture::driven(on_disk()).0).await;
    let mut client = daemon.client();
    client.disable_backend(disable("sorry", None)).await.unwrap();
    let too_long = "x".repeat(201);
    let invalid = [
        (metadata(&too_long, None), "reason: at most 200 bytes are allowed"),
        (metadata("a\nb", None), "reason: control and invisible characters are not allowed"),
        (metadata("a\u{202e}b", None), "reason: control and invisible characters are not allowed"),
        (metadata("", Some(0)), "lifetime: 1 second to 365 days are allowed"),
        (metadata("", Some(-1)), "lifetime: 1 second to 365 days are allowed"),
        (metadata("", Some(365 * 86_400 + 1)), "lifetime: 1 second to 365 days are allowed"),
    ];
    for (metadata, why) in invalid {
        let refusal = refused(client.disable_backend(disable("nginx0", metadata))).await;
        assert_eq!(refusal, (Code::InvalidArgument, why.to_owned()));
    }
    for (refusal, code, why) in [
        (refused(client.pause_backend(pause("nginx"))).await, Code::NotFound, "no backend is named `nginx`"),
        (
            refused(client.pause_backend(pause("sorry"))).await,
            Code::FailedPrecondition,
            "backend `sorry`: it is disabled, so it cannot pause; enable it first",
        ),
        (
            refused(client.set_frontend_pool_backend_weight(set(["blog", "p", "b"], 1))).await,
            Code::NotFound,
            "no frontend is named `blog`",
        ),
        (
            refused(client.set_frontend_pool_backend_weight(set(["web", "p", "b"], 1))).await,
            Code::NotFound,
            "no pool of frontend `web` is named `p`",
        ),
        (
            refused(client.unset_frontend_pool_backend_weight(unset(["web", "primary", "sorry"]))).await,
            Code::NotFound,
            "no backend of pool `primary` of frontend `web` is named `sorry`",
        ),
        (
            refused(client.set_frontend_pool_backend_weight(set(SLOT, 101))).await,
            Code::InvalidArgument,
            "weight: 0 to 100 are allowed",
        ),
        (
            refused(client.set_frontend_pool_backend_weight(set(SLOT, 256))).await,
            Code::InvalidArgument,
            "weight: 0 to 100 are allowed",
        ),
    ] {
        assert_eq!(refusal, (code, why.to_owned()));
    }
    let left = client.list_overrides(ListOverridesRequest {}).await.unwrap().into_inner().overrides;
    assert_eq!(left.len(), 1, "{left:#?}");
}

#[tokio::test]
async fn response_waits_for_disk_and_reports_error() {
    let (handle, status) = fixture::driven(PersistStatus::default());
    let daemon = daemon_of(handle.clone()).await;
    let (mut first, mut second) = (daemon.client(), daemon.client());
    let asked = tokio::spawn(async move { first.pause_backend(pause("nginx0")).await });
    // It is in force before it is on disk.
    while handle.view().await.unwrap().overrides.is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(!asked.is_finished());
    status.send_replace(PersistStatus { number: 1, attempted: 1, error: String::new() });
    assert_eq!(asked.await.unwrap().map(Response::into_inner).unwrap().persist_error, "");
    status.send_replace(PersistStatus { number: 1, attempted: u64::MAX, error: NOT_PERSISTED.into() });
    let answer = second.disable_backend(disable("nginx0", None)).await.unwrap().into_inner();
    assert_eq!(
        (answer.backend.unwrap().state(), answer.persist_error.as_str()),
        (BackendState::Disabled, NOT_PERSISTED)
    );
    let all = second.list_overrides(ListOverridesRequest {}).await.unwrap().into_inner();
    assert_eq!((all.overrides.len(), all.persist_error.as_str()), (1, NOT_PERSISTED));
}

#[tokio::test]
async fn audit_events_reach_subscribers() {
    let daemon = daemon_of(fixture::driven(on_disk()).0).await;
    let mut events = daemon.watch(&[EventKind::Operator], LogLevel::Unspecified).await;
    let mut client = daemon.client();
    for _ in 0..2 {
        client.disable_backend(disable("nginx0", metadata("disk swap", None))).await.unwrap();
    }
    client.set_frontend_pool_backend_weight(set(SLOT, 7)).await.unwrap();
    let mut item_of = Vec::new();
    while item_of.len() < 3 {
        let Some(ApiEvent::Operator(event)) = next(&mut events).await.event else { panic!("another kind") };
        assert!(!event.actor.is_empty());
        let action = event.action().as_str_name().trim_start_matches("AUDIT_ACTION_").to_lowercase();
        item_of.push([action, event.subject, event.from, event.to, event.reason].join("; "));
    }
    assert_eq!(
        item_of,
        [
            "disable; backend nginx0; unknown; disabled; disk swap",
            "disable; backend nginx0; disabled; disabled; disk swap",
            "set_weight; frontend web pool primary backend nginx0; 100; 7; ",
        ]
    );
}
