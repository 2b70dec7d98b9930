//! VPP: the simulator's model at the end of pipes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use maglev_vpp::message::{LbAddDelAsV2, LbAddDelVipV2, LbAsSetWeight, LbConf, LbEncapType, Prefix, Vip};
use tokio::time::Instant;

use super::config_model::ConfigModel;
use super::fault::ExternalChange;
use super::pipe::SimPipe;
use maglev_vppsim::crash::OutOfBounds;
use maglev_vppsim::faults::{InjectedFaults, ReplyCorruption};
use maglev_vppsim::process::{ClientConnection, ProcessIdentity, VppProcess};

/// A foreign VIP.
const FOREIGN_VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 1));

/// A running VPP.
pub struct RunningVpp {
    /// Its state.
    pub process: VppProcess,
    /// VPP answers nothing before this time.
    pub hung_until: Instant,
    /// Number of messages until the planned crash.
    pub crash_after: Option<u64>,
    /// End of the rejections.
    pub reject_until: Instant,
    /// Its connections.
    pub connections: Vec<Weak<PipeConnection>>,
}

impl RunningVpp {
    /// Returns an empty VPP. The first process of a container always has the same process id.
    pub fn start(generation: u32, is_first: bool) -> Self {
        let pid = if is_first { 1 } else { 1000 + generation };
        let identity = ProcessIdentity { generation, pid, boot_time: 1_795_000_000 + u64::from(generation) };
        Self {
            process: VppProcess::new(identity, InjectedFaults::default()),
            hung_until: Instant::now(),
            crash_after: None,
            reject_until: Instant::now(),
            connections: Vec::new(),
        }
    }

    /// Closes all connections.
    pub fn disconnect(&mut self) {
        for connection in self.connections.drain(..).filter_map(|connection| connection.upgrade()) {
            connection.close();
        }
    }

    /// Rejects the next requests of this name until then.
    pub fn reject(&mut self, name: &'static str, times: usize, until: Instant) {
        self.process.faults.reject(name, -1, times);
        self.reject_until = until;
    }

    /// Corrupts the next reply.
    pub fn corrupt_reply(&mut self, how: u8) {
        let all = [
            ReplyCorruption::WrongContext,
            ReplyCorruption::WrongType,
            ReplyCorruption::Truncated,
            ReplyCorruption::Oversized,
            ReplyCorruption::Missing,
            ReplyCorruption::PrecededByUnknown,
        ];
        self.process.faults.corrupt_reply = Some(all[usize::from(how) % all.len()]);
    }

    /// Ends all its faults.
    pub fn clear_faults(&mut self) {
        self.process.faults = InjectedFaults::default();
        self.crash_after = None;
    }

    /// Changes VPP from outside.
    pub fn change_externally(&mut self, what: ExternalChange) -> Result<i32, OutOfBounds> {
        let now = u32::try_from(self.process.uptime().as_secs()).unwrap_or(u32::MAX);
        let plugin = &mut self.process.plugin;
        plugin.tick(now)?;
        match what {
            ExternalChange::Weight(frontend, backend, weight) => {
                let (vip, address) = (vip(ConfigModel::vip(frontend)), ConfigModel::address(backend));
                plugin.set_weight(&LbAsSetWeight { vip, address, weight, is_flush: false })
            }
            ExternalChange::Remove(frontend, backend) => {
                let (vip, address) = (vip(ConfigModel::vip(frontend)), ConfigModel::address(backend));
                plugin.add_del_as(&LbAddDelAsV2::delete(vip, address, true), now)
            }
            ExternalChange::ForeignVip => {
                plugin.add_del_vip(&LbAddDelVipV2::add(vip(FOREIGN_VIP), LbEncapType::Gre4, 1024, false), now)
            }
            ExternalChange::Parameters => {
                let conf = plugin.conf();
                Ok(plugin.configure(&LbConf {
                    ip4_src: conf.ip4_src,
                    ip6_src: conf.ip6_src,
                    sticky_buckets: conf.sticky_buckets,
                    flow_timeout: 77,
                }))
            }
        }
    }

    /// Returns the weights of each VIP's servers.
    pub fn weights(&self) -> BTreeMap<IpAddr, BTreeMap<IpAddr, u8>> {
        let vips = self.process.plugin.view().into_iter().filter(|vip| !vip.removed);
        vips.map(|vip| (vip.vip.prefix.address, vip.weights().into_iter().collect())).collect()
    }

    /// Returns the global flow timeout.
    pub fn flow_timeout(&self) -> u32 {
        self.process.plugin.conf().flow_timeout
    }
}

/// Returns the VIP of an address.
fn vip(address: IpAddr) -> Vip {
    Vip { prefix: Prefix::host(address), protocol: 6, port: 80 }
}

/// The connection to a client.
pub struct PipeConnection(pub Arc<SimPipe>);

impl ClientConnection for PipeConnection {
    fn close_when_written(&self) {
        self.0.close();
    }

    fn close(&self) {
        self.0.close();
    }

    fn write(&self, bytes: &[u8]) {
        // The reader notices a client that is gone.
        let _ = self.0.send(bytes.to_vec());
    }
}
