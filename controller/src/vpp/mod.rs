//! VPP: a connection that is sought again whenever it is lost, and the calls that the core asks for.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use maglev_core::dataplane::{Actual, VipKey};
use maglev_core::state::{Input, Output};
use maglev_core::time::Wall;
use maglev_core::view::VppInfo;
use maglev_vpp::message::{ControlPing, ShowVersion};
use maglev_vpp::stats::{BOOT_TIME, Segment};
use maglev_vpp::{Client, Error, Observer, Options};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{debug, error, info, warn};

use crate::handle::Handle;
use crate::metrics::{CallDirection, Metrics, SyncScope};
use crate::retry::RetryState;

mod calls;
mod traffic;

pub use traffic::{TrafficCounters, VipCounters, VipPackets};

use traffic::TrafficReader;

/// How VPP's operator sees us.
pub const CLIENT_NAME: &str = "vpp-maglev";
/// How often VPP is asked whether it lives.
const PING_PERIOD: Duration = Duration::from_secs(1);

/// How long VPP may take to hand over its stats segment.
const STATS_LIMIT: Duration = Duration::from_secs(3);

/// Something to be asked of VPP.
#[derive(Debug)]
pub enum VppCommand {
    /// One of the outputs that are VPP's to answer, and what it is counted under.
    Do(Output, SyncScope),
    /// What VPP has, for somebody who asks. Dropped without an answer if it cannot be read.
    Read(oneshot::Sender<VppReading>),
}

/// What VPP has, for somebody who asks.
#[derive(Clone, Debug)]
pub struct VppReading {
    /// What it has.
    pub actual: Actual,
    /// The flows of each VIP's servers, those that have expired and are still kept included, as far as VPP tells.
    pub flows: BTreeMap<(VipKey, IpAddr), u64>,
}

/// How VPP's API is reached.
pub trait ConnectVpp: Send + Sync + 'static {
    /// Connects, and shakes hands.
    fn connect(&self, options: Options) -> impl Future<Output = Result<Client, Error>> + Send;

    /// When the VPP that is reached started, if its stats at `stats` tell.
    fn boot(&self, stats: PathBuf) -> impl Future<Output = Option<Wall>> + Send {
        boot_time(stats)
    }
}

/// At the socket of that path.
impl ConnectVpp for PathBuf {
    async fn connect(&self, options: Options) -> Result<Client, Error> {
        Client::connect(self, CLIENT_NAME, options).await
    }
}

/// The task that speaks to VPP.
pub struct VppLink<R> {
    /// How VPP's API is reached.
    pub api: R,
    /// VPP's stats socket; empty does without.
    pub stats: PathBuf,
    /// Where the counters go.
    pub handle: Handle,
    /// To the core.
    pub inputs: mpsc::Sender<Vec<Input>>,
    /// From the core.
    pub commands: mpsc::UnboundedReceiver<VppCommand>,
    /// Where calls are counted.
    pub metrics: Arc<Metrics>,
}

/// A call under way; what it ends with is told to the core.
type PendingCall = BoxFuture<'static, Result<Option<Input>, Error>>;

impl<R: ConnectVpp> VppLink<R> {
    /// Keeps a connection to VPP for as long as there is a core to tell.
    pub async fn run(mut self) {
        let mut retry = RetryState::default();
        while !self.inputs.is_closed() {
            match self.connect().await {
                Ok((client, info)) => {
                    retry.reset();
                    info!(event = %"vpp", version = %info.version, pid = info.pid, "VPP connected");
                    self.session(client, info).await;
                }
                Err(error) => self.log_failure(&mut retry, &error).await,
            }
            let pause = sleep(retry.pause());
            self.refuse_until(pause).await;
        }
    }

    async fn log_failure(&self, retry: &mut RetryState, error: &Error) {
        let text = error.to_string();
        if !retry.is_new_error(&text) {
            return debug!(error = %text, "VPP is not to be had");
        }
        match error {
            // A VPP that cannot be used is worth more noise than one that is not there.
            Error::Unsupported { .. } | Error::NoPlugin { .. } => error!(error = %text, "VPP cannot be used"),
            _ => warn!(error = %text, "VPP is not to be had; it is tried again"),
        }
        let _ = self.inputs.send(vec![Input::VppAway(text)]).await;
    }

    /// Refuses whatever is asked while there is no VPP.
    async fn refuse_until(&mut self, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        loop {
            tokio::select! {
                biased;
                () = &mut end => return,
                command = self.commands.recv() => if command.is_none() { return },
            }
        }
    }

    async fn connect(&self) -> Result<(Client, VppInfo), Error> {
        let observer = Arc::new(CallObserver(Arc::clone(&self.metrics)));
        let options = Options { observer, ..Options::default() };
        let client = self.api.connect(options).await?;
        let (version, ping) = (client.request(&ShowVersion {}), client.request(&ControlPing {}));
        let (version, ping) = (version.await?, ping.await?);
        let boot = self.api.boot(self.stats.clone()).await;
        let info =
            VppInfo { version: version.version.0, build_date: version.build_date.0, pid: ping.pid, boot };
        Ok((client, info))
    }

    /// Serves the core until the connection is lost.
    async fn session(&mut self, client: Client, info: VppInfo) {
        if let Err(reason) = self.serve(&client, info).await {
            warn!(event = %"vpp", %reason, "VPP lost; it forwards as it was last told");
            self.metrics.link_error("vpp", "lost");
        }
        // Nothing of this session comes after this.
        let _ = self.inputs.send(vec![Input::VppDown]).await;
    }

    /// Ends without an error when there is no core left to serve.
    async fn serve(&mut self, client: &Client, info: VppInfo) -> Result<(), Error> {
        let mut work: FuturesUnordered<PendingCall> = FuturesUnordered::new();
        let mut pings = interval(PING_PERIOD);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // What was asked of an earlier session is void; the first thing asked of this one is to read everything.
        let mut begun = false;
        if self.inputs.send(vec![Input::VppUp(info)]).await.is_err() {
            return Ok(());
        }
        let traffic =
            TrafficReader::new(client.clone(), self.stats.clone(), self.handle.clone(), self.inputs.clone());
        let mut traffic = std::pin::pin!(traffic.run());
        loop {
            tokio::select! {
                biased;
                reason = client.closed() => return Err(Error::Lost(reason)),
                _ = pings.tick() => {
                    let ping = client.request(&ControlPing {});
                    work.push(Box::pin(async move { ping.await.map(|_| None) }));
                }
                command = self.commands.recv() => {
                    let Some(command) = command else { return Ok(()) };
                    begun |= matches!(command, VppCommand::Do(Output::ReadAll, _));
                    if begun {
                        work.push(calls::start(client, command, &self.metrics));
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

/// When VPP started. A VPP whose stats cannot be read is programmed all the same.
async fn boot_time(path: PathBuf) -> Option<Wall> {
    if path.as_os_str().is_empty() {
        return None;
    }
    let read = move || Segment::open(&path, STATS_LIMIT)?.read(|now| now.scalar(BOOT_TIME));
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(seconds)) => seconds.map(|seconds| Wall(seconds.saturating_mul(1_000_000_000))),
        Ok(Err(error)) => {
            warn!(%error, "it is not known since when VPP runs");
            None
        }
        // The runtime is going down.
        Err(_) => None,
    }
}

/// Counts each call.
struct CallObserver(Arc<Metrics>);

impl Observer for CallObserver {
    fn sent(&self, message: &'static str) {
        self.0.vpp_call(message, CallDirection::Sent, "ok", None);
    }

    fn ended(&self, message: &'static str, outcome: maglev_vpp::Outcome, took: Duration) {
        let result = match outcome {
            maglev_vpp::Outcome::Ok => "ok",
            maglev_vpp::Outcome::Refused => "refused",
            maglev_vpp::Outcome::Timeout => "timeout",
            maglev_vpp::Outcome::Lost => "lost",
        };
        self.0.vpp_call(message, CallDirection::Received, result, Some(took));
    }

    fn stray(&self) {
        self.0.link_error("vpp", "stray");
    }
}
