//! The whole engine against real sockets, driven like a controller drives it.

mod controller;
mod half_open;
mod http;
mod icmp;
mod keep_alive;
mod tcp;
mod tls;
mod tls_chain;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::thread::JoinHandle;
use std::time::Duration;

use maglev_ipc::regexp::RegexpSet;
use maglev_ipc::{
    Check, CheckId, ConnectMode, Outcome, OutcomeCode, ProbeKind, ProbeTimeout, ToController, ToProber,
    VERSION,
};
use maglev_ipc_link::{ControllerSocket, Error, batch_checks};
use maglev_notify::ServiceNotifier;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::SignalFd;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};

use super::*;
use crate::listen;
use crate::probe::ports::ReservedPorts;
use crate::probe::raw;
use crate::scheduler::AcceptedCheck;

/// Time after which a test fails as stuck, in ms.
const STUCK_MS: u16 = 30_000;
/// The shortest allowed interval, to keep tests fast.
const INTERVAL: Duration = Duration::from_millis(10);
const LIMITS: ProbeLimits = ProbeLimits {
    targets: crate::targets::Targets::ANY,
    max_checks: 1000,
    max_rate: 100_000,
    max_rate_per_address: 200,
};
/// Receive buffer that also holds the packets of tests running in parallel, in bytes. Needs root.
const LARGE_BUFFER: usize = 16 * 1024 * 1024;

/// Starts an engine in its own thread, which creates the sockets: they are not `Send`.
fn start(endpoint: ControllerEndpoint, limits: ProbeLimits, orphan_timeout: Duration) -> JoinHandle<Exit> {
    start_with(|| sockets(ReservedPorts::reserve().ok()), endpoint, limits, orphan_timeout)
}

/// Opens raw sockets, with ports for half-open probes.
fn sockets(ports: Option<ReservedPorts>) -> (IcmpProber, SynProber) {
    (IcmpProber::open(ports.as_ref()).unwrap(), SynProber::open(ports).unwrap())
}

/// Starts an engine with these raw sockets.
fn start_with(
    sockets: impl FnOnce() -> (IcmpProber, SynProber) + Send + 'static,
    endpoint: ControllerEndpoint,
    limits: ProbeLimits,
    orphan_timeout: Duration,
) -> JoinHandle<Exit> {
    std::thread::spawn(move || {
        Engine::new(engine_config(sockets(), endpoint, limits, orphan_timeout)).unwrap().run().unwrap()
    })
}

fn engine_config(
    (icmp_prober, syn_prober): (IcmpProber, SynProber),
    endpoint: ControllerEndpoint,
    limits: ProbeLimits,
    orphan_timeout: Duration,
) -> EngineConfig {
    EngineConfig {
        endpoint,
        icmp_prober,
        syn_prober,
        configs: crate::probe::tls::TlsConfigs::new([]),
        signals: SignalFd::new(&SigSet::empty()).unwrap(),
        limits,
        max_connections: 100,
        orphan_timeout,
        namespace: None,
        notifier: ServiceNotifier::default(),
        seed: 7,
    }
}

/// Returns both ends of a link.
fn link_pair() -> (TestController, ControllerEndpoint) {
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
    (TestController::new(ours), ControllerEndpoint::Inherited(theirs))
}

/// Starts an engine with one controller.
fn spawn() -> (TestController, JoinHandle<Exit>) {
    let (controller, endpoint) = link_pair();
    (controller, start(endpoint, LIMITS, Duration::ZERO))
}

/// An engine with a listening socket.
struct ListeningEngine {
    directory: tempfile::TempDir,
    thread: JoinHandle<Exit>,
}

impl ListeningEngine {
    fn start(limits: ProbeLimits, orphan_timeout: Duration, users: Option<Vec<u32>>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = listen::bind_path(&directory.path().join("sock")).unwrap();
        let users = users.unwrap_or_else(|| listen::allowed_users(&listener));
        let thread = start(ControllerEndpoint::Listener(listener, users), limits, orphan_timeout);
        Self { directory, thread }
    }

    fn connect(&self) -> TestController {
        TestController { link: ControllerSocket::connect(&self.directory.path().join("sock")).unwrap() }
    }
}

/// The controller's end of a link.
struct TestController {
    link: ControllerSocket,
}

impl TestController {
    fn new(fd: OwnedFd) -> Self {
        Self { link: ControllerSocket::new(fd).unwrap() }
    }

    fn send(&self, message: &ToProber) {
        self.link.send(message).unwrap();
    }

    /// Returns the next message, except heartbeats.
    fn receive(&mut self) -> Result<ToController, Error> {
        loop {
            match self.next() {
                Ok(ToController::Heartbeat(_)) => {}
                result => return result,
            }
        }
    }

    /// Returns the first counters that satisfy `wanted`.
    fn stats(&mut self, wanted: impl Fn(&ProberStats) -> bool) -> ProberStats {
        loop {
            if let ToController::Heartbeat(stats) = self.next_message()
                && wanted(&stats)
            {
                return stats;
            }
        }
    }

    /// Returns the next message of any kind.
    fn next_message(&mut self) -> ToController {
        self.next().unwrap()
    }

    fn next(&mut self) -> Result<ToController, Error> {
        loop {
            match self.link.receive() {
                Err(Error::WouldBlock) => {
                    let mut fds = [PollFd::new(self.link.as_fd(), PollFlags::POLLIN)];
                    assert_eq!(
                        poll(&mut fds, PollTimeout::from(STUCK_MS)).unwrap(),
                        1,
                        "the prober is stuck"
                    );
                }
                result => return result,
            }
        }
    }

    fn greet(&mut self) -> u64 {
        self.send(&ToProber::Hello { version: VERSION, release: "test".into() });
        let Ok(ToController::Hello { version: VERSION, instance, .. }) = self.receive() else {
            panic!("no Hello")
        };
        instance
    }

    /// Sends a set and returns the messages up to `Committed`, except outcomes.
    fn commit(&mut self, generation: u64, checks: &[(u32, Check)]) -> Vec<ToController> {
        self.send(&ToProber::Begin { generation });
        self.send_checks(INTERVAL, checks);
        self.send(&ToProber::Commit { generation });
        self.until_committed(generation)
    }

    fn send_checks(&self, interval: Duration, checks: &[(u32, Check)]) {
        let checks = checks.iter().map(|(id, check)| (CheckId(*id), interval.into(), check.clone()));
        batch_checks(checks).for_each(|message| self.send(&message));
    }

    fn until_committed(&mut self, generation: u64) -> Vec<ToController> {
        let mut messages = Vec::new();
        loop {
            match self.receive().unwrap() {
                ToController::Outcomes(_) => {}
                ToController::Committed { generation: committed } => {
                    assert_eq!(committed, generation);
                    return messages;
                }
                message => messages.push(message),
            }
        }
    }

    /// Returns the next outcomes.
    fn outcomes(&mut self) -> Vec<Outcome> {
        match self.receive().unwrap() {
            ToController::Outcomes(outcomes) => outcomes,
            message => panic!("{message:?} instead of outcomes"),
        }
    }

    /// Returns the next outcome of a check.
    fn outcome(&mut self, id: u32) -> Outcome {
        loop {
            if let Some(outcome) = self.outcomes().into_iter().find(|o| o.check == CheckId(id)) {
                return outcome;
            }
        }
    }
}

fn check(target: impl Into<IpAddr>, probe: ProbeKind) -> Check {
    let timeout = ProbeTimeout::Fixed(Duration::from_secs(10));
    Check { target: target.into(), source: None, timeout, fast_interval: INTERVAL, probe }
}

fn with_short_timeout(check: Check) -> Check {
    Check { timeout: ProbeTimeout::Fixed(Duration::from_millis(20)), ..check }
}

/// Returns code and detail of a check's first probe.
fn probe(check: Check) -> (OutcomeCode, String) {
    let (mut controller, _thread) = spawn();
    controller.greet();
    assert_eq!(controller.commit(1, &[(1, check)]), []);
    let Outcome { seq, code, detail, .. } = controller.outcome(1);
    assert_eq!(seq, 1);
    (code, detail.to_string())
}

/// Sends batches of probes with room for a few replies: each probe passes or is a local fault, and lost replies are counted.
fn assert_overflow_is_local_fault(
    sockets: impl FnOnce() -> (IcmpProber, SynProber) + Send + 'static,
    checks: impl Iterator<Item = Check>,
    pass: OutcomeCode,
) {
    let timeout = ProbeTimeout::Fixed(Duration::from_secs(1));
    let checks: Vec<_> = (0..).zip(checks.map(|check| Check { timeout, ..check })).collect();
    let (mut controller, endpoint) = link_pair();
    let _thread = start_with(sockets, endpoint, LIMITS, Duration::ZERO);
    controller.greet();
    assert_eq!(controller.commit(1, &checks), []);
    let (mut passed, mut lost) = (0, 0);
    while passed < 100 || lost < 100 {
        for Outcome { code, detail, .. } in controller.outcomes() {
            assert!([pass, OutcomeCode::Local].contains(&code), "{code:?} {detail}");
            passed += usize::from(code == pass);
            lost += usize::from(detail.to_string() == rx_loss::OVERFLOWED);
        }
    }
    controller.stats(|stats| stats.lost_to_overflow > 0);
}

/// Returns an engine whose loop the test runs by hand.
fn idle_engine() -> Engine {
    let (_, endpoint) = link_pair();
    Engine::new(engine_config(sockets(ReservedPorts::reserve().ok()), endpoint, LIMITS, Duration::ZERO))
        .unwrap()
}

/// Starts a probe of each check, and returns the start time.
fn start_probes(engine: &mut Engine, checks: impl Iterator<Item = Check>) -> Nanos {
    let accepted = (0..).zip(checks).map(|(id, check)| {
        let plan = ProbePlan::compile(&check, &mut engine.configs, &mut RegexpSet::new(1)).unwrap();
        AcceptedCheck { id: CheckId(id), interval: INTERVAL, stable_after: 1, check, plan }
    });
    let (accepted, now) = (accepted.collect(), clock::now());
    engine.scheduler.replace_set(accepted, now);
    engine.sockets.syn.prober.set_receiving([true, true]);
    let due = now + 50_000_000;
    engine.process_timers(due);
    while engine.scheduler.start_next(due, |key, check, plan| engine.sockets.start(key, check, plan, due)) {}
    due
}

/// Queues more replies than a late iteration reads: it times out no probe, and the next one reads the rest.
fn assert_unread_replies_delay_timeouts(check: impl Fn(Ipv4Addr) -> Check, receive: fn(&mut Engine)) {
    let mut engine = idle_engine();
    let sockets = &engine.sockets;
    for socket in sockets.icmp.prober.sockets().into_iter().chain(sockets.syn.prober.sockets()) {
        setsockopt(&socket.unwrap(), sockopt::RcvBufForce, &LARGE_BUFFER).unwrap();
    }
    let checks = (0..1200_u16).map(u16::to_be_bytes).map(|[high, low]| check([127, 5, 7 + high, low].into()));
    let due = start_probes(&mut engine, checks);
    engine.flush_icmp();
    engine.flush_syns();
    for expected in [receiver::MAX_BATCHES * raw::BATCH, 1200 - receiver::MAX_BATCHES * raw::BATCH] {
        engine.sockets.begin_iteration(due);
        receive(&mut engine);
        engine.process_timers(due + 30_000_000);
        let outcomes: Vec<_> = engine.scheduler.take_reports().map(|report| report.outcome).collect();
        assert_eq!(outcomes.len(), expected);
        assert!(outcomes.iter().all(|outcome| outcome.code.passed() == Some(true)), "{outcomes:?}");
    }
}

/// Starts a server that calls `handle` for every connection.
fn serve(handle: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            handle(stream.unwrap());
        }
    });
    address
}

/// Starts a server that sends a fixed response to any request, and closes.
fn responding(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let answer = answer.into();
    serve(move |mut stream| {
        let mut request = [0; 4096];
        let _ = std::io::Read::read(&mut stream, &mut request);
        let _ = stream.write_all(&answer);
    })
}

/// Starts a server that accepts in the kernel and never responds.
fn silent() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Returns a closed port.
fn closed_port() -> SocketAddr {
    silent().1
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
