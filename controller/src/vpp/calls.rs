//! Conversion between the core's types and VPP's messages.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use maglev_core::dataplane::{self, ActualAs, ActualState, ActualVip, LbConf, Step, VipKey, VipPlan};
use maglev_core::plan::StepCounts;
use maglev_core::state::{Input, ListedVip, Output};
use maglev_vpp::cli::{self, ShownVip};
use maglev_vpp::message::{
    self, CliInband, LbAddDelAsV2, LbAddDelVipV2, LbAsSetWeight, LbAsV2Details, LbAsV2Dump, LbConfGet,
    LbConfGetReply, LbEncapType, LbVipDetails, LbVipDump, Prefix, Vip,
};
use maglev_vpp::{Error, VppClient};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::{PendingCall, VppCommand};
use crate::metrics::{Metrics, SyncScope};
use crate::published::VppReading;
use crate::readings::ReadingBudget;

/// Maximum length of a requested listing in lines: about 5 MB, during which VPP stalls for 0.1 s.
const MAX_LINES: usize = 100_000;

/// Lines of a VIP in the listing, without its servers.
const LINES_PER_VIP: usize = 10;

/// Maximum time for which a request of a client's reading waits for steps.
const STEPS_FIRST: Duration = Duration::from_secs(1);

/// VPP's error number for a missing entry.
const NO_SUCH_ENTRY: i32 = -6;

type CallResult = Result<Option<Input>, Error>;

/// Starts the calls of one session.
pub struct CallStarter<'a> {
    client: &'a VppClient,
    metrics: &'a Arc<Metrics>,
    budget: &'a Arc<ReadingBudget>,
    /// Number of runs of steps in progress. The next request of a client's reading waits until it is 0.
    runs: watch::Sender<usize>,
}

impl<'a> CallStarter<'a> {
    /// Begins a session.
    pub fn new(client: &'a VppClient, metrics: &'a Arc<Metrics>, budget: &'a Arc<ReadingBudget>) -> Self {
        Self { client, metrics, budget, runs: watch::Sender::new(0) }
    }

    /// Starts a command. VPP receives commands in call order, but for a client's reading: steps overtake it.
    pub fn start(&self, command: VppCommand) -> PendingCall {
        let client = self.client;
        let (output, scope) = match command {
            VppCommand::Do(output, scope) => (output, scope),
            VppCommand::Read(answer) => return self.read_for_client(answer),
        };
        match output {
            Output::ReadAll => self.charged(read_all(client)),
            Output::ListVips => self.charged(list(client)),
            Output::ReadServers(vip) => self.charged(read_servers(client, vip)),
            Output::ReadVip(vip) => self.charged(read_vip(client, vip)),
            Output::SetConf(conf) => Box::pin(set_conf(client, &conf)),
            Output::Apply(run) => self.apply(run, scope),
            Output::SetChecks(_) | Output::SetInterval(..) | Output::Event(_) => Box::pin(async { Ok(None) }),
        }
    }

    fn apply(&self, run: VipPlan, scope: SyncScope) -> PendingCall {
        let (client, metrics) = (self.client.clone(), Arc::clone(self.metrics));
        let guard = RunGuard::new(&self.runs);
        Box::pin(async move {
            let _guard = guard;
            let mut progress = RunProgress { run, done: 0, scope, began: Instant::now(), metrics };
            let error = apply_steps(&client, &mut progress).await?;
            Ok(Some(Input::StepsApplied { vip: progress.run.vip, done: progress.done, error }))
        })
    }

    /// Charges the reconciler's reading to the budget.
    fn charged(&self, reading: impl Future<Output = CallResult> + Send + 'static) -> PendingCall {
        let (budget, began) = (Arc::clone(self.budget), Instant::now());
        Box::pin(async move {
            let result = reading.await;
            budget.charge_reconciler(began.elapsed());
            result
        })
    }

    fn read_for_client(&self, answer: oneshot::Sender<VppReading>) -> PendingCall {
        let pace = ReadingPace { runs: self.runs.subscribe(), budget: Arc::clone(self.budget) };
        let client = self.client.clone();
        Box::pin(async move {
            // The requester may have gone.
            let _ = answer.send(read_whole(&client, pace).await?);
            Ok(None)
        })
    }
}

/// Run of steps in progress, until dropped.
struct RunGuard(watch::Sender<usize>);

impl RunGuard {
    fn new(runs: &watch::Sender<usize>) -> Self {
        runs.send_modify(|runs| *runs += 1);
        Self(runs.clone())
    }
}

impl Drop for RunGuard {
    fn drop(&mut self) {
        self.0.send_modify(|runs| *runs -= 1);
    }
}

/// Pace of a client's reading: one request at a time, each after the steps in progress, and charged to the budget.
struct ReadingPace {
    runs: watch::Receiver<usize>,
    budget: Arc<ReadingBudget>,
}

impl ReadingPace {
    async fn request<T>(&mut self, request: impl AsyncFnOnce() -> T) -> T {
        // A storm of steps delays a request for so long only. The sender lives as long as the session.
        let _ = timeout(STEPS_FIRST, self.runs.wait_for(|runs| *runs == 0)).await;
        let began = Instant::now();
        let result = request().await;
        self.budget.charge_client(began.elapsed());
        result
    }
}

fn read_all(client: &VppClient) -> impl Future<Output = CallResult> + use<> {
    // All requests are sent now, in the order of the core's commands.
    let conf = client.request(&LbConfGet {});
    let vips = client.dump(&LbVipDump::all());
    let servers = client.dump(&LbAsV2Dump::all());
    let client = client.clone();
    async move {
        let mut actual = actual_state(&conf.await?, &vips.await?, &servers.await?);
        let shown = listing(&client, &actual).await?.unwrap_or_default();
        set_sticky(&mut actual, &shown);
        Ok(Some(Input::AllRead(actual)))
    }
}

/// Reads VPP's state for a client.
async fn read_whole(client: &VppClient, mut pace: ReadingPace) -> Result<VppReading, Error> {
    let conf = pace.request(async || client.request(&LbConfGet {}).await).await?;
    let vips = pace.request(async || client.dump(&LbVipDump::all()).await).await?;
    let servers = pace.request(async || client.dump(&LbAsV2Dump::all()).await).await?;
    let mut actual = actual_state(&conf, &vips, &servers);
    let shown = pace.request(async || listing(client, &actual).await).await?.unwrap_or_default();
    set_sticky(&mut actual, &shown);
    Ok(VppReading { actual, flows: flows(&shown) })
}

fn set_sticky(actual: &mut ActualState, shown: &[ShownVip]) {
    for shown in shown {
        if let Some(found) = actual.vips.get_mut(&key(&shown.vip)) {
            found.src_ip_sticky = Some(shown.src_ip_sticky);
        }
    }
}

/// Reads VPP's CLI listing of VIPs, which has more than the API. Returns `None` if VPP refuses it, or if it would be
/// too long.
///
/// # Errors
/// VPP is lost.
pub async fn listing(client: &VppClient, actual: &ActualState) -> Result<Option<Vec<ShownVip>>, Error> {
    if actual.vips.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let servers: usize = actual.vips.values().map(|found| found.servers.len()).sum();
    if actual.vips.len() * LINES_PER_VIP + servers > MAX_LINES {
        return Ok(None);
    }
    match client.request(&CliInband::new(cli::SHOW_VIPS)).await {
        Ok(reply) if reply.retval == 0 => Ok(Some(cli::parse_vips(&reply.output.0))),
        Ok(_) | Err(Error::Refused { .. } | Error::Timeout { .. }) => Ok(None),
        Err(lost) => Err(lost),
    }
}

fn flows(shown: &[ShownVip]) -> BTreeMap<(VipKey, IpAddr), u64> {
    let of_vip = |vip: &ShownVip| {
        let name = key(&vip.vip);
        let servers = vip.servers.iter().filter(|server| server.in_use);
        servers.map(|server| ((name, server.address), server.flows)).collect::<Vec<_>>()
    };
    shown.iter().flat_map(of_vip).collect()
}

fn actual_state(conf: &LbConfGetReply, vips: &[LbVipDetails], servers: &[LbAsV2Details]) -> ActualState {
    let mut actual = ActualState { conf: Some(conf_of(conf)), vips: BTreeMap::new() };
    for details in vips {
        let ListedVip { encap, table_length } = listed(details);
        let found = ActualVip { encap, table_length, src_ip_sticky: None, servers: BTreeMap::new() };
        actual.vips.insert(key(&details.vip), found);
    }
    for details in servers.iter().filter(|d| d.is_in_use()) {
        // VPP still lists servers of a removed VIP until it is garbage-collected.
        if let Some(found) = actual.vips.get_mut(&key(&details.vip)) {
            found.servers.insert(details.address, server(details));
        }
    }
    actual
}

fn list(client: &VppClient) -> impl Future<Output = CallResult> + use<> {
    let conf = client.request(&LbConfGet {});
    let vips = client.dump(&LbVipDump::all());
    async move {
        let (conf, vips) = (conf.await?, vips.await?);
        let vips = vips.iter().map(|details| (key(&details.vip), listed(details))).collect();
        Ok(Some(Input::VipsListed(Some(conf_of(&conf)), vips)))
    }
}

fn read_servers(client: &VppClient, vip: VipKey) -> impl Future<Output = CallResult> + use<> {
    let servers = client.dump(&LbAsV2Dump::of_vip(&name(&vip)));
    async move { Ok(Some(Input::ServersRead(vip, servers_in_use(vip, &servers.await?)))) }
}

fn read_vip(client: &VppClient, vip: VipKey) -> impl Future<Output = CallResult> + use<> {
    let vips = client.dump(&LbVipDump::all());
    let servers = client.dump(&LbAsV2Dump::of_vip(&name(&vip)));
    async move {
        let (vips, servers) = (vips.await?, servers.await?);
        let found = vips.iter().find(|details| key(&details.vip) == vip).map(|details| {
            let ListedVip { encap, table_length } = listed(details);
            ActualVip { encap, table_length, src_ip_sticky: None, servers: servers_in_use(vip, &servers) }
        });
        Ok(Some(Input::VipRead(vip, found)))
    }
}

fn set_conf(client: &VppClient, conf: &LbConf) -> impl Future<Output = CallResult> + use<> {
    let call = client.request(&message::LbConf {
        ip4_src: conf.ipv4_src,
        ip6_src: conf.ipv6_src,
        sticky_buckets: conf.sticky_buckets_per_core,
        flow_timeout: conf.flow_timeout,
    });
    async move { Ok(Some(Input::ConfSet(split_refusal(call.await.map(drop))?))) }
}

/// Steps under way. Counts the applied ones when dropped, also when VPP is lost before the last.
struct RunProgress {
    run: VipPlan,
    /// Number of applied steps.
    done: usize,
    scope: SyncScope,
    began: Instant,
    metrics: Arc<Metrics>,
}

impl Drop for RunProgress {
    fn drop(&mut self) {
        let counts = StepCounts::of(&self.run.steps[..self.done]);
        self.metrics.count_sync(self.scope, &counts, self.began.elapsed());
    }
}

/// Applies steps until one is refused, and returns VPP's error.
async fn apply_steps(client: &VppClient, progress: &mut RunProgress) -> Result<Option<String>, Error> {
    let vip = name(&progress.run.vip);
    for step in &progress.run.steps {
        let error = split_refusal(apply_step(client, vip, step).await)?;
        if error.is_some() {
            return Ok(error);
        }
        progress.done += 1;
    }
    Ok(None)
}

async fn apply_step(client: &VppClient, vip: Vip, step: &Step) -> Result<(), Error> {
    match *step {
        Step::CreateVip { encap, src_ip_sticky, table_length } => {
            let call = LbAddDelVipV2::add(vip, wire_encap(encap), table_length, src_ip_sticky);
            client.request(&call).await.map(drop)
        }
        Step::AddAs { server, weight } => {
            client.request(&LbAddDelAsV2::add(vip, server, weight)).await.map(drop)
        }
        Step::SetWeight { server, to, flush, .. } => {
            let call = LbAsSetWeight { vip, address: server, weight: to, is_flush: flush };
            client.request(&call).await.map(drop)
        }
        Step::RemoveAs { server } => {
            ignore_missing(client.request(&LbAddDelAsV2::delete(vip, server, true)).await)
        }
        Step::RemoveVip => ignore_missing(client.request(&LbAddDelVipV2::delete(vip)).await),
    }
}

/// Treats NO_SUCH_ENTRY as success of a removal. VPP returns it for some VIPs that it has just removed.
fn ignore_missing<T>(result: Result<T, Error>) -> Result<(), Error> {
    match result {
        Err(Error::Refused { retval: NO_SUCH_ENTRY, .. }) => Ok(()),
        other => other.map(drop),
    }
}

/// Separates a refusal, which concerns one VIP, from the loss of VPP, which ends the session.
fn split_refusal(result: Result<(), Error>) -> Result<Option<String>, Error> {
    match result {
        Ok(()) => Ok(None),
        Err(error @ (Error::Refused { .. } | Error::Hazard { .. })) => Ok(Some(error.to_string())),
        Err(lost) => Err(lost),
    }
}

fn servers_in_use(vip: VipKey, servers: &[LbAsV2Details]) -> BTreeMap<IpAddr, ActualAs> {
    let of_vip = servers.iter().filter(|d| d.is_in_use() && key(&d.vip) == vip);
    of_vip.map(|details| (details.address, server(details))).collect()
}

const fn server(details: &LbAsV2Details) -> ActualAs {
    ActualAs { weight: details.weight, buckets: details.num_buckets }
}

fn listed(details: &LbVipDetails) -> ListedVip {
    // VPP truncates the length, a power of two, to 16 bits.
    let table_length = Some(u32::from(details.flow_table_length)).filter(|length| *length > 0);
    ListedVip { encap: core_encap(details.encap), table_length }
}

const fn conf_of(conf: &LbConfGetReply) -> LbConf {
    LbConf {
        ipv4_src: conf.ip4_src,
        ipv6_src: conf.ip6_src,
        sticky_buckets_per_core: conf.sticky_buckets,
        flow_timeout: conf.flow_timeout,
    }
}

/// Converts a VIP from VPP's type.
pub(super) const fn key(vip: &Vip) -> VipKey {
    VipKey { address: vip.prefix.address, prefix_len: vip.prefix.len, protocol: vip.protocol, port: vip.port }
}

/// Converts a VIP to VPP's type.
pub(super) const fn name(vip: &VipKey) -> Vip {
    let prefix = Prefix { address: vip.address, len: vip.prefix_len };
    Vip { prefix, protocol: vip.protocol, port: vip.port }
}

const fn wire_encap(encap: dataplane::Encap) -> LbEncapType {
    match encap {
        dataplane::Encap::Gre4 => LbEncapType::Gre4,
        dataplane::Encap::Gre6 => LbEncapType::Gre6,
        dataplane::Encap::L3dsr => LbEncapType::L3dsr,
        dataplane::Encap::Nat4 => LbEncapType::Nat4,
        dataplane::Encap::Nat6 => LbEncapType::Nat6,
    }
}

/// Converts an encapsulation. VPP treats unknown ones like GRE over IPv6.
const fn core_encap(encap: LbEncapType) -> dataplane::Encap {
    match encap {
        LbEncapType::Gre4 => dataplane::Encap::Gre4,
        LbEncapType::Gre6 | LbEncapType::Other(_) => dataplane::Encap::Gre6,
        LbEncapType::L3dsr => dataplane::Encap::L3dsr,
        LbEncapType::Nat4 => dataplane::Encap::Nat4,
        LbEncapType::Nat6 => dataplane::Encap::Nat6,
    }
}
