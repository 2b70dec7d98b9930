//! Event stream: a replay of the current state, then live events.

use std::future::Future;
use std::sync::Arc;

use futures_util::{Stream, stream};
use maglev_core::event::{Event, EventCategory, Kind};
use maglev_core::view::View;
use maglev_proto::v1::{EventKind, LogLevel, WatchEventsRequest, WatchEventsResponse};
use tokio::sync::{broadcast, watch};
use tonic::Status;
use tracing::Level;

use super::answers::{CallHold, HeldBytes};
use super::status::shutting_down;
use super::{convert, stopped};
use crate::handle::{Handle, ShuttingDown};
use crate::log::{self, LogRecord, LogSubscription};
use crate::metrics::WatchGuard;

/// Estimated memory of a backend or frontend in a view, in bytes.
const ITEM_BYTES: usize = 1 << 10;

/// Event kinds that a subscriber requested.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventFilter {
    backend: bool,
    frontend: bool,
    vpp: bool,
    operator: bool,
    log: Option<Level>,
}

impl TryFrom<&WatchEventsRequest> for EventFilter {
    type Error = Status;

    fn try_from(request: &WatchEventsRequest) -> Result<Self, Status> {
        if request.kinds.is_empty() {
            return Ok(Self { backend: true, frontend: true, vpp: true, operator: true, log: None });
        }
        let level = parse_level(request.log_level)?;
        let mut filter = Self::default();
        for kind in &request.kinds {
            match EventKind::try_from(*kind) {
                Ok(EventKind::Backend) => filter.backend = true,
                Ok(EventKind::Frontend) => filter.frontend = true,
                Ok(EventKind::Vpp) => filter.vpp = true,
                Ok(EventKind::Operator) => filter.operator = true,
                Ok(EventKind::Log) => filter.log = Some(level),
                Ok(EventKind::Unspecified) | Err(_) => {
                    return Err(Status::invalid_argument(format!("unknown event kind {kind}")));
                }
            }
        }
        Ok(filter)
    }
}

fn parse_level(number: i32) -> Result<Level, Status> {
    match LogLevel::try_from(number) {
        Ok(LogLevel::Error) => Ok(Level::ERROR),
        Ok(LogLevel::Warn) => Ok(Level::WARN),
        Ok(LogLevel::Info | LogLevel::Unspecified) => Ok(Level::INFO),
        Ok(LogLevel::Debug) => Ok(Level::DEBUG),
        Ok(LogLevel::Trace) => Ok(Level::TRACE),
        Err(_) => Err(Status::invalid_argument(format!("unknown log level {number}"))),
    }
}

impl EventFilter {
    /// Returns true if any kind but the log is requested.
    const fn has_events(self) -> bool {
        self.backend || self.frontend || self.vpp || self.operator
    }

    const fn matches_event(self, kind: &Kind) -> bool {
        match kind.category() {
            EventCategory::Backend => self.backend,
            EventCategory::Frontend => self.frontend,
            EventCategory::Vpp => self.vpp,
            EventCategory::Operator => self.operator,
            EventCategory::Configuration => self.backend || self.frontend,
        }
    }

    fn matches_record(self, record: &LogRecord) -> bool {
        self.log.is_some_and(|max_level| record.level <= max_level)
    }
}

/// Returns a stream of the current state, marked as replay, and then of events, until `stopping` is true.
///
/// `hold` counts the view of the replay until the client has taken it.
///
/// # Errors
/// UNAVAILABLE during shutdown; RESOURCE_EXHAUSTED without memory for the view.
pub async fn events(
    filter: EventFilter,
    handle: &Handle,
    log: &log::LogBroadcast,
    guard: WatchGuard,
    hold: Option<CallHold>,
    stopping: watch::Receiver<bool>,
) -> Result<impl Stream<Item = Result<WatchEventsResponse, Status>> + Send + use<>, Status> {
    // Subscribe before taking the view, so that no event is missed between.
    let events = filter.has_events().then(|| handle.events());
    let records = filter.log.map(|level| log.records(level));
    let view = handle.view().await.map_err(shutting_down)?;
    if let Some(hold) = &hold {
        let length = (view.backends.len() + view.frontends.len()) * ITEM_BYTES;
        hold.hold(HeldBytes { address: std::ptr::from_ref(&*view).addr(), length, expires: false })?;
    }
    let replay: Box<dyn Iterator<Item = WatchEventsResponse> + Send> = Box::new(replay(view, filter));
    let replay = Some(replay);
    let stop = Box::pin(stopped(stopping));
    let subscriber = EventSubscriber { filter, replay, hold, events, records, guard, stop };
    Ok(stream::unfold(Some(subscriber), |subscriber| async {
        let mut subscriber = subscriber?;
        let next = subscriber.next().await;
        let rest = next.is_ok().then_some(subscriber);
        Some((next, rest))
    }))
}

/// Converts each item when the client reads it: a slow client costs no memory, even at ten thousand backends.
fn replay(view: Arc<View>, filter: EventFilter) -> impl Iterator<Item = WatchEventsResponse> + Send {
    let prober = filter.backend.then(|| convert::prober_now(&view.prober));
    let vpp = (filter.vpp && view.vpp.enabled).then(|| convert::vpp_now(&view.vpp));
    let backends = if filter.backend { view.backends.len() } else { 0 };
    let frontends = if filter.frontend { view.frontends.len() } else { 0 };
    let other = view.clone();
    let backends = (0..backends).map(move |i| convert::backend_now(&view.backends[i]));
    let frontends = (0..frontends).map(move |i| convert::frontend_now(&other.frontends[i]));
    prober.into_iter().chain(backends).chain(frontends).chain(vpp)
}

struct EventSubscriber {
    filter: EventFilter,
    /// Items still to replay; `None` after the replay.
    replay: Option<Box<dyn Iterator<Item = WatchEventsResponse> + Send>>,
    /// Memory of the replay's view.
    hold: Option<CallHold>,
    events: Option<broadcast::Receiver<Arc<Event>>>,
    records: Option<LogSubscription>,
    guard: WatchGuard,
    stop: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl EventSubscriber {
    /// Returns the next requested event, or the status that ends the stream.
    async fn next(&mut self) -> Result<WatchEventsResponse, Status> {
        if let Some(replay) = &mut self.replay {
            if let Some(response) = replay.next() {
                return Ok(response);
            }
            self.replay = None;
            if let Some(hold) = self.hold.take() {
                hold.release();
            }
        }
        loop {
            let response = tokio::select! {
                biased;
                () = &mut self.stop => return Err(Status::unavailable(ShuttingDown.to_string())),
                event = receive(self.events.as_mut()) => match event? {
                    ReceivedItem::Item(event) if self.filter.matches_event(&event.kind) => convert::event(&event),
                    ReceivedItem::Item(_) => continue,
                    ReceivedItem::Lost(count) => {
                        self.guard.lost_events(count);
                        convert::dropped(count)
                    }
                },
                record = receive(self.records.as_mut().map(LogSubscription::receiver)) => match record? {
                    ReceivedItem::Item(record) if self.filter.matches_record(&record) => convert::record(&record),
                    ReceivedItem::Item(_) => continue,
                    ReceivedItem::Lost(count) => {
                        self.guard.lost_records(count);
                        convert::dropped(count)
                    }
                },
            };
            return Ok(response);
        }
    }
}

enum ReceivedItem<T> {
    Item(T),
    Lost(u64),
}

/// Waits for ever if there is no subscription.
async fn receive<T: Clone>(receiver: Option<&mut broadcast::Receiver<T>>) -> Result<ReceivedItem<T>, Status> {
    let Some(receiver) = receiver else { return std::future::pending().await };
    match receiver.recv().await {
        Ok(item) => Ok(ReceivedItem::Item(item)),
        Err(broadcast::error::RecvError::Lagged(count)) => Ok(ReceivedItem::Lost(count)),
        Err(broadcast::error::RecvError::Closed) => Err(Status::unavailable(ShuttingDown.to_string())),
    }
}
