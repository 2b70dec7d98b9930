//! A prober that this host stops for a while.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::time::Duration;

use maglev_ipc::{HttpCheck, ProbeKind};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::harness::Place;

#[test]
fn what_times_out_while_the_prober_is_stopped_is_no_verdict() {
    // Connections are made by the kernel, and nothing ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let target = IpAddr::from(Ipv4Addr::LOCALHOST);
    let place = Place::new();
    let prober = place.start(&[], &[]);
    let mut controller = prober.connect();
    let pid = Pid::from_raw(prober.child.id().cast_signed());
    for generation in 1.. {
        // Another check each time, so that its first outcome is of a probe that the stop may have hit.
        let host = format!("h{generation}");
        let http =
            HttpCheck { path: "/".into(), host, codes: vec![(200, 200)], body: None, keep_alive: None };
        controller.ask(
            generation,
            target,
            ProbeKind::Http { port, http, tls: None },
            Duration::from_millis(150),
        );
        // There is no event by which to know that a probe has started; if this one had not, the next may.
        std::thread::sleep(Duration::from_millis(20));
        kill(pid, Signal::SIGSTOP).unwrap();
        std::thread::sleep(Duration::from_millis(600));
        kill(pid, Signal::SIGCONT).unwrap();
        let outcome = controller.outcome(generation);
        if outcome == "LOCAL this host had stopped the prober" {
            return;
        }
        assert_eq!(outcome, "L7TOUT no answer");
        assert!(generation < 10, "every stop was taken for the server's silence");
    }
}
