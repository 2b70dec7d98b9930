//! A prober that its host does not schedule for a while.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::time::Duration;

use maglev_ipc::{HttpCheck, ProbeKind};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::harness::TestDir;

#[test]
fn timeout_during_stall_is_local_fault() {
    // The kernel accepts connections, and the server never responds.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let target = IpAddr::from(Ipv4Addr::LOCALHOST);
    let dir = TestDir::new();
    let prober = dir.start(&[], &[]);
    let mut controller = prober.connect();
    let pid = Pid::from_raw(prober.child.id().cast_signed());
    for generation in 1.. {
        // A new check each time, so that its first outcome is of a probe during the stop.
        let host = format!("h{generation}");
        let http =
            HttpCheck { path: "/".into(), host, codes: vec![(200, 200)], body: None, keep_alive: None };
        controller.send_check(
            generation,
            target,
            ProbeKind::Http { port, http, tls: None },
            Duration::from_millis(150),
        );
        // The start of a probe is not observable; if it had not started, the next round may succeed.
        std::thread::sleep(Duration::from_millis(20));
        kill(pid, Signal::SIGSTOP).unwrap();
        std::thread::sleep(Duration::from_millis(600));
        kill(pid, Signal::SIGCONT).unwrap();
        let outcome = controller.outcome(generation);
        if outcome == "LOCAL prober stalled on this host" {
            return;
        }
        assert_eq!(outcome, "L7TOUT no answer");
        assert!(generation < 10, "every stall counted as a timeout of the server");
    }
}
