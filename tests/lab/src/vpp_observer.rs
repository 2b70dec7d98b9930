//! What VPP has, the simulated or the real one, and what was done to it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use maglev_vpp::message::{LbAsV2Dump, LbVipDump, Prefix};
use maglev_vpp::{Client, Options};
use tokio::runtime::{self, Runtime};

use super::PATIENCE;
use crate::dataplane::Vpp;
use maglev_vppsim::Sim;

/// Each server of a VIP, and its weight.
pub type Weights = BTreeMap<IpAddr, u8>;

/// The messages that change something, but for those that a new client sends to say who it is.
pub const WRITES: [&str; 5] =
    ["lb_conf", "lb_add_del_vip_v2", "lb_add_del_as_v2", "lb_as_set_weight", "lb_flush_vip"];

/// Looks into VPP, as a client of its own.
pub struct Observer<'a> {
    vpp: &'a Vpp,
    runtime: Runtime,
}

impl<'a> Observer<'a> {
    /// Of this VPP.
    ///
    /// # Panics
    /// There are no threads to be had.
    #[must_use]
    pub fn of(vpp: &'a Vpp) -> Self {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { vpp, runtime }
    }

    /// A client of this VPP, and where to use it.
    ///
    /// # Panics
    /// VPP takes none.
    pub fn client<T>(&self, work: impl AsyncFnOnce(Client) -> T) -> T {
        self.runtime.block_on(async {
            let client = Client::connect(self.vpp.api_socket(), "lab", Options::default()).await.unwrap();
            work(client).await
        })
    }

    /// Every VIP, by address, with its servers.
    ///
    /// # Panics
    /// VPP does not answer.
    #[must_use]
    pub fn vips(&self) -> BTreeMap<IpAddr, Weights> {
        self.client(async |client| {
            let listed = client.dump(&LbVipDump::all()).await.unwrap();
            let mut vips: BTreeMap<_, Weights> =
                listed.iter().map(|vip| (vip.vip.prefix.address, Weights::new())).collect();
            for server in client.dump(&LbAsV2Dump::all()).await.unwrap() {
                if server.in_use()
                    && let Some(weights) = vips.get_mut(&server.vip.prefix.address)
                {
                    weights.insert(server.address, server.weight);
                }
            }
            vips
        })
    }

    /// Waits until VPP has these VIPs, and no others.
    ///
    /// # Panics
    /// It never has.
    pub fn until<const N: usize>(&self, wanted: [(&str, Weights); N]) {
        self.until_all(&wanted.into());
    }

    /// The same of as many.
    ///
    /// # Panics
    /// It never has.
    pub fn until_all(&self, wanted: &BTreeMap<&str, Weights>) {
        let wanted = wanted.iter().map(|(vip, weights)| (vip.parse().unwrap(), weights.clone())).collect();
        let deadline = Instant::now() + PATIENCE;
        // VPP tells nobody of what another client has done.
        while self.vips() != wanted {
            assert!(Instant::now() < deadline, "VPP has {:?}, not {wanted:?}", self.vips());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The changes that were asked of VPP so far, where that is known: of the simulator.
    #[must_use]
    pub fn writes(&self) -> Vec<String> {
        let calls = self.vpp.sim().map(Sim::calls).unwrap_or_default();
        calls.into_iter().filter(|call| WRITES.contains(&call.name)).map(|call| call.message).collect()
    }
}

/// The prefix of one address.
///
/// # Panics
/// `address` is none.
#[must_use]
pub fn host(address: &str) -> Prefix {
    Prefix::host(address.parse().unwrap())
}
