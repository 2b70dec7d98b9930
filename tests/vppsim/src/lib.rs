//! A VPP that is not VPP: it speaks VPP's binary API over a unix socket, and keeps the lb plugin's semantics.
//!
//! What it does like VPP: the handshake and a message table whose numbers change with each life; answers to the client
//! named in the message; silence towards unknown and short messages; the lb plugin's keys, checks and error numbers,
//! ghosts, garbage collection, slots and the order of dumps, bucket counts, and the leftovers and slips that its
//! answers show; route look-ups for VIPs, servers and interface addresses; `show version` and `show lb ...`; a stats
//! segment with VPP's boot time, its heartbeat, and the counters of VIPs and routes. Inputs that kill VPP kill it as well, and loudly.
//!
//! What it does not:
//!
//! * There are no packets. A test adds flows and counts traffic by hand, and no flow ever expires or is pushed out by
//!   another.
//! * It has one thread and no barrier, so no call costs more than another.
//! * A client that does not read its answers holds up its own requests; VPP queues without bound.
//! * Frames of more than 16 MiB and addresses of no known family close the connection or are ignored.
//! * Prefixes that are too long always crash; in VPP some of them only go astray.
//! * `lb_flush_vip` on a VIP that does not exist does nothing; VPP may flush another.
//! * After many VIPs of ports have come and gone, VPP may answer the deletion of one with -6, though it is done; this
//!   answers 0.
//! * Stats indexes of routes are stable but not those that VPP would choose.
//! * The stats segment has counters of one thread. It follows the plugin when somebody connects, when a test counts
//!   traffic, and once a second; VPP's does at once. The counters of a route that is gone are 0, where VPP keeps them until
//!   another has its index.

pub mod cli;
pub mod faults;
pub mod fib;
mod garbage;
pub mod key;
pub mod plugin;
pub mod pool;
mod server;
mod state;
mod stats;
pub mod view;
pub mod world;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use maglev_vpp::message::Vip;
use maglev_vpp::stats::Traffic;

pub use faults::{Faults, Refusal, Spoil};
pub use state::Fate;
pub use stats::STATS_SEGMENT;
pub use view::{ServerView, VipView};
pub use world::Call;

use plugin::Crash;
use server::Shared;
use stats::Segment;
use world::{Birth, World};

/// A running simulator. It ends when dropped, and panics then if it had crashed and nobody asked for it.
///
/// It runs in threads of its own. Its methods that wait block the calling thread, so an async test that uses them needs
/// a runtime with more than one.
pub struct Sim {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What there is to see of a simulator at one moment.
pub struct Inspection<'a>(&'a World);

impl Inspection<'_> {
    /// The messages that arrived, in order; the last 100,000 of them.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.0.calls.iter().cloned().collect()
    }

    /// How many messages of `name` arrived.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.0.counts.get(name).copied().unwrap_or(0)
    }

    /// All VIPs, removed ones included, in the order of their slots.
    #[must_use]
    pub fn vips(&self) -> Vec<VipView> {
        self.0.plugin.view()
    }

    /// How many connections there are.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.0.lines().len()
    }

    /// What VPP died of.
    #[must_use]
    pub fn crashed(&self) -> Option<&str> {
        self.0.crashed.as_deref()
    }
}

impl Sim {
    /// Starts with `api.sock` and `stats.sock` in `dir`, and without VIPs.
    ///
    /// # Errors
    /// The sockets cannot be made.
    pub fn start(dir: &Path) -> io::Result<Self> {
        let world = World::new(Birth::now(0), Faults::default());
        let shared = Arc::new(Shared::new(world, dir.join("api.sock"), dir.join("stats.sock")));
        let sim = Self { shared, threads: Mutex::default() };
        sim.listen()?;
        Ok(sim)
    }

    /// Where clients of the API connect.
    #[must_use]
    pub fn api_socket(&self) -> PathBuf {
        self.shared.api_path.clone()
    }

    /// Where readers of the counters connect.
    #[must_use]
    pub fn stats_socket(&self) -> PathBuf {
        self.shared.stats_path.clone()
    }

    /// VPP's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.shared.lock().birth.pid
    }

    /// Looks at the present state.
    pub fn inspect<T>(&self, look: impl FnOnce(&Inspection<'_>) -> T) -> T {
        look(&Inspection(&self.shared.lock()))
    }

    /// The messages that arrived, in order; the last 100,000 of them.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        Inspection(&self.shared.lock()).calls()
    }

    /// How many messages of `name` arrived.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.inspect(|vpp| vpp.count(name))
    }

    /// Forgets the messages that arrived so far.
    pub fn forget_calls(&self) {
        let mut world = self.shared.lock();
        world.calls.clear();
        world.counts.clear();
    }

    /// All VIPs, removed ones included, in the order of their slots.
    #[must_use]
    pub fn vips(&self) -> Vec<VipView> {
        Inspection(&self.shared.lock()).vips()
    }

    /// Waits until `predicate` holds, which is asked after each message and each change. Says whether it came to hold
    /// within `limit`.
    pub fn wait_for(&self, limit: Duration, mut predicate: impl FnMut(&Inspection<'_>) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        let mut world = self.shared.lock();
        loop {
            if predicate(&Inspection(&world)) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            world = self.shared.wait_timeout(world, left);
        }
    }

    /// Changes the faults in force.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        let mut world = self.shared.lock();
        change(&mut world.faults);
        world.publish();
        drop(world);
        self.shared.notify();
    }

    /// Moves VPP's clock on, with all that VPP does in that time.
    pub fn advance(&self, by: Duration) {
        self.change(|world| world.advance(by));
    }

    /// Lets a packet of a new flow to `vip` end at `server`. The flow holds on to the server's slot until it is flushed.
    /// Says whether there are such a VIP and server.
    pub fn add_flow(&self, vip: &Vip, server: IpAddr) -> bool {
        self.change(|world| world.plugin.add_flow(vip, server)).unwrap_or(false)
    }

    /// Counts packets to `vip` that meet this `fate`, at `server` unless they are dropped. Says whether they get there.
    pub fn count_traffic(&self, vip: &Vip, fate: Fate, server: Option<IpAddr>, traffic: Traffic) -> bool {
        self.change(|world| {
            let counted = world.plugin.count(vip, fate, server, traffic)?;
            world.publish();
            Ok(counted)
        })
        .unwrap_or(false)
    }

    /// Moves everything in the stats segment to another place, which is another epoch.
    pub fn shift_stats(&self) {
        let mut world = self.shared.lock();
        if let Some(segment) = &mut world.segment {
            segment.shift();
        }
        world.publish();
    }

    /// Gives one of VPP's interfaces an address.
    pub fn add_interface_address(&self, address: IpAddr) {
        self.shared.lock().plugin.add_interface(address);
    }

    /// Takes it away.
    pub fn remove_interface_address(&self, address: IpAddr) {
        self.shared.lock().plugin.remove_interface(address);
    }

    /// Drops all connections; VPP lives on.
    pub fn drop_connections(&self) {
        for line in self.shared.lock().lines() {
            line.close();
        }
    }

    /// Ends VPP: connections are dropped, and new ones refused until [`Sim::boot`].
    pub fn kill(&self) {
        self.shared.end_life(&mut self.shared.lock());
        self.shared.wake_acceptor();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A thread that panicked has nothing left to end.
            _ = thread.join();
        }
    }

    /// Starts an empty VPP after [`Sim::kill`], or after a crash. Faults and the list of calls stay.
    ///
    /// # Errors
    /// The sockets cannot be made.
    pub fn boot(&self) -> io::Result<()> {
        let mut world = self.shared.lock();
        let mut fresh = World::new(Birth::now(world.birth.life + 1), std::mem::take(&mut world.faults));
        fresh.calls = std::mem::take(&mut world.calls);
        fresh.counts = std::mem::take(&mut world.counts);
        *world = fresh;
        drop(world);
        self.listen()
    }

    /// Restarts VPP, which is empty then, and has another process id and boot time.
    ///
    /// # Errors
    /// The sockets cannot be made.
    pub fn restart(&self) -> io::Result<()> {
        self.kill();
        self.boot()
    }

    /// What VPP died of.
    #[must_use]
    pub fn crashed(&self) -> Option<String> {
        self.shared.lock().crashed.clone()
    }

    /// Waits until VPP dies, and says of what. The death is no failure of the test then.
    #[must_use]
    pub fn expect_crash(self, limit: Duration) -> Option<String> {
        self.wait_for(limit, |vpp| vpp.crashed().is_some());
        self.shared.lock().crashed.take()
    }

    fn change<T>(&self, change: impl FnOnce(&mut World) -> Result<T, Crash>) -> Option<T> {
        let mut world = self.shared.lock();
        match change(&mut world) {
            Ok(value) => {
                self.shared.notify();
                Some(value)
            }
            Err(crash) => {
                self.shared.crash(&mut world, crash);
                drop(world);
                self.shared.wake_acceptor();
                None
            }
        }
    }

    /// Binds both sockets and starts the threads that accept.
    fn listen(&self) -> io::Result<()> {
        let life = {
            let mut world = self.shared.lock();
            world.segment = Some(Segment::new(world.birth.boot_time)?);
            world.birth.life
        };
        let stats_listener = stats::bind(&self.shared.stats_path)?;
        let listener = server::bind(&self.shared.api_path)?;
        let [for_api, for_stats] = [Arc::clone(&self.shared), Arc::clone(&self.shared)];
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.push(thread::spawn(move || server::accept(&for_api, &listener, life)));
        threads.push(thread::spawn(move || stats::serve(&for_stats, &stats_listener, life)));
        Ok(())
    }
}

impl Drop for Sim {
    #[expect(clippy::panic, reason = "a VPP that died must not go unnoticed by the test that killed it")]
    fn drop(&mut self) {
        self.kill();
        if let Some(reason) = self.crashed()
            && !thread::panicking()
        {
            panic!("the simulated VPP has crashed: {reason}");
        }
    }
}
