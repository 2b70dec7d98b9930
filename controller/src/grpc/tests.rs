//! Tests of the whole server, over a unix socket.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use maglev_core::event::Event;
use maglev_core::view::View;
use maglev_proto::v1::maglev_client::MaglevClient;
use maglev_proto::v1::watch_events_response::Event as ApiEvent;
use maglev_proto::v1::{
    BackendState, EventKind, ExplainBackendRequest, ExplainFrontendRequest, GetBackendRequest,
    GetFrontendRequest, GetHealthcheckRequest, GetLbCountersRequest, GetLbStateRequest, GetVppInfoRequest,
    ListBackendsRequest, ListFrontendsRequest, LogLevel, ProbeType, WatchEventsRequest, WatchEventsResponse,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tracing_subscriber::layer::SubscriberExt;

use crate::access::AccessControl;
use crate::config::LoadedConfig;
use crate::fixture;
use crate::handle::{EVENT_BACKLOG, Handle};
use crate::listen::bind_unix;
use crate::log::LogBroadcast;
use crate::metrics::Metrics;
use crate::reload::Reloader;

mod metrics_layer;
mod overrides;
mod vocabulary;

struct Daemon {
    handle: Handle,
    channel: Channel,
    log_broadcast: LogBroadcast,
    metrics: Arc<Metrics>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), super::ServeError>>,
    _directory: tempfile::TempDir,
}

async fn daemon(view: View) -> Daemon {
    daemon_of(fixture::owner(view)).await
}

async fn daemon_of(handle: Handle) -> Daemon {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("maglevd.sock");
    let listener = bind_unix(&socket).unwrap();
    let log_broadcast = LogBroadcast::default();
    let (stop, stopped) = oneshot::channel();
    let shutdown = async { drop(stopped.await) };
    let metrics = Arc::new(Metrics::new().unwrap());
    metrics.enable_call_metrics(&super::descriptors(true)).unwrap();
    let access = AccessControl::new(&LoadedConfig { config: fixture::config(), tls: None }, metrics.clone());
    let reloader =
        Reloader::new(directory.path().join("maglev.yaml"), handle.clone(), Arc::clone(&metrics), access);
    let shown = Arc::clone(&metrics);
    let api = super::ApiServer {
        handle: handle.clone(),
        log: log_broadcast.clone(),
        reloader,
        metrics,
        reflection: true,
        connection_limit: 64,
    };
    let server = tokio::spawn(api.serve(vec![listener], shutdown));
    Daemon {
        handle,
        channel: connect(&socket).await,
        log_broadcast,
        metrics: shown,
        stop,
        server,
        _directory: directory,
    }
}

async fn connect(socket: &Path) -> Channel {
    Endpoint::from_shared(format!("unix:{}", socket.display())).unwrap().connect().await.unwrap()
}

impl Daemon {
    fn client(&self) -> MaglevClient<Channel> {
        MaglevClient::new(self.channel.clone())
    }

    async fn watch(&self, kinds: &[EventKind], level: LogLevel) -> Streaming<WatchEventsResponse> {
        let kinds = kinds.iter().map(|kind| i32::from(*kind)).collect();
        let request = WatchEventsRequest { kinds, log_level: level.into() };
        self.client().watch_events(request).await.unwrap().into_inner()
    }
}

async fn refused<T>(call: impl Future<Output = Result<T, tonic::Status>>) -> (Code, String) {
    let status = call.await.map(drop).unwrap_err();
    (status.code(), status.message().to_owned())
}

async fn next(events: &mut Streaming<WatchEventsResponse>) -> WatchEventsResponse {
    events.message().await.unwrap().unwrap()
}

/// Returns the item of an event, such as `backend nginx0`, and true for a replay.
fn item_of(event: &WatchEventsResponse) -> (String, bool) {
    let what = match event.event.as_ref().unwrap() {
        ApiEvent::Backend(backend) => format!("backend {}", backend.name),
        ApiEvent::Frontend(frontend) => format!("frontend {}", frontend.name),
        ApiEvent::Prober(prober) => format!("prober {}", prober.connected),
        ApiEvent::Vpp(vpp) => format!("vpp {}", vpp.connected),
        ApiEvent::Log(log) => format!("log {}", log.message),
        ApiEvent::Dropped(dropped) => format!("dropped {}", dropped.count),
        other => format!("{other:?}"),
    };
    (what, event.replay)
}

#[tokio::test]
async fn lists_match_the_view() {
    let daemon = daemon(fixture::view()).await;
    let mut client = daemon.client();
    let backends = client.list_backends(ListBackendsRequest {}).await.unwrap().into_inner().backends;
    let found: Vec<_> = backends.iter().map(|b| (b.name.as_str(), b.state(), b.r#type())).collect();
    assert_eq!(
        found,
        [("nginx0", BackendState::Up, ProbeType::Https), ("sorry", BackendState::Up, ProbeType::Static)]
    );
    assert!(backends.iter().all(|backend| backend.transitions.is_empty()));

    let frontends = client.list_frontends(ListFrontendsRequest {}).await.unwrap().into_inner().frontends;
    let web = &frontends[0];
    assert_eq!((web.name.as_str(), web.active_pool.as_str(), web.pools.len()), ("web", "primary", 2));
}

#[tokio::test]
async fn get_backend_includes_transitions() {
    let mut view = fixture::view();
    view.prober.rejected_checks.push(("nginx0".into(), "192.0.2.255 is no target".into()));
    let daemon = daemon(view).await;
    let request = GetBackendRequest { name: "nginx0".into() };
    let backend = daemon.client().get_backend(request).await.unwrap().into_inner().backend.unwrap();
    assert_eq!(backend.transitions.len(), 1);
    assert_eq!(backend.rejection, "192.0.2.255 is no target");
}

#[tokio::test]
async fn explanations_start_with_conclusion() {
    let daemon = daemon(fixture::view()).await;
    let mut client = daemon.client();
    let request = ExplainBackendRequest { name: "nginx0".into() };
    let reasons = client.explain_backend(request).await.unwrap().into_inner().reasons;
    let conclusion = "nginx0 is unknown, weight 0 in web; VPP is not connected";
    assert_eq!((reasons[0].topic.as_str(), reasons[0].text.as_str()), ("state", conclusion));
    assert!(reasons.iter().any(|reason| reason.topic == "counter"), "{reasons:?}");

    let request = ExplainFrontendRequest { name: "web".into() };
    let reasons = client.explain_frontend(request).await.unwrap().into_inner().reasons;
    assert!(reasons[0].text.starts_with("web is unknown, for 0ms: "), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.topic == "pool"), "{reasons:?}");
}

#[tokio::test]
async fn refusals_name_the_thing() {
    let daemon = daemon(fixture::view()).await;
    let mut client = daemon.client();
    assert_eq!(
        refused(client.get_frontend(GetFrontendRequest { name: "shop".into() })).await,
        (Code::NotFound, "no frontend is named `shop`".into())
    );
    assert_eq!(
        refused(client.get_backend(GetBackendRequest { name: "nginx9".into() })).await,
        (Code::NotFound, "no backend is named `nginx9`".into())
    );
    assert_eq!(
        refused(client.get_healthcheck(GetHealthcheckRequest { name: "ping".into() })).await,
        (Code::NotFound, "no healthcheck is named `ping`".into())
    );
    assert_eq!(
        refused(client.explain_backend(ExplainBackendRequest { name: "web".into() })).await,
        (Code::NotFound, "no backend is named `web`".into())
    );
    assert_eq!(
        refused(client.explain_frontend(ExplainFrontendRequest { name: "nginx0".into() })).await,
        (Code::NotFound, "no frontend is named `nginx0`".into())
    );
    let request = WatchEventsRequest { kinds: vec![77], log_level: 0 };
    assert_eq!(
        refused(client.watch_events(request)).await,
        (Code::InvalidArgument, "unknown event kind 77".into())
    );
}

#[tokio::test]
async fn absent_or_unread_vpp_is_unavailable() {
    let mut view = fixture::view();
    view.vpp.actual = None;
    let unread = daemon(view.clone()).await;
    assert_eq!(
        refused(unread.client().get_lb_state(GetLbStateRequest {})).await,
        (Code::Unavailable, "VPP's load balancer has not been read yet".into())
    );
    view.vpp.info = None;
    let away = daemon(view.clone()).await;
    assert_eq!(
        refused(away.client().get_vpp_info(GetVppInfoRequest {})).await,
        (Code::Unavailable, "VPP is not connected: `explain frontend` and maglevd's log say why".into())
    );
    view.vpp.enabled = false;
    let off = daemon(view).await;
    assert_eq!(
        refused(off.client().get_vpp_info(GetVppInfoRequest {})).await,
        (Code::Unavailable, "VPP is not used: maglevd runs without --vpp-api-addr".into())
    );
}

#[tokio::test]
async fn counters_appear_after_first_read() {
    let (handle, counters) = fixture::owner_with_counters(fixture::view());
    let daemon = daemon_of(handle).await;
    assert_eq!(
        refused(daemon.client().get_lb_counters(GetLbCountersRequest {})).await,
        (Code::Unavailable, "VPP's counters have not been read yet, or are unreadable".into())
    );
    counters.send_replace(Some(Arc::new(fixture::counters())));
    let counters = daemon.client().get_lb_counters(GetLbCountersRequest {}).await.unwrap().into_inner();
    let [web, other] = counters.vips.as_slice() else { panic!("two VIPs") };
    let packets = web.packets.unwrap();
    assert_eq!((web.frontend.as_str(), packets.existing_flow, packets.no_server), ("web", 9, 4));
    assert_eq!((other.frontend.as_str(), other.packets), ("", None));
    assert_eq!(other.route.unwrap().bytes, 1800);
    let [nginx0] = counters.backends.as_slice() else { panic!("one backend") };
    assert_eq!((nginx0.backend.as_str(), nginx0.traffic.unwrap().packets), ("nginx0", 15));
}

#[tokio::test]
async fn lb_state_names_servers() {
    let daemon = daemon(fixture::view()).await;
    let state = daemon.client().get_lb_state(GetLbStateRequest {}).await.unwrap().into_inner();
    let conf = state.conf.unwrap();
    assert_eq!((conf.ipv4_src_address.as_str(), conf.ipv6_src_address.as_str()), ("", "2001:db8::1"));
    let vip = &state.vips[0];
    assert_eq!((vip.frontend.as_str(), vip.servers[0].backend.as_str()), ("web", "nginx0"));
    assert_eq!((vip.table_length, vip.desired_table_length), (Some(1024), None));
}

#[tokio::test]
async fn lb_state_marks_table_of_other_length() {
    let mut view = fixture::view();
    view.frontends[0].other_table = true;
    let config = Arc::make_mut(&mut view.config);
    config.frontends.values_mut().for_each(|web| Arc::make_mut(web).table_length = Some(4096));
    let daemon = daemon(view).await;
    let state = daemon.client().get_lb_state(GetLbStateRequest {}).await.unwrap().into_inner();
    let vip = &state.vips[0];
    assert_eq!((vip.table_length, vip.desired_table_length), (Some(1024), Some(4096)));
}

#[tokio::test]
async fn rounded_weight_is_shown_beside_weight() {
    let mut view = fixture::view();
    let member = &mut view.frontends[0].pools[0].backends[0];
    (member.weight, member.rounded) = (57, 55);
    let daemon = daemon(view).await;
    let request = GetFrontendRequest { name: "web".into() };
    let web = daemon.client().get_frontend(request).await.unwrap().into_inner().frontend.unwrap();
    let member = &web.pools[0].backends[0];
    assert_eq!((member.weight, member.rounded_weight), (57, 55));
}

#[tokio::test]
async fn watch_starts_with_replay() {
    let daemon = daemon(fixture::view()).await;
    let mut events = daemon.watch(&[], LogLevel::Unspecified).await;
    for expected in ["prober true", "backend nginx0", "backend sorry", "frontend web", "vpp true"] {
        assert_eq!(item_of(&next(&mut events).await), (expected.into(), true));
    }
    daemon.handle.publish(fixture::nginx0_down());
    assert_eq!(item_of(&next(&mut events).await), ("backend nginx0".into(), false));
}

#[tokio::test]
async fn only_requested_kinds_are_sent() {
    let daemon = daemon(fixture::view()).await;
    let mut events = daemon.watch(&[EventKind::Frontend], LogLevel::Unspecified).await;
    assert_eq!(item_of(&next(&mut events).await), ("frontend web".into(), true));
    daemon.handle.publish(fixture::nginx0_down());
    let reloaded = Event { at: fixture::wall(701), kind: maglev_core::event::Kind::Reloaded };
    daemon.handle.publish(reloaded);
    assert!(matches!(next(&mut events).await.event, Some(ApiEvent::Reload(_))));
}

#[tokio::test]
async fn slow_subscriber_learns_lost_count() {
    let daemon = daemon(fixture::view()).await;
    let mut events = daemon.watch(&[EventKind::Frontend], LogLevel::Unspecified).await;
    assert_eq!(item_of(&next(&mut events).await), ("frontend web".into(), true));
    // The test's one thread does not let the server read before all events are published.
    for _ in 0..EVENT_BACKLOG + 5 {
        daemon.handle.publish(fixture::nginx0_down());
    }
    assert_eq!(item_of(&next(&mut events).await), ("dropped 5".into(), false));
}

#[tokio::test]
async fn log_stream_starts_at_requested_level() {
    let daemon = daemon(fixture::view()).await;
    let mut events = daemon.watch(&[EventKind::Log], LogLevel::Warn).await;
    let subscriber = tracing_subscriber::registry().with(daemon.log_broadcast.layer());
    tracing::subscriber::with_default(subscriber, || {
        tracing::info!("not severe enough");
        tracing::warn!(target: "h2", "not ours");
        tracing::warn!(backend = "nginx0", tries = 3, "severe");
    });
    let Some(ApiEvent::Log(log)) = next(&mut events).await.event else { panic!("no log record") };
    assert_eq!((log.level(), log.message.as_str()), (LogLevel::Warn, "severe"));
    let fields: Vec<_> = log.fields.iter().map(|f| (f.name.as_str(), f.value.as_str())).collect();
    assert_eq!(fields, [("backend", "nginx0"), ("tries", "3")]);
}

#[tokio::test]
async fn shutdown_ends_streams_with_a_status() {
    let daemon = daemon(fixture::view()).await;
    let mut events = daemon.watch(&[EventKind::Vpp], LogLevel::Unspecified).await;
    assert_eq!(item_of(&next(&mut events).await), ("vpp true".into(), true));
    daemon.stop.send(()).unwrap();
    let status = events.message().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "maglevd is shutting down"));
    daemon.server.await.unwrap().unwrap();
}

#[tokio::test]
async fn health_service_reports_the_api() {
    let daemon = daemon(fixture::view()).await;
    let mut client = HealthClient::new(daemon.channel.clone());
    for service in ["", "maglev.v1.Maglev"] {
        let request = HealthCheckRequest { service: service.into() };
        let status = client.check(request).await.unwrap().into_inner().status();
        assert_eq!(status.as_str_name(), "SERVING");
    }
}

/// Lists the services by reflection.
macro_rules! reflected {
    ($version:ident, $channel:expr) => {{
        use tonic_reflection::pb::$version::ServerReflectionRequest;
        use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
        use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
        use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;
        let message_request = Some(MessageRequest::ListServices(String::new()));
        let request = ServerReflectionRequest { host: String::new(), message_request };
        let asked = tokio_stream::once(request);
        let mut answers =
            ServerReflectionClient::new($channel).server_reflection_info(asked).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap().message_response;
        let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("no list") };
        list.service.into_iter().map(|service| service.name).collect::<Vec<_>>()
    }};
}

#[tokio::test]
async fn both_reflection_versions_list_the_api() {
    let daemon = daemon(fixture::view()).await;
    assert!(reflected!(v1, daemon.channel.clone()).contains(&"maglev.v1.Maglev".into()));
    assert!(reflected!(v1alpha, daemon.channel.clone()).contains(&"maglev.v1.Maglev".into()));
}
