//! Log subscriptions of API clients, each with its own level, independent of standard error.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::broadcast;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::OWN_TARGET;

/// Maximum number of records that a subscriber may lag behind before it loses the oldest.
const BACKLOG: usize = 1024;

/// Levels in ascending verbosity.
const LEVELS: [LevelFilter; 6] = [
    LevelFilter::OFF,
    LevelFilter::ERROR,
    LevelFilter::WARN,
    LevelFilter::INFO,
    LevelFilter::DEBUG,
    LevelFilter::TRACE,
];

/// Log record.
#[derive(Clone, Debug)]
pub struct LogRecord {
    /// Time of the record.
    pub at: SystemTime,
    /// Severity.
    pub level: Level,
    /// Module that wrote it.
    pub target: &'static str,
    /// Message text.
    pub message: String,
    /// Fields, in the order written.
    pub fields: Vec<(&'static str, String)>,
}

/// Source of log subscriptions.
#[derive(Clone, Debug)]
pub struct LogBroadcast(Arc<BroadcastState>);

#[derive(Debug)]
struct BroadcastState {
    sender: broadcast::Sender<Arc<LogRecord>>,
    /// Number of subscribers per entry of [`LEVELS`].
    subscribers: Mutex<[usize; LEVELS.len()]>,
    /// Index of the most verbose requested level.
    max_level: AtomicUsize,
}

/// Subscription, which keeps its level enabled until dropped.
#[derive(Debug)]
pub struct LogSubscription {
    receiver: broadcast::Receiver<Arc<LogRecord>>,
    level: usize,
    subscribe: LogBroadcast,
}

impl Default for LogBroadcast {
    fn default() -> Self {
        let (sender, _) = broadcast::channel(BACKLOG);
        Self(Arc::new(BroadcastState {
            sender,
            subscribers: Mutex::default(),
            max_level: AtomicUsize::new(0),
        }))
    }
}

impl LogBroadcast {
    /// Subscribes to records of `level` and above, and of more verbose levels that others request. A receiver that
    /// lags too far loses the oldest, and learns the number.
    #[must_use]
    pub fn records(&self, level: Level) -> LogSubscription {
        let level = LEVELS.iter().position(|known| *known == level).unwrap_or_default();
        let receiver = self.0.sender.subscribe();
        self.0.update(|subscribers| subscribers[level] += 1);
        LogSubscription { receiver, level, subscribe: self.clone() }
    }

    /// Returns the layer that produces records while there are subscribers.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        BroadcastLayer(self.clone()).with_filter(RequestedLevel(self.clone()))
    }
}

impl BroadcastState {
    /// Updates the subscriber counts. Callsites without subscribers are disabled through tracing's interest cache,
    /// which a change of the maximum rebuilds.
    fn update(&self, update: impl FnOnce(&mut [usize; LEVELS.len()])) {
        // Held over the rebuild, so that two changes take effect in order.
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        update(&mut subscribers);
        let max_level = subscribers.iter().rposition(|count| *count > 0).unwrap_or_default();
        if self.max_level.swap(max_level, Relaxed) != max_level {
            tracing::callsite::rebuild_interest_cache();
        }
    }

    fn max_level(&self) -> LevelFilter {
        LEVELS[self.max_level.load(Relaxed)]
    }
}

impl LogSubscription {
    /// Returns the receiver.
    pub const fn receiver(&mut self) -> &mut broadcast::Receiver<Arc<LogRecord>> {
        &mut self.receiver
    }
}

impl Drop for LogSubscription {
    fn drop(&mut self) {
        self.subscribe.0.update(|subscribers| subscribers[self.level] -= 1);
    }
}

/// Filter that passes the most verbose requested level.
struct RequestedLevel(LogBroadcast);

impl RequestedLevel {
    fn is_requested(&self, metadata: &Metadata<'_>) -> bool {
        // The gRPC libraries log while they send a record, which would be an endless loop.
        metadata.is_event()
            && metadata.target().starts_with(OWN_TARGET)
            && *metadata.level() <= self.0.0.max_level()
    }
}

impl<S> Filter<S> for RequestedLevel {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.is_requested(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.is_requested(metadata) { Interest::always() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0.0.max_level())
    }
}

/// Layer that broadcasts records.
struct BroadcastLayer(LogBroadcast);

impl<S: Subscriber> Layer<S> for BroadcastLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut fields = RecordFields::default();
        event.record(&mut fields);
        let record = LogRecord {
            at: SystemTime::now(),
            level: *metadata.level(),
            target: metadata.target(),
            message: fields.message,
            fields: fields.others,
        };
        // The last subscriber may have just left.
        let _ = self.0.0.sender.send(Arc::new(record));
    }
}

#[derive(Default)]
struct RecordFields {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl RecordFields {
    fn add(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            name => self.others.push((name, value)),
        }
    }
}

impl Visit for RecordFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }
}
