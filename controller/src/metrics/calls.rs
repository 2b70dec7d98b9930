//! Metrics of the gRPC calls, with the names of go-grpc-prometheus.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use prost::{DecodeError, Message};
use prost_types::{FileDescriptorSet, MethodDescriptorProto};
use tonic::Code;

use super::text::{self, FamilyType, TextEncoder};

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

/// Upper bucket bounds in milliseconds, and in seconds as text.
const BOUNDS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];
const BOUND_LABELS: [&str; BOUNDS.len()] =
    ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10"];

/// Metrics of all served methods. Unknown methods are not counted, so clients cannot create series.
#[derive(Debug, Default)]
pub struct CallMetrics(BTreeMap<String, Arc<MethodMetrics>>);

/// Metrics of one method, updated without a lock.
#[derive(Debug)]
pub struct MethodMetrics {
    labels: String,
    started: AtomicU64,
    handled: [AtomicU64; CODES.len()],
    received: AtomicU64,
    sent: AtomicU64,
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

/// Call in progress. Dropping it early counts a cancellation by client or deadline.
#[derive(Debug)]
pub struct CallTimer {
    method: Arc<MethodMetrics>,
    began: Instant,
    ended: bool,
}

impl CallMetrics {
    /// Creates metrics for all methods of the file descriptor sets.
    ///
    /// # Errors
    /// Invalid descriptors.
    pub fn of(descriptors: &[&[u8]]) -> Result<Self, DecodeError> {
        let mut methods = BTreeMap::new();
        for set in descriptors {
            for file in FileDescriptorSet::decode(*set)?.file {
                let package = file.package().to_owned();
                for service in file.service {
                    let service_name = format!("{package}.{}", service.name());
                    for method in &service.method {
                        let path = format!("/{service_name}/{}", method.name());
                        methods.insert(path, Arc::new(MethodMetrics::new(&service_name, method)));
                    }
                }
            }
        }
        Ok(Self(methods))
    }

    /// Starts a call of the method at `path`; `None` if it does not exist.
    pub fn begin(&self, path: &str) -> Option<CallTimer> {
        let method = Arc::clone(self.0.get(path)?);
        method.started.fetch_add(1, Relaxed);
        Some(CallTimer { method, began: Instant::now(), ended: false })
    }

    /// Writes the families.
    pub fn render(&self, text: &mut TextEncoder) {
        let mut family = |name, help, of: fn(&MethodMetrics) -> &AtomicU64| {
            let mut family = text.family(name, FamilyType::Counter, help);
            for method in self.0.values() {
                family.prepared(&method.labels, of(method).load(Relaxed));
            }
        };
        family("grpc_server_started_total", "Calls that have begun.", |method| &method.started);
        family("grpc_server_msg_received_total", "Messages that clients sent.", |method| &method.received);
        family("grpc_server_msg_sent_total", "Messages that were sent to clients.", |method| &method.sent);
        let mut family = text.family(
            "grpc_server_handled_total",
            FamilyType::Counter,
            "Calls that have ended, by their status.",
        );
        for method in self.0.values() {
            for (code, count) in CODES.iter().zip(&method.handled) {
                family.prepared(&format!("{},grpc_code=\"{code}\"", method.labels), count.load(Relaxed));
            }
        }
        let mut family = text.family(
            "grpc_server_handling_seconds",
            FamilyType::Histogram,
            "How long calls took, streams from their beginning to their end.",
        );
        for method in self.0.values() {
            let counts = method.buckets.each_ref().map(|count| count.load(Relaxed));
            let sum = Duration::from_nanos(method.nanos.load(Relaxed)).as_secs_f64();
            family.histogram(&method.labels, &BOUND_LABELS, &counts, sum);
        }
    }
}

impl MethodMetrics {
    fn new(service: &str, method: &MethodDescriptorProto) -> Self {
        let kind = match (method.client_streaming(), method.server_streaming()) {
            (false, false) => "unary",
            (true, false) => "client_stream",
            (false, true) => "server_stream",
            (true, true) => "bidi_stream",
        };
        let labels = [("grpc_type", kind), ("grpc_service", service), ("grpc_method", method.name())];
        Self {
            labels: text::labels(&labels),
            started: AtomicU64::default(),
            handled: Default::default(),
            received: AtomicU64::default(),
            sent: AtomicU64::default(),
            buckets: Default::default(),
            nanos: AtomicU64::default(),
        }
    }

    /// Counts received messages.
    pub fn received(&self, count: u64) {
        self.received.fetch_add(count, Relaxed);
    }

    /// Counts sent messages.
    pub fn sent(&self, count: u64) {
        self.sent.fetch_add(count, Relaxed);
    }
}

impl CallTimer {
    /// Returns the method.
    pub const fn method(&self) -> &Arc<MethodMetrics> {
        &self.method
    }

    /// Ends the call with `code`; later ends are ignored.
    pub fn end(&mut self, code: Code) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let took = self.began.elapsed();
        let bucket = BOUNDS.partition_point(|bound| Duration::from_millis(*bound) < took);
        self.method.buckets[bucket].fetch_add(1, Relaxed);
        self.method.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        self.method.handled[code as usize].fetch_add(1, Relaxed);
    }
}

impl Drop for CallTimer {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}
