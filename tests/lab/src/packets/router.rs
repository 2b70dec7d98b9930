//! A real VPP between a packet generator and a capture.

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use maglev_vpp::message::{CliInband, LbAsV2Details, LbAsV2Dump};
use maglev_vpp::{ClientOptions, VppClient};
use tempfile::TempDir;
use tokio::runtime::{self, Runtime};

use super::capture::{self, CapturedPacket};
use super::flow::Flows;
use super::until;
use crate::PATIENCE;
use crate::dataplane::{RealVpp, Vpp};
use crate::vpp_observer::{WRITES, Weights};

/// Clients are behind `pg0`. All servers are behind one router on `pg1` with a static neighbour entry.
const WIRING: [&str; 10] = [
    "create packet-generator interface pg0",
    "create packet-generator interface pg1",
    "set interface state pg0 up",
    "set interface state pg1 up",
    "set interface ip address pg0 198.18.0.1/24",
    "set interface ip address pg0 2001:db8:fffe::1/64",
    "set interface ip address pg1 198.18.1.1/24",
    "set interface ip address pg1 2001:db8:ffff::1/64",
    "set ip neighbor pg1 198.18.1.2 02:00:00:00:00:02",
    "set ip neighbor pg1 2001:db8:ffff::2 02:00:00:00:00:02",
];
const ROUTES: [&str; 3] = [
    "ip route add 10.0.0.0/8 via 198.18.1.2 pg1",
    "ip route add 127.0.0.0/8 via 198.18.1.2 pg1",
    "ip route add 2001:db8:a::/48 via 2001:db8:ffff::2 pg1",
];
const PACKET_SIZE: u32 = 100;

/// VPP, a client of it, and a directory for captures.
pub struct Router {
    /// VPP itself.
    pub vpp: Vpp,
    client: VppClient,
    runtime: Runtime,
    directory: TempDir,
    captures: Cell<u32>,
}

impl Router {
    /// Starts the VPP in `VPP_BIN`. Otherwise prints the skip line that the test runner counts.
    ///
    /// # Panics
    /// If VPP does not start.
    #[must_use]
    pub fn start(test: &str) -> Option<Self> {
        let Some(binary) = RealVpp::binary() else {
            println!("SKIP {test}: VPP_BIN is not set");
            return None;
        };
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let vpp = Vpp::real(&binary).unwrap();
        let client = connect(&runtime, &vpp);
        let router =
            Self { vpp, client, runtime, directory: tempfile::tempdir().unwrap(), captures: Cell::new(0) };
        router.wire();
        Some(router)
    }

    /// Kills VPP as `kill -9` does, starts an empty one, and waits until it forwards packets. Returns the time at which its API
    /// first answered.
    ///
    /// # Panics
    /// If VPP does not start.
    pub fn restart(&mut self) -> Instant {
        self.vpp.kill();
        self.vpp.boot().unwrap();
        let answers = Instant::now();
        self.client = connect(&self.runtime, &self.vpp);
        self.wire();
        answers
    }

    fn wire(&self) {
        for command in WIRING.into_iter().chain(ROUTES) {
            self.cli(command);
        }
    }

    /// Runs a CLI command and returns its output.
    ///
    /// # Panics
    /// If the command fails.
    pub fn cli(&self, command: &str) -> String {
        let reply = self.runtime.block_on(self.client.request(&CliInband::new(command))).unwrap();
        assert_eq!(reply.retval, 0, "{command}: {}", reply.output.0);
        reply.output.0
    }

    /// Runs `work` with the client of VPP.
    pub fn client<T>(&self, work: impl AsyncFnOnce(VppClient) -> T) -> T {
        self.runtime.block_on(work(self.client.clone()))
    }

    /// Starts an API trace in VPP.
    pub fn record(&self) {
        self.cli("api trace free");
        self.cli("api trace on");
    }

    /// Returns the names of the write messages since [`Self::record`].
    #[must_use]
    pub fn recorded(&self) -> Vec<String> {
        let trace = self.cli("api trace dump");
        let names = trace.lines().filter_map(|line| line.strip_prefix("vl_api_")?.strip_suffix("_t:"));
        names.filter(|name| WRITES.contains(name)).map(str::to_owned).collect()
    }

    /// Returns the servers of a VIP, without removed ones.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn servers(&self, vip: SocketAddr) -> Vec<LbAsV2Details> {
        let mut servers = self.runtime.block_on(self.client.dump(&LbAsV2Dump::all())).unwrap();
        let of_vip = |server: &LbAsV2Details| {
            server.is_in_use() && (server.vip.prefix.address, server.vip.port) == (vip.ip(), vip.port())
        };
        servers.retain(of_vip);
        servers
    }

    /// Waits until a VIP has these servers with these weights.
    ///
    /// # Panics
    /// On timeout.
    pub fn until(&self, vip: SocketAddr, wanted: &Weights) {
        let weights = || -> Weights { self.servers(vip).iter().map(|s| (s.address, s.weight)).collect() };
        until(|| weights() == *wanted, || format!("{vip} has {:?}, not {wanted:?}", weights()));
    }

    /// Waits until `count` servers, of all VIPs together, have a weight above zero.
    ///
    /// # Panics
    /// On timeout.
    pub fn until_raised(&self, count: usize) {
        let raised = || {
            let servers = self.runtime.block_on(self.client.dump(&LbAsV2Dump::all())).unwrap();
            servers.iter().filter(|server| server.is_in_use() && server.weight > 0).count()
        };
        until(|| raised() == count, || format!("{} servers have weight, not {count}", raised()));
    }

    /// Returns the number of VPP's servers, including ghosts. Cheaper for VPP than a dump.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn server_count(&self) -> usize {
        let shown = self.cli("show lb");
        let count = shown.lines().find_map(|line| line.trim().strip_prefix("#ass: ")?.parse().ok());
        count.unwrap_or_else(|| panic!("no number of servers: {shown}"))
    }

    /// Sends one packet of each of the first `count` flows and returns those that were forwarded.
    #[must_use]
    pub fn send(&self, flows: &Flows, count: u32) -> Vec<CapturedPacket> {
        let traffic = TrafficCapture::begin(self);
        let stream = traffic.add(flows, &format!("limit {count}"));
        let sent = || self.stream(&stream) == (false, u64::from(count));
        until(sent, || format!("{count} packets are not sent: {}", self.cli("show packet-generator")));
        traffic.end().1
    }

    /// Returns whether a stream is running, and its packet count.
    fn stream(&self, name: &str) -> (bool, u64) {
        let shown = self.cli("show packet-generator");
        let row = |line: &str| {
            let mut words = line.split_whitespace();
            let found = words.next() == Some(name);
            found.then(|| (words.next() == Some("Yes"), words.next().unwrap().parse().unwrap()))
        };
        shown.lines().find_map(row).unwrap_or_else(|| panic!("no stream {name}: {shown}"))
    }
}

/// Running streams and their capture.
pub struct TrafficCapture<'a> {
    router: &'a Router,
    capture: PathBuf,
    streams: Cell<u32>,
}

impl<'a> TrafficCapture<'a> {
    /// Starts the capture. Nothing is sent yet.
    #[must_use]
    pub fn begin(router: &'a Router) -> Self {
        let number = router.captures.replace(router.captures.get() + 1);
        let capture = router.directory.path().join(format!("{number}.pcap"));
        router.cli(&format!("packet-generator capture pg1 pcap {}", capture.display()));
        Self { router, capture, streams: Cell::new(0) }
    }

    /// Sends `rate` packets per second from now on, one flow after the other.
    pub fn flow(&self, flows: &Flows, rate: u32) {
        self.add(flows, &format!("limit 0 rate {rate}"));
    }

    fn add(&self, flows: &Flows, how: &str) -> String {
        let name = format!("stream{}", self.streams.replace(self.streams.get() + 1));
        let node = if flows.to.is_ipv4() { "ip4-input" } else { "ip6-input" };
        self.router.cli(&format!(
            "packet-generator new {{ name {name} {how} size {PACKET_SIZE}-{PACKET_SIZE} interface pg0 node {node} \
             data {{ {} }} }}",
            flows.data()
        ));
        self.router.cli(&format!("packet-generator enable-stream {name}"));
        name
    }

    /// Returns the number of packets sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        (0..self.streams.get()).map(|number| self.router.stream(&format!("stream{number}")).1).sum()
    }

    /// Stops. Returns the number of packets sent, and those that left towards a server, in order.
    #[must_use]
    pub fn end(self) -> (u64, Vec<CapturedPacket>) {
        let names = || (0..self.streams.get()).map(|number| format!("stream{number}"));
        for name in names() {
            self.router.cli(&format!("packet-generator disable-stream {name}"));
        }
        let sent = self.sent();
        for name in names() {
            self.router.cli(&format!("packet-generator delete {name}"));
        }
        self.router.cli("packet-generator capture pg1 disable");
        (sent, capture::read(&self.capture))
    }
}

fn connect(runtime: &Runtime, vpp: &Vpp) -> VppClient {
    let options = ClientOptions { timeout: PATIENCE, ..ClientOptions::default() };
    runtime.block_on(VppClient::connect(vpp.api_socket(), "packets", options)).unwrap()
}
