//! A simulator of VPP: it serves VPP's binary API on a unix socket with the semantics of the lb plugin.
//!
//! It does the following as VPP does:
//!
//! * The handshake, and a message table with other numbers after each restart.
//! * Replies go to the client that the message names. Unknown and short messages get no reply.
//! * The lb plugin's keys, checks and error numbers, its removed servers and their collection, slots, the order of dumps,
//!   bucket counts, and stale values in its replies.
//! * Route lookups for VIPs, servers, interface addresses and subnets; interfaces; `show version` and `show lb ...`.
//! * A stats segment with the boot time, the heartbeat, the workers, the heap, and the counters of VIPs and routes.
//! * A request beyond the bounds of `maglev-vpp` ends the simulator, and fails the test.
//!
//! It differs from VPP in these points:
//!
//! * There are no packets. A test adds flows and counts traffic by hand. No flow expires or displaces another.
//! * It has one thread and no barrier, so all calls cost the same.
//! * A client that does not read its replies blocks its own requests. VPP queues without bound.
//! * Frames of more than 16 MiB close the connection. Addresses of an unknown family are ignored.
//! * `lb_flush_vip` on an unknown VIP does nothing. The client must not send it to VPP.
//! * After many VIPs with ports were added and deleted, VPP may answer a successful deletion with -6. The simulator answers 0.
//! * Stats indexes of routes are stable, but differ from VPP's.
//! * The stats segment has counters of one thread. It is updated when a client connects, when a test counts traffic, and once a
//!   second; VPP updates it at once, but its heap some seconds later. Here tables take no part of the heap. A removed route's counters are 0. VPP keeps them until another route reuses the index.

pub mod cli;
mod collection;
pub mod crash;
pub mod faults;
pub mod fib;
pub mod plugin;
pub mod process;
mod segment;
mod server;
pub mod slot_pool;
mod state;
mod stats_socket;
pub mod views;
pub mod vip_key;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use maglev_vpp::message::{Prefix, Vip};
use maglev_vpp::stats::CombinedCounter;

pub use faults::{HeapSize, InjectedFaults, ReplyCorruption, RequestRejection};
pub use process::RecordedCall;
pub use segment::STATS_SEGMENT;
pub use state::PacketOutcome;
pub use views::{ServerView, VipView};

use crash::OutOfBounds;
use process::{ProcessIdentity, VppProcess};
use segment::StatsSegment;
use server::SharedProcess;

/// A running simulator. Dropping it ends it, and panics after a crash that the test did not wait for.
///
/// It runs in its own threads. Methods that wait block the calling thread, so an async test needs a multi-threaded runtime.
pub struct VppSimulator {
    shared: Arc<SharedProcess>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// A view of the simulator at one moment.
pub struct VppInspection<'a>(&'a VppProcess);

impl VppInspection<'_> {
    /// Returns the messages that arrived, in order; at most the last 100,000.
    #[must_use]
    pub fn calls(&self) -> Vec<RecordedCall> {
        self.0.calls.iter().cloned().collect()
    }

    /// Returns the number of messages of `name` that arrived.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.0.counts.get(name).copied().unwrap_or(0)
    }

    /// Returns all VIPs by slot, including removed ones.
    #[must_use]
    pub fn vips(&self) -> Vec<VipView> {
        self.0.plugin.view()
    }

    /// Returns the number of connections.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.0.connections().len()
    }

    /// Returns the reason of the crash, if VPP crashed.
    #[must_use]
    pub fn crash_reason(&self) -> Option<&str> {
        self.0.crash_reason.as_deref()
    }
}

impl VppSimulator {
    /// Starts an empty simulator with `api.sock` and `stats.sock` in `dir`.
    ///
    /// # Errors
    /// The sockets cannot be created.
    pub fn start(dir: &Path) -> io::Result<Self> {
        let process = VppProcess::new(ProcessIdentity::now(0), InjectedFaults::default());
        let shared = Arc::new(SharedProcess::new(process, dir.join("api.sock"), dir.join("stats.sock")));
        let sim = Self { shared, threads: Mutex::default() };
        sim.listen()?;
        Ok(sim)
    }

    /// Returns the path of the API socket.
    #[must_use]
    pub fn api_socket(&self) -> PathBuf {
        self.shared.api_path.clone()
    }

    /// Returns the path of the stats socket.
    #[must_use]
    pub fn stats_socket(&self) -> PathBuf {
        self.shared.stats_path.clone()
    }

    /// Returns VPP's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.shared.lock().identity.pid
    }

    /// Reads the current state.
    pub fn inspect<T>(&self, look: impl FnOnce(&VppInspection<'_>) -> T) -> T {
        look(&VppInspection(&self.shared.lock()))
    }

    /// Returns the messages that arrived, in order; at most the last 100,000.
    #[must_use]
    pub fn calls(&self) -> Vec<RecordedCall> {
        VppInspection(&self.shared.lock()).calls()
    }

    /// Returns the number of messages of `name` that arrived.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.inspect(|vpp| vpp.count(name))
    }

    /// Clears the list of messages.
    pub fn clear_calls(&self) {
        let mut process = self.shared.lock();
        process.calls.clear();
        process.counts.clear();
    }

    /// Returns all VIPs by slot, including removed ones.
    #[must_use]
    pub fn vips(&self) -> Vec<VipView> {
        VppInspection(&self.shared.lock()).vips()
    }

    /// Waits until `predicate` holds, evaluated after each message and each change. Returns false after `limit`.
    pub fn wait_for(&self, limit: Duration, mut predicate: impl FnMut(&VppInspection<'_>) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        let mut process = self.shared.lock();
        loop {
            if predicate(&VppInspection(&process)) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            process = self.shared.wait_timeout(process, left);
        }
    }

    /// Changes the injected faults.
    pub fn set_faults(&self, change: impl FnOnce(&mut InjectedFaults)) {
        let mut process = self.shared.lock();
        change(&mut process.faults);
        process.publish_stats();
        drop(process);
        self.shared.notify();
    }

    /// Advances VPP's clock, and runs VPP's periodic work up to then.
    pub fn advance(&self, by: Duration) {
        self.change(|process| process.advance(by));
    }

    /// Adds a flow to `vip` that is pinned to `server`. The flow occupies the server's slot until it is flushed. Returns false
    /// if there is no such VIP or server.
    pub fn add_flow(&self, vip: &Vip, server: IpAddr) -> bool {
        self.change(|process| process.plugin.add_flow(vip, server)).unwrap_or(false)
    }

    /// Counts packets to `vip` with this outcome, at `server` unless they are dropped. Returns false if they do not reach the
    /// VIP.
    pub fn count_traffic(
        &self,
        vip: &Vip,
        outcome: PacketOutcome,
        server: Option<IpAddr>,
        traffic: CombinedCounter,
    ) -> bool {
        self.change(|process| {
            let counted = process.plugin.count(vip, outcome, server, traffic)?;
            process.publish_stats();
            Ok(counted)
        })
        .unwrap_or(false)
    }

    /// Counts strays: packets to the address of a VIP, of no VIP's protocol and port.
    pub fn count_strays(&self, outcome: PacketOutcome, packets: u64) {
        let mut process = self.shared.lock();
        process.plugin.count_strays(outcome, packets);
        process.publish_stats();
    }

    /// Moves all vectors of the stats segment, which starts a new epoch.
    pub fn relocate_stats(&self) {
        let mut process = self.shared.lock();
        if let Some(segment) = &mut process.segment {
            segment.relocate();
        }
        process.publish_stats();
    }

    /// Adds an address to one of VPP's interfaces.
    pub fn add_interface_address(&self, address: IpAddr) {
        self.shared.lock().plugin.add_interface(address);
    }

    /// Adds an interface with an MTU and a subnet.
    pub fn add_subnet(&self, name: &str, mtu: u32, subnet: Prefix) {
        self.shared.lock().plugin.fib.add_subnet(name, mtu, subnet);
    }

    /// Removes an address from VPP's interfaces.
    pub fn remove_interface_address(&self, address: IpAddr) {
        self.shared.lock().plugin.remove_interface(address);
    }

    /// Closes all connections. VPP keeps running.
    pub fn drop_connections(&self) {
        for connection in self.shared.lock().connections() {
            connection.close();
        }
    }

    /// Stops VPP: closes all connections, and rejects new ones until [`VppSimulator::boot`].
    pub fn kill(&self) {
        self.shared.disconnect_all(&mut self.shared.lock());
        self.shared.wake_listener();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A panicked thread needs no further cleanup.
            _ = thread.join();
        }
    }

    /// Starts an empty VPP after [`VppSimulator::kill`] or a crash. Faults and recorded calls are kept.
    ///
    /// # Errors
    /// The sockets cannot be created.
    pub fn boot(&self) -> io::Result<()> {
        let mut process = self.shared.lock();
        let mut fresh = VppProcess::new(
            ProcessIdentity::now(process.identity.generation + 1),
            std::mem::take(&mut process.faults),
        );
        fresh.calls = std::mem::take(&mut process.calls);
        fresh.counts = std::mem::take(&mut process.counts);
        *process = fresh;
        drop(process);
        self.listen()
    }

    /// Restarts VPP: empty, with another process id and boot time.
    ///
    /// # Errors
    /// The sockets cannot be created.
    pub fn restart(&self) -> io::Result<()> {
        self.kill();
        self.boot()
    }

    /// Returns the reason of the crash, if VPP crashed.
    #[must_use]
    pub fn crash_reason(&self) -> Option<String> {
        self.shared.lock().crash_reason.clone()
    }

    /// Waits until VPP crashes, and returns the reason. The crash does not fail the test then.
    #[must_use]
    pub fn wait_for_crash(self, limit: Duration) -> Option<String> {
        self.wait_for(limit, |vpp| vpp.crash_reason().is_some());
        self.shared.lock().crash_reason.take()
    }

    fn change<T>(&self, change: impl FnOnce(&mut VppProcess) -> Result<T, OutOfBounds>) -> Option<T> {
        let mut process = self.shared.lock();
        match change(&mut process) {
            Ok(value) => {
                self.shared.notify();
                Some(value)
            }
            Err(crash) => {
                self.shared.crash(&mut process, crash);
                drop(process);
                self.shared.wake_listener();
                None
            }
        }
    }

    /// Binds both sockets, and starts the accepting threads.
    fn listen(&self) -> io::Result<()> {
        let generation = {
            let mut process = self.shared.lock();
            process.segment = Some(StatsSegment::new(process.identity.boot_time)?);
            process.identity.generation
        };
        let stats_listener = stats_socket::bind(&self.shared.stats_path)?;
        let listener = server::bind(&self.shared.api_path)?;
        let [for_api, for_stats] = [Arc::clone(&self.shared), Arc::clone(&self.shared)];
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.push(thread::spawn(move || server::accept(&for_api, &listener, generation)));
        threads.push(thread::spawn(move || stats_socket::serve(&for_stats, &stats_listener, generation)));
        Ok(())
    }
}

impl Drop for VppSimulator {
    #[expect(clippy::panic, reason = "a VPP that died must not go unnoticed by the test that killed it")]
    fn drop(&mut self) {
        self.kill();
        if let Some(reason) = self.crash_reason()
            && !thread::panicking()
        {
            panic!("the simulated VPP has crashed: {reason}");
        }
    }
}
