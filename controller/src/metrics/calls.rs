//! Metrics of the gRPC calls, with the names of go-grpc-prometheus.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use prometheus::{Histogram, IntCounter, Registry};
use prost::Message;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};
use tonic::Code;

use super::descriptors::Descriptor;

const METHOD_LABELS: &[&str] = &["grpc_type", "grpc_service", "grpc_method"];

const STARTED: Descriptor =
    Descriptor { name: "grpc_server_started_total", help: "Calls that have begun.", labels: METHOD_LABELS };

const RECEIVED: Descriptor = Descriptor {
    name: "grpc_server_msg_received_total",
    help: "Messages that clients sent.",
    labels: METHOD_LABELS,
};

const SENT: Descriptor = Descriptor {
    name: "grpc_server_msg_sent_total",
    help: "Messages that were sent to clients.",
    labels: METHOD_LABELS,
};

const HANDLED: Descriptor = Descriptor {
    name: "grpc_server_handled_total",
    help: "Calls that have ended, by their status.",
    labels: &["grpc_type", "grpc_service", "grpc_method", "grpc_code"],
};

const HANDLING: Descriptor = Descriptor {
    name: "grpc_server_handling_seconds",
    help: "Duration of calls, streams from their beginning to their end.",
    labels: METHOD_LABELS,
};

/// Upper bucket bounds of durations, in seconds.
const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Codes by number, in Go's spelling.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Metrics of all served methods, by path. Unknown methods are not counted, so clients cannot create series.
#[derive(Debug, Default)]
pub struct CallMetrics(BTreeMap<String, Arc<MethodMetrics>>);

/// Metrics of one method, updated without a lock.
#[derive(Debug)]
pub struct MethodMetrics {
    started: IntCounter,
    /// Ended calls by code.
    handled: [IntCounter; CODES.len()],
    received: IntCounter,
    sent: IntCounter,
    seconds: Histogram,
}

/// Call in progress. Dropping it early counts a cancellation by client or deadline.
#[derive(Debug)]
pub struct CallTimer {
    method: Arc<MethodMetrics>,
    began: Instant,
    ended: bool,
}

impl CallMetrics {
    /// Registers metrics for all methods of the file descriptor sets, so that uncalled methods have series as well.
    ///
    /// # Errors
    /// Invalid descriptors, or metrics that are already registered.
    pub fn register(registry: &Registry, descriptors: &[&[u8]]) -> prometheus::Result<Self> {
        let (started, received) = (STARTED.counters(registry)?, RECEIVED.counters(registry)?);
        let (sent, handled) = (SENT.counters(registry)?, HANDLED.counters(registry)?);
        let seconds = HANDLING.histograms(registry, &BOUNDS)?;
        let metrics_of = |service: &str, method: &MethodDescriptorProto| {
            let labels = [call_type(method), service, method.name()];
            MethodMetrics {
                started: started.with_label_values(&labels),
                handled: CODES
                    .map(|code| handled.with_label_values(&[labels[0], service, method.name(), code])),
                received: received.with_label_values(&labels),
                sent: sent.with_label_values(&labels),
                seconds: seconds.with_label_values(&labels),
            }
        };
        let mut methods = BTreeMap::new();
        for set in descriptors {
            let set =
                FileDescriptorSet::decode(*set).map_err(|error| prometheus::Error::Msg(error.to_string()))?;
            for file in &set.file {
                for service in &file.service {
                    let service_name = format!("{}.{}", file.package(), service.name());
                    for method in &service.method {
                        let path = format!("/{service_name}/{}", method.name());
                        methods.insert(path, Arc::new(metrics_of(&service_name, method)));
                    }
                }
            }
        }
        Ok(Self(methods))
    }

    /// Starts a call of the method at `path`; `None` if it does not exist.
    pub fn start(&self, path: &str) -> Option<CallTimer> {
        let method = Arc::clone(self.0.get(path)?);
        method.started.inc();
        Some(CallTimer { method, began: Instant::now(), ended: false })
    }
}

const fn call_type(method: &MethodDescriptorProto) -> &'static str {
    match (matches!(method.client_streaming, Some(true)), matches!(method.server_streaming, Some(true))) {
        (false, false) => "unary",
        (true, false) => "client_stream",
        (false, true) => "server_stream",
        (true, true) => "bidi_stream",
    }
}

impl MethodMetrics {
    /// Counts received messages.
    pub fn count_received(&self, count: u64) {
        self.received.inc_by(count);
    }

    /// Counts sent messages.
    pub fn count_sent(&self, count: u64) {
        self.sent.inc_by(count);
    }
}

impl CallTimer {
    /// Returns the method.
    pub const fn method(&self) -> &Arc<MethodMetrics> {
        &self.method
    }

    /// Ends the call with `code`; later ends are ignored.
    pub fn finish(&mut self, code: Code) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.method.seconds.observe(self.began.elapsed().as_secs_f64());
        self.method.handled[code as usize].inc();
    }
}

impl Drop for CallTimer {
    fn drop(&mut self) {
        self.finish(Code::Cancelled);
    }
}
