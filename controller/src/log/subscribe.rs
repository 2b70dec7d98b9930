//! How subscribers of the API hear the log: each from a level of its own, whatever goes to standard error.

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

use super::OWN;

/// How many records a subscriber may lag behind before it loses the oldest.
const BACKLOG: usize = 1024;

/// From the least that can be asked for to the most.
const LEVELS: [LevelFilter; 6] = [
    LevelFilter::OFF,
    LevelFilter::ERROR,
    LevelFilter::WARN,
    LevelFilter::INFO,
    LevelFilter::DEBUG,
    LevelFilter::TRACE,
];

/// A log record, for subscribers.
#[derive(Clone, Debug)]
pub struct LogRecord {
    /// When it was written.
    pub at: SystemTime,
    /// How severe it is.
    pub level: Level,
    /// The part of the program that wrote it.
    pub target: &'static str,
    /// What it says.
    pub message: String,
    /// Its fields, in the order in which they were written.
    pub fields: Vec<(&'static str, String)>,
}

/// Where subscribers get the log.
#[derive(Clone, Debug)]
pub struct LogBroadcast(Arc<BroadcastState>);

#[derive(Debug)]
struct BroadcastState {
    sender: broadcast::Sender<Arc<LogRecord>>,
    /// How many subscribers ask for each of [`LEVELS`].
    asked: Mutex<[usize; LEVELS.len()]>,
    /// The index of the most verbose level that anybody asks for.
    max_level: AtomicUsize,
}

/// What one subscriber hears. As long as it is there, records of its level are made.
#[derive(Debug)]
pub struct LogSubscription {
    receiver: broadcast::Receiver<Arc<LogRecord>>,
    level: usize,
    subscribe: LogBroadcast,
}

impl Default for LogBroadcast {
    fn default() -> Self {
        let (sender, _) = broadcast::channel(BACKLOG);
        Self(Arc::new(BroadcastState { sender, asked: Mutex::default(), max_level: AtomicUsize::new(0) }))
    }
}

impl LogBroadcast {
    /// What is logged from now on, at `level` and above, and what else others ask for. A receiver that lags too far
    /// loses the oldest, and is told.
    #[must_use]
    pub fn records(&self, level: Level) -> LogSubscription {
        let level = LEVELS.iter().position(|known| *known == level).unwrap_or_default();
        let receiver = self.0.sender.subscribe();
        self.0.change(|asked| asked[level] += 1);
        LogSubscription { receiver, level, subscribe: self.clone() }
    }

    /// The layer that makes records, for as long as somebody asks for them.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        BroadcastLayer(self.clone()).with_filter(RequestedLevel(self.clone()))
    }
}

impl BroadcastState {
    /// Where nobody asks for a record, its place in the program is told so once, and then costs nothing. When that
    /// changes, every place is told anew.
    fn change(&self, change: impl FnOnce(&mut [usize; LEVELS.len()])) {
        // Held until all is told, so that two changes are told in their order.
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut asked);
        let max_level = asked.iter().rposition(|count| *count > 0).unwrap_or_default();
        if self.max_level.swap(max_level, Relaxed) != max_level {
            tracing::callsite::rebuild_interest_cache();
        }
    }

    fn max_level(&self) -> LevelFilter {
        LEVELS[self.max_level.load(Relaxed)]
    }
}

impl LogSubscription {
    /// Where they arrive.
    pub const fn receiver(&mut self) -> &mut broadcast::Receiver<Arc<LogRecord>> {
        &mut self.receiver
    }
}

impl Drop for LogSubscription {
    fn drop(&mut self) {
        self.subscribe.0.change(|asked| asked[self.level] -= 1);
    }
}

/// Lets through what anybody asks for.
struct RequestedLevel(LogBroadcast);

impl RequestedLevel {
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        // What the gRPC libraries log while they send a record would itself be a record to send, and so on for ever.
        metadata.is_event() && metadata.target().starts_with(OWN) && *metadata.level() <= self.0.0.max_level()
    }
}

impl<S> Filter<S> for RequestedLevel {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) { Interest::always() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0.0.max_level())
    }
}

/// Makes records of what is let through.
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
        // The last subscriber may just have left.
        let _ = self.0.0.sender.send(Arc::new(record));
    }
}

#[derive(Default)]
struct RecordFields {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl RecordFields {
    fn put(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            name => self.others.push((name, value)),
        }
    }
}

impl Visit for RecordFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}
