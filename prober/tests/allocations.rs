//! Probes allocate nothing in the steady state. The test counts allocations in the engine's thread, for a short and a long
//! run; the difference is the steady state.
#![cfg(test)]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use maglev_ipc::{
    Check, CheckId, ConnectMode, HttpCheck, ProbeKind, ProbeTimeout, ToController, ToProber, VERSION,
};
use maglev_ipc_link::{ControllerSocket, Error, batch_checks};
use maglev_notify::ServiceNotifier;
use maglevd_prober::engine::{ControllerEndpoint, Engine, EngineConfig};
use maglevd_prober::probe::half_open::SynProber;
use maglevd_prober::probe::icmp::IcmpProber;
use maglevd_prober::probe::ports::ReservedPorts;
use maglevd_prober::probe::tls;
use maglevd_prober::set::ProbeLimits;
use maglevd_prober::targets::Targets;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::SignalFd;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

const CHECKS: u8 = 100;
/// Short, so that many checks start together and a message has many outcomes.
const INTERVAL: Duration = Duration::from_millis(20);
/// Each message allocates its list of outcomes, and its bytes.
const PER_MESSAGE: u64 = 2;
/// Allowance for lists that reach their final size late.
const GROWTH: u64 = 200;

/// Allocations and messages of one run.
#[derive(Clone, Copy, Debug)]
struct RunStats {
    allocations: u64,
    messages: u64,
    outcomes: u64,
}

/// Runs an engine for this number of outcomes.
fn run_engine(probe: &ProbeKind, outcomes: u64) -> RunStats {
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
    let engine = thread::spawn(move || {
        let ports = ReservedPorts::reserve().unwrap();
        let mut engine = Engine::new(EngineConfig {
            namespace: None,
            endpoint: ControllerEndpoint::Inherited(theirs),
            icmp_prober: IcmpProber::open(Some(&ports)).unwrap(),
            syn_prober: SynProber::open(Some(ports)).unwrap(),
            configs: tls::TlsConfigs::new([]),
            signals: SignalFd::new(&SigSet::empty()).unwrap(),
            limits: ProbeLimits {
                targets: Targets::ANY,
                max_checks: 1000,
                max_rate: 100_000,
                max_rate_per_address: 200,
            },
            max_connections: 1000,
            orphan_timeout: Duration::ZERO,
            notifier: ServiceNotifier::default(),
            seed: 7,
        })
        .unwrap();
        allocation_counter::measure(|| _ = engine.run().unwrap()).count_total
    });
    let mut link = ControllerSocket::new(ours).unwrap();
    link.send(&ToProber::Hello { version: VERSION, release: "test".to_owned() }).unwrap();
    link.send(&ToProber::Begin { generation: 1 }).unwrap();
    let checks = (0..CHECKS).map(|number| {
        let check = Check {
            target: IpAddr::from(Ipv4Addr::new(127, 9, 9, number + 1)),
            source: None,
            timeout: ProbeTimeout::Fixed(Duration::from_secs(10)),
            fast_interval: INTERVAL,
            probe: probe.clone(),
        };
        (CheckId(number.into()), INTERVAL.into(), check)
    });
    batch_checks(checks).for_each(|message| link.send(&message).unwrap());
    link.send(&ToProber::Commit { generation: 1 }).unwrap();
    let mut stats = RunStats { allocations: 0, messages: 0, outcomes: 0 };
    while stats.outcomes < outcomes {
        match link.receive() {
            Ok(message) => {
                stats.messages += 1;
                if let ToController::Outcomes(list) = message {
                    assert!(list.iter().all(|outcome| outcome.code.passed() == Some(true)), "{list:?}");
                    stats.outcomes += list.len() as u64;
                }
            }
            Err(Error::WouldBlock) => {
                let mut fds = [PollFd::new(link.as_fd(), PollFlags::POLLIN)];
                assert_eq!(poll(&mut fds, PollTimeout::from(30_000_u16)).unwrap(), 1, "the prober is stuck");
            }
            Err(error) => panic!("{error}"),
        }
    }
    drop(link);
    stats.allocations = engine.join().unwrap();
    stats
}

fn assert_no_allocations(probe: &ProbeKind) {
    let (short, long) = (run_engine(probe, 1_000), run_engine(probe, 7_000));
    let messages = long.messages.saturating_sub(short.messages);
    let allocations = long.allocations.saturating_sub(short.allocations);
    assert!(allocations <= PER_MESSAGE * messages + GROWTH, "{short:?} {long:?}");
}

/// Starts a server that answers every request, on all addresses of loopback.
fn server() -> SocketAddr {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream: TcpStream = stream.unwrap();
            thread::spawn(move || {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                while let Ok(1..) = stream.read(&mut [0; 4096]) {
                    if stream.write_all(answer).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn icmp_probes_do_not_allocate() {
    if !is_root() {
        return println!("SKIP icmp_probes_do_not_allocate: needs root");
    }
    assert_no_allocations(&ProbeKind::Icmp);
}

#[test]
fn half_open_probes_do_not_allocate() {
    if !is_root() {
        return println!("SKIP half_open_probes_do_not_allocate: needs root");
    }
    assert_no_allocations(&ProbeKind::Tcp { port: server().port(), mode: ConnectMode::HalfOpen, tls: None });
}

#[test]
fn keep_alive_probes_do_not_allocate() {
    let http = HttpCheck {
        path: "/".to_owned(),
        host: "h".to_owned(),
        codes: vec![(200, 200)],
        body: None,
        keep_alive: NonZeroU32::new(1000),
    };
    assert_no_allocations(&ProbeKind::Http { port: server().port(), http, tls: None });
}
