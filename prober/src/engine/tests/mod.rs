//! The whole engine, against real sockets, driven as a controller drives it.

mod controller;
mod half_open;
mod http;
mod icmp;
mod keep_alive;
mod tcp;
mod tls;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::thread::JoinHandle;
use std::time::Duration;

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
use crate::scheduler::AcceptedCheck;

/// How long a test waits before it calls the prober stuck.
const STUCK: u16 = 30_000;
/// The shortest there is, so that tests need not wait.
const INTERVAL: Duration = Duration::from_millis(10);
const LIMITS: ProbeLimits = ProbeLimits { max_checks: 1000, max_rate: 100_000 };
/// A raw socket's buffer that holds what this host's other tests send meanwhile, in bytes. Needs root.
const ROOM: usize = 16 * 1024 * 1024;

/// An engine in a thread of its own. Its sockets are made there: they are not to be sent.
fn start(endpoint: ControllerEndpoint, limits: ProbeLimits, orphan_timeout: Duration) -> JoinHandle<Exit> {
    start_with(|| sockets(ReservedPorts::reserve().ok()), endpoint, limits, orphan_timeout)
}

/// RawSocket sockets, with ports for half-open probes.
fn sockets(ports: Option<ReservedPorts>) -> (IcmpProber, SynProber) {
    (IcmpProber::open(ports.as_ref()).unwrap(), SynProber::open(ports).unwrap())
}

/// The same, with the raw sockets that it is given.
fn start_with(
    sockets: impl FnOnce() -> (IcmpProber, SynProber) + Send + 'static,
    endpoint: ControllerEndpoint,
    limits: ProbeLimits,
    orphan_timeout: Duration,
) -> JoinHandle<Exit> {
    std::thread::spawn(move || {
        Engine::new(setup(sockets(), endpoint, limits, orphan_timeout)).unwrap().run().unwrap()
    })
}

fn setup(
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
        notifier: ServiceNotifier::default(),
        seed: 7,
    }
}

/// Both ends of a link.
fn line() -> (Controller, ControllerEndpoint) {
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
    (Controller::new(ours), ControllerEndpoint::Inherited(theirs))
}

/// An engine whose only controller is the one that is returned.
fn spawn() -> (Controller, JoinHandle<Exit>) {
    let (controller, endpoint) = line();
    (controller, start(endpoint, LIMITS, Duration::ZERO))
}

/// An engine that listens.
struct Listening {
    directory: tempfile::TempDir,
    thread: JoinHandle<Exit>,
}

impl Listening {
    fn start(limits: ProbeLimits, orphan_timeout: Duration, users: Option<Vec<u32>>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = listen::at(&directory.path().join("sock")).unwrap();
        let users = users.unwrap_or_else(|| listen::users(&listener));
        let thread = start(ControllerEndpoint::Listener(listener, users), limits, orphan_timeout);
        Self { directory, thread }
    }

    fn connect(&self) -> Controller {
        Controller { link: ControllerSocket::connect(&self.directory.path().join("sock")).unwrap() }
    }
}

struct Controller {
    link: ControllerSocket,
}

impl Controller {
    fn new(fd: OwnedFd) -> Self {
        Self { link: ControllerSocket::new(fd).unwrap() }
    }

    fn send(&self, message: &ToProber) {
        self.link.send(message).unwrap();
    }

    /// The next message, heartbeats left out.
    fn receive(&mut self) -> Result<ToController, Error> {
        loop {
            match self.next() {
                Ok(ToController::Heartbeat(_)) => {}
                result => return result,
            }
        }
    }

    /// The first counters that are as they are `wanted`.
    fn stats(&mut self, wanted: impl Fn(&ProberStats) -> bool) -> ProberStats {
        loop {
            if let ToController::Heartbeat(stats) = self.anything()
                && wanted(&stats)
            {
                return stats;
            }
        }
    }

    /// The next message of any kind.
    fn anything(&mut self) -> ToController {
        self.next().unwrap()
    }

    fn next(&mut self) -> Result<ToController, Error> {
        loop {
            match self.link.receive() {
                Err(Error::WouldBlock) => {
                    let mut fds = [PollFd::new(self.link.as_fd(), PollFlags::POLLIN)];
                    assert_eq!(poll(&mut fds, PollTimeout::from(STUCK)).unwrap(), 1, "the prober is stuck");
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

    /// Sends a set and returns what is said up to `Committed`, outcomes left out.
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
        let mut said = Vec::new();
        loop {
            match self.receive().unwrap() {
                ToController::Outcomes(_) => {}
                ToController::Committed { generation: committed } => {
                    assert_eq!(committed, generation);
                    return said;
                }
                message => said.push(message),
            }
        }
    }

    /// The next outcomes.
    fn outcomes(&mut self) -> Vec<Outcome> {
        match self.receive().unwrap() {
            ToController::Outcomes(outcomes) => outcomes,
            message => panic!("{message:?} where outcomes were to come"),
        }
    }

    /// The next outcome of one check.
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

fn quickly(check: Check) -> Check {
    Check { timeout: ProbeTimeout::Fixed(Duration::from_millis(20)), ..check }
}

/// What one probe of that check comes to.
fn probe(check: Check) -> (OutcomeCode, String) {
    let (mut controller, _thread) = spawn();
    controller.greet();
    assert_eq!(controller.commit(1, &[(1, check)]), []);
    let Outcome { seq, code, detail, .. } = controller.outcome(1);
    assert_eq!(seq, 1);
    (code, detail.to_string())
}

/// Answers come in by the batch, and the sockets have room for a handful: each probe passes or comes to no verdict, and
/// what is lost is counted.
fn what_is_lost_here_is_no_verdict(
    sockets: impl FnOnce() -> (IcmpProber, SynProber) + Send + 'static,
    checks: impl Iterator<Item = Check>,
    pass: OutcomeCode,
) {
    let timeout = ProbeTimeout::Fixed(Duration::from_secs(1));
    let checks: Vec<_> = (0..).zip(checks.map(|check| Check { timeout, ..check })).collect();
    let (mut controller, endpoint) = line();
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

/// An engine that a test turns by hand.
fn idle_engine() -> Engine {
    let (_, endpoint) = line();
    Engine::new(setup(sockets(ReservedPorts::reserve().ok()), endpoint, LIMITS, Duration::ZERO)).unwrap()
}

/// Begins a probe of each, and says when.
fn launch(engine: &mut Engine, checks: impl Iterator<Item = Check>) -> Nanos {
    let members = (0..).zip(checks).map(|(id, check)| {
        let plan = ProbePlan::compile(&check, &mut engine.configs).unwrap();
        AcceptedCheck { id: CheckId(id), interval: INTERVAL, settled: 1, check, plan }
    });
    let (members, now) = (members.collect(), clock::now());
    engine.scheduler.replace_set(members, now);
    engine.sockets.syn_prober.listen([true, true]);
    let due = now + 50_000_000;
    engine.expire(due);
    while engine.scheduler.start_next(due, |key, check, plan| engine.sockets.start(key, check, plan, due)) {}
    due
}

/// More answers wait than one turn reads, which comes late: what is given up in it has not been without an answer.
fn what_is_not_read_yet_is_no_verdict(check: impl Fn(Ipv4Addr) -> Check, receive: fn(&mut Engine)) {
    let mut engine = idle_engine();
    let sockets = &engine.sockets;
    for socket in sockets.icmp_prober.sockets().into_iter().chain(sockets.syn_prober.sockets()) {
        setsockopt(&socket.unwrap(), sockopt::RcvBufForce, &ROOM).unwrap();
    }
    let checks = (0..1200_u16).map(u16::to_be_bytes).map(|[high, low]| check([127, 5, 7 + high, low].into()));
    let due = launch(&mut engine, checks);
    engine.flush_pings();
    engine.flush_segments();
    receive(&mut engine);
    engine.expire(due + 30_000_000);
    let told: Vec<_> = engine.scheduler.take_reports().map(|report| report.outcome).collect();
    let is_pass = |outcome: &&Outcome| outcome.code.passed() == Some(true);
    assert_eq!((told.len(), told.iter().filter(is_pass).count()), (1200, BATCHES * 64));
    assert!(told.iter().all(|outcome| outcome.code.passed() != Some(false)));
}

/// A server that does so with every connection.
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

/// A server that sends so much, however it is asked, and then closes.
fn answering(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let answer = answer.into();
    serve(move |mut stream| {
        let mut request = [0; 4096];
        let _ = std::io::Read::read(&mut stream, &mut request);
        let _ = stream.write_all(&answer);
    })
}

/// A server whose connections are made by the kernel, and on which nothing ever happens.
fn silent() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A port on which nobody listens.
fn closed() -> SocketAddr {
    silent().1
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
