//! State of a simulated or real VPP, and the writes it received.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use maglev_vpp::message::{LbAsV2Dump, LbVipDump, Prefix};
use maglev_vpp::{ClientOptions, VppClient};
use tokio::runtime::{self, Runtime};

use super::PATIENCE;
use crate::dataplane::Vpp;
use maglev_vppsim::VppSimulator;

/// Servers of a VIP with their weights.
pub type Weights = BTreeMap<IpAddr, u8>;

/// Messages that change VPP's state, apart from the handshake.
pub const WRITES: [&str; 5] =
    ["lb_conf", "lb_add_del_vip_v2", "lb_add_del_as_v2", "lb_as_set_weight", "lb_flush_vip"];

/// A separate client of VPP that reads its state.
pub struct VppObserver<'a> {
    vpp: &'a Vpp,
    runtime: Runtime,
}

impl<'a> VppObserver<'a> {
    /// Creates an observer of `vpp`.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn new(vpp: &'a Vpp) -> Self {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { vpp, runtime }
    }

    /// Connects a client to VPP and runs `work` with it.
    ///
    /// # Panics
    /// If that fails.
    pub fn client<T>(&self, work: impl AsyncFnOnce(VppClient) -> T) -> T {
        self.runtime.block_on(async {
            let client =
                VppClient::connect(self.vpp.api_socket(), "lab", ClientOptions::default()).await.unwrap();
            work(client).await
        })
    }

    /// Returns every VIP by address, with its servers.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn vips(&self) -> BTreeMap<IpAddr, Weights> {
        self.client(async |client| {
            let listed = client.dump(&LbVipDump::all()).await.unwrap();
            let mut vips: BTreeMap<_, Weights> =
                listed.iter().map(|vip| (vip.vip.prefix.address, Weights::new())).collect();
            for server in client.dump(&LbAsV2Dump::all()).await.unwrap() {
                if server.is_in_use()
                    && let Some(weights) = vips.get_mut(&server.vip.prefix.address)
                {
                    weights.insert(server.address, server.weight);
                }
            }
            vips
        })
    }

    /// Waits until VPP has exactly these VIPs.
    ///
    /// # Panics
    /// On timeout.
    pub fn until<const N: usize>(&self, wanted: [(&str, Weights); N]) {
        self.until_all(&wanted.into());
    }

    /// Same as [`Self::until`] for any number of VIPs.
    ///
    /// # Panics
    /// On timeout.
    pub fn until_all(&self, wanted: &BTreeMap<&str, Weights>) {
        let wanted = wanted.iter().map(|(vip, weights)| (vip.parse().unwrap(), weights.clone())).collect();
        let deadline = Instant::now() + PATIENCE;
        // VPP reports no changes of other clients, so this polls.
        while self.vips() != wanted {
            assert!(Instant::now() < deadline, "VPP has {:?} instead of {wanted:?}", self.vips());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Returns the writes received so far. Known for the simulator only.
    #[must_use]
    pub fn writes(&self) -> Vec<String> {
        let calls = self.vpp.sim().map(VppSimulator::calls).unwrap_or_default();
        calls.into_iter().filter(|call| WRITES.contains(&call.name)).map(|call| call.message).collect()
    }
}

/// Returns the host prefix of an address.
///
/// # Panics
/// If `address` is invalid.
#[must_use]
pub fn host(address: &str) -> Prefix {
    Prefix::host(address.parse().unwrap())
}
