//! VPP: a connection that is re-established whenever it is lost, and the core's calls.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use maglev_core::dataplane::VppMemory;
use maglev_core::state::{Input, Output};
use maglev_core::time::WallTime;
use maglev_core::view::VppInfo;
use maglev_vpp::message::{ControlPing, ShowVersion};
use maglev_vpp::stats::{self, BOOT_TIME, MAIN_HEAP, SegmentSnapshot, StatsSegment, WORKERS};
use maglev_vpp::{ApiObserver, CallOutcome, ClientOptions, Error, VppClient};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::{debug, error, info, warn};

use crate::handle::StateReader;
use crate::metrics::{MessageDirection, Metrics, SyncScope};
use crate::published::{TrafficCounters, VppReading};
use crate::readings::ReadingBudget;
use crate::retry::RetryState;

mod calls;
mod reconnect;
mod traffic;

pub use traffic::IndexChange;

use reconnect::ReconnectState;
use traffic::TrafficReader;

/// Client name shown in VPP.
pub const CLIENT_NAME: &str = "vpp-maglev";
/// Interval of pings.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum time to receive VPP's stats segment.
const STATS_TIMEOUT: Duration = Duration::from_secs(3);

/// Command to VPP.
#[derive(Debug)]
pub enum VppCommand {
    /// Output of the core that VPP executes, with its scope in the metrics.
    Do(Output, SyncScope),
    /// Read the state for a client. On failure the sender is dropped.
    Read(oneshot::Sender<VppReading>),
}

/// Connection to VPP's API.
pub trait ConnectVpp: Send + Sync + 'static {
    /// Connects, and completes the handshake.
    fn connect(&self, options: ClientOptions) -> impl Future<Output = Result<VppClient, Error>> + Send;

    /// Returns the start time of the connected VPP, if the stats socket at `stats` provides it.
    fn boot(&self, stats: PathBuf) -> impl Future<Output = Option<WallTime>> + Send {
        boot_time(stats)
    }

    /// Returns the memory of the connected VPP, if the stats socket at `stats` provides it.
    fn memory(&self, stats: PathBuf) -> impl Future<Output = Option<VppMemory>> + Send {
        memory(stats)
    }
}

/// Connects to the socket at this path.
impl ConnectVpp for PathBuf {
    async fn connect(&self, options: ClientOptions) -> Result<VppClient, Error> {
        VppClient::connect(self, CLIENT_NAME, options).await
    }
}

/// Task that manages the connection to VPP.
pub struct VppLink<R> {
    /// Connector of VPP's API.
    pub api: R,
    /// VPP's stats socket; empty is off.
    pub stats: PathBuf,
    /// Snapshots of the core's state.
    pub state: StateReader,
    /// Receiver of traffic counters.
    pub counters: watch::Sender<Option<Arc<TrafficCounters>>>,
    /// Changes that invalidate cached indexes; each session subscribes.
    pub index_changes: broadcast::Sender<IndexChange>,
    /// Inputs to the core.
    pub inputs: mpsc::Sender<Vec<Input>>,
    /// Commands from the driver.
    pub commands: mpsc::UnboundedReceiver<VppCommand>,
    /// Counters of calls.
    pub metrics: Arc<Metrics>,
    /// Budget of VPP's time for readings.
    pub reading_budget: Arc<ReadingBudget>,
}

/// Connection to VPP, with what its stats tell.
struct ConnectedVpp {
    client: VppClient,
    info: VppInfo,
    memory: Option<VppMemory>,
}

/// Call in progress, which may result in an input of the core.
type PendingCall = BoxFuture<'static, Result<Option<Input>, Error>>;

impl<R: ConnectVpp> VppLink<R> {
    /// Connects and serves VPP until the driver ends.
    pub async fn run(mut self) {
        let mut reconnect = ReconnectState::default();
        while !self.inputs.is_closed() {
            match self.connect().await {
                Ok(connected) => {
                    let info = &connected.info;
                    info!(event = %"vpp", version = %info.version, pid = info.pid, "VPP connected");
                    let began = Instant::now();
                    self.session(connected).await;
                    if let Some(times) = reconnect.ended(began.elapsed()) {
                        error!(event = %"vpp", times, "VPP ends, or hangs up, soon after each connection: see its own log; its heap may be too small");
                    }
                }
                Err(error) => self.log_failure(&mut reconnect.retry, &error).await,
            }
            self.discard_until(sleep(reconnect.pause())).await;
        }
    }

    async fn log_failure(&self, retry: &mut RetryState, error: &Error) {
        let text = error.to_string();
        if !retry.is_new_error(&text) {
            return debug!(error = %text, "cannot connect to VPP");
        }
        match error {
            // An unusable VPP needs an operator, so it is an error; an absent one is not.
            Error::Unsupported { .. } | Error::NoPlugin { .. } => error!(error = %text, "VPP cannot be used"),
            _ => warn!(error = %text, "cannot connect to VPP, retrying"),
        }
        let _ = self.inputs.send(vec![Input::VppUnreachable(text)]).await;
    }

    /// Discards commands while VPP is away.
    async fn discard_until(&mut self, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        loop {
            tokio::select! {
                biased;
                () = &mut end => return,
                command = self.commands.recv() => if command.is_none() { return },
            }
        }
    }

    async fn connect(&self) -> Result<ConnectedVpp, Error> {
        let observer = Arc::new(CallObserver(Arc::clone(&self.metrics)));
        let options = ClientOptions { observer, ..ClientOptions::default() };
        let client = self.api.connect(options).await?;
        let (version, ping) = (client.request(&ShowVersion {}), client.request(&ControlPing {}));
        let (version, ping) = (version.await?, ping.await?);
        // A stats socket that does not answer delays both reads at once.
        let (boot, memory) =
            tokio::join!(self.api.boot(self.stats.clone()), self.api.memory(self.stats.clone()));
        let info =
            VppInfo { version: version.version.0, build_date: version.build_date.0, pid: ping.pid, boot };
        Ok(ConnectedVpp { client, info, memory })
    }

    /// Serves the core until the connection is lost.
    async fn session(&mut self, connected: ConnectedVpp) {
        if let Err(reason) = self.serve(connected).await {
            warn!(event = %"vpp", %reason, "VPP lost; if it still runs, it keeps forwarding unchanged");
            self.metrics.count_link_error("vpp", "lost");
        }
        // No input of this session follows this one.
        let _ = self.inputs.send(vec![Input::VppDown]).await;
    }

    /// Serves the connection; returns `Ok` once the driver has ended.
    async fn serve(&mut self, connected: ConnectedVpp) -> Result<(), Error> {
        let ConnectedVpp { client, info, memory } = connected;
        let client = &client;
        let mut work: FuturesUnordered<PendingCall> = FuturesUnordered::new();
        let starter = calls::CallStarter::new(client, &self.metrics, &self.reading_budget);
        let mut pings = interval(PING_INTERVAL);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Commands for an earlier session are void; the first one of this session is to read everything.
        let mut all_read = false;
        let first = std::iter::once(Input::VppUp(info)).chain(memory.map(Input::VppMeasured)).collect();
        if self.inputs.send(first).await.is_err() {
            return Ok(());
        }
        let traffic = TrafficReader::new(
            client.clone(),
            self.stats.clone(),
            self.state.clone(),
            self.counters.clone(),
            self.index_changes.subscribe(),
            self.inputs.clone(),
        );
        let mut traffic = std::pin::pin!(traffic.run());
        loop {
            tokio::select! {
                biased;
                reason = client.closed() => {
                    // Each call has its result by now. Runs of steps count the applied ones.
                    while work.next().await.is_some() {}
                    return Err(Error::Lost(reason));
                }
                _ = pings.tick() => {
                    let ping = client.request(&ControlPing {});
                    work.push(Box::pin(async move { ping.await.map(|_| None) }));
                }
                command = self.commands.recv() => {
                    let Some(command) = command else { return Ok(()) };
                    all_read |= matches!(command, VppCommand::Do(Output::ReadAll, _));
                    if all_read {
                        work.push(starter.start(command));
                    }
                }
                Some(done) = work.next(), if !work.is_empty() => {
                    if let Some(input) = done? && self.inputs.send(vec![input]).await.is_err() {
                        return Ok(());
                    }
                }
                lost = &mut traffic => match lost? {},
            }
        }
    }
}

/// Returns VPP's start time. VPP is managed even if its stats are unreadable.
async fn boot_time(path: PathBuf) -> Option<WallTime> {
    let seconds = read_stats(path, |now| now.scalar(BOOT_TIME)).await;
    let seconds = seconds.inspect_err(|error| warn!(%error, "cannot read VPP's start time"));
    Some(WallTime(seconds.ok()??.saturating_mul(1_000_000_000)))
}

/// Returns VPP's memory. Without it, nothing is refused for want of memory.
async fn memory(path: PathBuf) -> Option<VppMemory> {
    let read = read_stats(path, read_memory).await;
    read.inspect_err(|error| debug!(%error, "cannot read VPP's memory")).ok()?
}

fn read_memory(now: &SegmentSnapshot<'_>) -> Result<Option<VppMemory>, stats::Error> {
    let heap = now.simple(MAIN_HEAP, &[0, 2].into())?.unwrap_or_default();
    let gauge = |index| heap.get(&index).copied().unwrap_or_default();
    let workers = now.scalar(WORKERS)?.and_then(|workers| u32::try_from(workers).ok());
    let (total, free) = (gauge(0), gauge(2));
    // The gauges are 0 until VPP has computed them, soon after its start.
    Ok(workers.filter(|_| total > 0).map(|workers| VppMemory { total, free, workers }))
}

/// Reads the stats segment; `None` without a path, and during shutdown.
async fn read_stats<T: Send + 'static>(
    path: PathBuf,
    look: fn(&SegmentSnapshot<'_>) -> Result<Option<T>, stats::Error>,
) -> Result<Option<T>, stats::Error> {
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let read = move || StatsSegment::open(&path, STATS_TIMEOUT)?.read(look);
    tokio::task::spawn_blocking(read).await.unwrap_or(Ok(None))
}

/// Observer that counts and logs messages.
struct CallObserver(Arc<Metrics>);

impl ApiObserver for CallObserver {
    fn sent(&self, message: &'static str, success: bool) {
        debug!(message, direction = "send", success, "VPP API message");
        self.0.count_vpp_message(message, MessageDirection::Sent, success);
    }

    fn received(&self, message: &'static str, success: bool) {
        debug!(message, direction = "recv", success, "VPP API message");
        self.0.count_vpp_message(message, MessageDirection::Received, success);
    }

    fn ended(&self, message: &'static str, _: CallOutcome, took: Duration) {
        self.0.observe_vpp_call(message, took);
    }

    fn unmatched_reply(&self) {
        self.0.count_link_error("vpp", "unmatched_reply");
    }
}
