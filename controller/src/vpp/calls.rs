//! Conversion between the core's types and VPP's messages.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use maglev_core::dataplane::{self, ActualAs, ActualState, ActualVip, LbConf, Step, VipKey, VipPlan};
use maglev_core::plan::StepCounts;
use maglev_core::state::{Input, ListedVip, Output};
use maglev_vpp::cli::{self, ShownVip};
use maglev_vpp::message::{
    self, CliInband, LbAddDelAsV2, LbAddDelVipV2, LbAsSetWeight, LbAsV2Details, LbAsV2Dump, LbConfGet,
    LbConfGetReply, LbEncapType, LbVipDetails, LbVipDump, Prefix, Vip,
};
use maglev_vpp::{Error, VppClient};
use tokio::sync::oneshot;

use super::{PendingCall, VppCommand};
use crate::metrics::{Metrics, SyncScope};
use crate::published::VppReading;

/// Maximum length of a requested listing in lines: about 5 MB, during which VPP stalls for 0.1 s.
const MAX_LINES: usize = 100_000;

/// Lines of a VIP in the listing, without its servers.
const LINES_PER_VIP: usize = 10;

/// VPP's error number for a missing entry.
const NO_SUCH_ENTRY: i32 = -6;

/// Starts a command. VPP receives commands in call order.
pub fn start(client: &VppClient, command: VppCommand, metrics: &Arc<Metrics>) -> PendingCall {
    let (output, scope) = match command {
        VppCommand::Do(output, scope) => (output, scope),
        VppCommand::Read(answer) => return Box::pin(read_for_client(client, answer)),
    };
    match output {
        Output::ReadAll => Box::pin(read_all(client)),
        Output::ListVips => Box::pin(list(client)),
        Output::ReadServers(vip) => Box::pin(read_servers(client, vip)),
        Output::ReadVip(vip) => Box::pin(read_vip(client, vip)),
        Output::SetConf(conf) => Box::pin(set_conf(client, &conf)),
        Output::Apply(run) => {
            let (client, metrics) = (client.clone(), Arc::clone(metrics));
            Box::pin(async move {
                let mut progress = RunProgress { run, done: 0, scope, began: Instant::now(), metrics };
                let error = apply_steps(&client, &mut progress).await?;
                Ok(Some(Input::StepsApplied { vip: progress.run.vip, done: progress.done, error }))
            })
        }
        Output::SetChecks(_) | Output::SetInterval(..) | Output::Event(_) => Box::pin(async { Ok(None) }),
    }
}

type CallResult = Result<Option<Input>, Error>;

fn read_all(client: &VppClient) -> impl Future<Output = CallResult> + use<> {
    let reading = read_whole(client);
    async move { Ok(Some(Input::AllRead(reading.await?.actual))) }
}

fn read_for_client(
    client: &VppClient,
    answer: oneshot::Sender<VppReading>,
) -> impl Future<Output = CallResult> + use<> {
    let reading = read_whole(client);
    async move {
        // The requester may have gone.
        let _ = answer.send(reading.await?);
        Ok(None)
    }
}

fn read_whole(client: &VppClient) -> impl Future<Output = Result<VppReading, Error>> + use<> {
    let (client, actual) = (client.clone(), read_actual(client));
    async move {
        let mut actual = actual.await?;
        let shown = listing(&client, &actual).await?.unwrap_or_default();
        for shown in &shown {
            if let Some(found) = actual.vips.get_mut(&key(&shown.vip)) {
                found.src_ip_sticky = Some(shown.src_ip_sticky);
            }
        }
        Ok(VppReading { actual, flows: flows(&shown) })
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

fn read_actual(client: &VppClient) -> impl Future<Output = Result<ActualState, Error>> + use<> {
    let conf = client.request(&LbConfGet {});
    let vips = client.dump(&LbVipDump::all());
    let servers = client.dump(&LbAsV2Dump::all());
    async move {
        let (conf, vips, servers) = (conf.await?, vips.await?, servers.await?);
        let mut actual = ActualState { conf: Some(conf_of(&conf)), vips: BTreeMap::new() };
        for details in &vips {
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
        Ok(actual)
    }
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
