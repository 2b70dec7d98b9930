//! Counters of calls.

use std::collections::BTreeSet;

use http::Request;
use tonic::body::Body;
use tower::ServiceExt;

use super::*;
use crate::metrics::ExpositionFormat;

/// Metrics under test.
struct Counts(Arc<Metrics>);

impl Daemon {
    fn counts(&self) -> Counts {
        Counts(Arc::clone(&self.metrics))
    }
}

impl Counts {
    fn scrape(&self) -> String {
        self.0.render(&fixture::view(), None, ExpositionFormat::Text)
    }

    /// Returns the value of the sample `name`.
    fn sample(&self, name: &str) -> u64 {
        let text = self.scrape();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
    }

    /// Asserts the number of started and ended calls of a method, those with `code`, and the messages each way.
    fn counted(&self, kind: &str, method: &str, code: &str) -> [u64; 5] {
        let labels =
            format!("grpc_method=\"{method}\",grpc_service=\"maglev.v1.Maglev\",grpc_type=\"{kind}\"");
        [
            self.sample(&format!("grpc_server_started_total{{{labels}}}")),
            self.sample(&format!("grpc_server_handling_seconds_count{{{labels}}}")),
            self.sample(&format!("grpc_server_handled_total{{grpc_code=\"{code}\",{labels}}}")),
            self.sample(&format!("grpc_server_msg_received_total{{{labels}}}")),
            self.sample(&format!("grpc_server_msg_sent_total{{{labels}}}")),
        ]
    }

    /// Waits until the server has noticed that a client disconnected.
    async fn until(&self, name: &str, value: u64) {
        while self.sample(name) != value {
            tokio::task::yield_now().await;
        }
    }
}

fn series(text: &str) -> BTreeSet<&str> {
    text.lines().filter_map(|line| line.rsplit_once(' ')).map(|(series, _)| series).collect()
}

#[tokio::test]
async fn call_is_counted_with_its_messages() {
    let daemon = daemon(fixture::view()).await;
    let counts = daemon.counts();
    daemon.client().list_backends(ListBackendsRequest {}).await.unwrap();
    daemon.client().list_backends(ListBackendsRequest {}).await.unwrap();
    assert_eq!(counts.counted("unary", "ListBackends", "OK"), [2, 2, 2, 2, 2]);
}

#[tokio::test]
async fn refusal_is_counted_by_code() {
    let daemon = daemon(fixture::view()).await;
    let counts = daemon.counts();
    daemon.client().get_backend(GetBackendRequest { name: "nobody".into() }).await.unwrap_err();
    assert_eq!(counts.counted("unary", "GetBackend", "NotFound"), [1, 1, 1, 1, 0]);
    assert_eq!(counts.counted("unary", "GetBackend", "OK")[2], 0);
}

#[tokio::test]
async fn stream_is_counted_until_its_status() {
    let daemon = daemon(fixture::view()).await;
    let counts = daemon.counts();
    let mut events = daemon.watch(&[], LogLevel::Unspecified).await;
    for _ in 0..5 {
        next(&mut events).await;
    }
    assert_eq!(counts.counted("server_stream", "WatchEvents", "Unavailable"), [1, 0, 0, 1, 5]);
    daemon.stop.send(()).unwrap();
    events.message().await.unwrap_err();
    counts.until("maglev_event_subscribers", 0).await;
    assert_eq!(counts.counted("server_stream", "WatchEvents", "Unavailable"), [1, 1, 1, 1, 5]);
}

#[tokio::test]
async fn dropped_stream_counts_as_cancelled() {
    let daemon = daemon(fixture::view()).await;
    let counts = daemon.counts();
    let mut events = daemon.watch(&[EventKind::Frontend], LogLevel::Unspecified).await;
    next(&mut events).await;
    assert_eq!(counts.sample("maglev_event_subscribers"), 1);
    drop(events);
    counts.until("maglev_event_subscribers", 0).await;
    assert_eq!(counts.counted("server_stream", "WatchEvents", "Canceled"), [1, 1, 1, 1, 1]);
}

#[tokio::test]
async fn unknown_methods_add_no_series() {
    let daemon = daemon(fixture::view()).await;
    let counts = daemon.counts();
    let before = counts.scrape();
    for path in ["/maglev.v1.Maglev/Nothing", "/no.Service/Method", "/"] {
        let request = Request::post(format!("http://x{path}")).header("content-type", "application/grpc");
        let response = daemon.channel.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.headers()["grpc-status"], "12", "{path}");
    }
    assert_eq!(series(&counts.scrape()), series(&before));
}

#[tokio::test]
async fn every_method_starts_at_zero() {
    let text = daemon(fixture::view()).await.counts().scrape();
    for (kind, service, method) in [
        ("unary", "maglev.v1.Maglev", "ListOverrides"),
        ("server_stream", "maglev.v1.Maglev", "WatchEvents"),
        ("unary", "grpc.health.v1.Health", "Check"),
        ("server_stream", "grpc.health.v1.Health", "Watch"),
        ("bidi_stream", "grpc.reflection.v1.ServerReflection", "ServerReflectionInfo"),
        ("bidi_stream", "grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo"),
    ] {
        let labels = format!("grpc_method=\"{method}\",grpc_service=\"{service}\",grpc_type=\"{kind}\"");
        for name in ["started_total", "msg_received_total", "msg_sent_total", "handling_seconds_count"] {
            assert!(text.contains(&format!("grpc_server_{name}{{{labels}}} 0\n")), "{name} {labels}");
        }
        let handled = |line: &&str| line.starts_with("grpc_server_handled_total{") && line.contains(&labels);
        assert_eq!(text.lines().filter(handled).count(), 17, "{labels}");
        let failed = format!("grpc_server_handled_total{{grpc_code=\"FailedPrecondition\",{labels}}} 0\n");
        assert!(text.contains(&failed), "{failed}");
    }
}

#[tokio::test]
async fn lost_events_are_counted() {
    let daemon = daemon(fixture::view()).await;
    let counts = daemon.counts();
    let mut events = daemon.watch(&[EventKind::Backend], LogLevel::Unspecified).await;
    assert_eq!(item_of(&next(&mut events).await), ("prober true".into(), true));
    for _ in 0..EVENT_BACKLOG + 5 {
        daemon.handle.publish(fixture::nginx0_down());
    }
    while item_of(&next(&mut events).await).0 != "dropped 5" {}
    assert_eq!(counts.sample("maglev_events_lost_total{kind=\"event\"}"), 5);
    assert_eq!(counts.sample("maglev_events_lost_total{kind=\"log\"}"), 0);
}
