use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use maglev_ipc::{RejectReason, VerdictHistory};
use nix::sys::socket::{MsgFlags, send};

use super::*;

const LONG: Duration = Duration::from_secs(600);

fn tcp(target: impl Into<IpAddr>, port: u16) -> Check {
    check(target, ProbeKind::Tcp { port, mode: ConnectMode::Full, tls: None })
}

fn refused(port: u16) -> Check {
    tcp(Ipv4Addr::LOCALHOST, port)
}

#[test]
fn reconnected_controller_receives_histories() {
    let prober = ListeningEngine::start(LIMITS, LONG, None);
    let port = closed_port().port();
    let mut first = prober.connect();
    let instance = first.greet();
    assert_eq!(first.commit(1, &[(1, refused(port))]), []);
    let mut newest = first.outcome(1);
    while newest.seq < 3 {
        newest = first.outcome(1);
    }
    drop(first);

    let mut second = prober.connect();
    assert_eq!(second.greet(), instance);
    let (_listener, new) = silent();
    let messages = second.commit(1, &[(8, tcp(new.ip(), new.port())), (9, refused(port))]);
    let [ToController::Histories(histories)] = &messages[..] else { panic!("{messages:?}") };
    let [VerdictHistory { last, bits: 0, len }] = &histories[..] else { panic!("{histories:?}") };
    assert_eq!((last.check, last.code), (CheckId(9), OutcomeCode::L4Con));
    assert_eq!(u64::from(*len), last.seq.min(64));
    assert!(last.seq >= 3);
    assert_eq!(second.outcome(8).seq, 1);
    assert!(second.outcome(9).seq > last.seq);
}

#[test]
fn renamed_check_hands_its_verdicts_over() {
    let (mut controller, _thread) = spawn();
    controller.greet();
    let port = closed_port().port();
    controller.commit(1, &[(1, refused(port)), (2, tcp(Ipv4Addr::new(127, 0, 0, 2), port))]);
    let before = controller.outcome(1);
    let [ToController::Histories(histories)] = &controller.commit(2, &[(3, refused(port))])[..] else {
        panic!()
    };
    assert_eq!((histories.len(), histories[0].last.check), (1, CheckId(3)));
    // A loaded host may run another probe before the rename.
    assert!(histories[0].last.seq >= before.seq);
    let after = controller.outcomes();
    assert!(after.iter().all(|outcome| outcome.check == CheckId(3)), "{after:?}");
    assert!(after[0].seq > histories[0].last.seq);
    assert!(after[0].started > before.started);
}

#[test]
fn rejected_check_does_not_affect_others() {
    let limits = ProbeLimits { max_checks: 1, max_rate: 1000, ..LIMITS };
    let prober = ListeningEngine::start(limits, LONG, None);
    let mut controller = prober.connect();
    controller.greet();
    let port = closed_port().port();
    let link_local: IpAddr = "fe80::1".parse().unwrap();
    let messages = controller.commit(1, &[(2, tcp(link_local, port)), (1, refused(port))]);
    assert!(
        matches!(
            &messages[..],
            [ToController::Rejected { id: CheckId(2), reason: RejectReason::Target(..) }]
        ),
        "{messages:?}"
    );
    assert_eq!(controller.outcome(1).code, OutcomeCode::L4Con);
    let over = Ipv4Addr::new(127, 0, 0, 9);
    let messages = controller.commit(2, &[(3, refused(port)), (4, tcp(over, port))]);
    assert!(
        matches!(
            &messages[..],
            [
                ToController::Rejected { id: CheckId(4), reason: RejectReason::Limit { .. } },
                ToController::Histories(_),
            ]
        ),
        "{messages:?}"
    );
}

#[test]
fn interval_change_is_applied() {
    let (mut controller, _thread) = spawn();
    controller.greet();
    controller.commit(1, &[(1, refused(closed_port().port()))]);
    controller.outcome(1);
    controller.send(&ToProber::SetIntervals(vec![
        (CheckId(1), Duration::from_secs(3600)),
        (CheckId(77), INTERVAL),
    ]));
    // The commit proves that the interval was applied: no probe started meanwhile.
    controller.send(&ToProber::Begin { generation: 2 });
    controller.send(&ToProber::Commit { generation: 2 });
    assert_eq!(controller.until_committed(2), []);
}

#[test]
fn engine_exits_with_its_parent() {
    let (controller, thread) = spawn();
    drop(controller);
    assert_eq!(thread.join().unwrap(), Exit::ControllerExited);
}

#[test]
fn engine_exits_after_orphan_timeout() {
    let prober = ListeningEngine::start(LIMITS, Duration::ZERO, None);
    prober.connect().greet();
    assert_eq!(prober.thread.join().unwrap(), Exit::OrphanTimeout);
}

#[test]
fn new_controller_replaces_the_old() {
    let prober = ListeningEngine::start(LIMITS, LONG, None);
    let mut old = prober.connect();
    old.greet();
    let mut new = prober.connect();
    new.greet();
    assert!(matches!(old.receive(), Err(Error::Closed)));
    assert_eq!(new.commit(1, &[]), []);
}

#[test]
fn untrusted_user_is_rejected() {
    let prober = ListeningEngine::start(LIMITS, LONG, Some(Vec::new()));
    assert!(matches!(prober.connect().receive(), Err(Error::Closed)));
}

#[test]
fn protocol_violation_closes_link() {
    let begin = |generation| ToProber::Begin { generation };
    let commit = |generation| ToProber::Commit { generation };
    let hello = |version| ToProber::Hello { version, release: String::new() };
    let check = ToProber::Checks(vec![(CheckId(1), INTERVAL.into(), refused(1))]);
    let breaches = [
        vec![begin(1)],
        vec![hello(VERSION + 1)],
        vec![hello(VERSION), hello(VERSION)],
        vec![hello(VERSION), commit(1)],
        vec![hello(VERSION), check.clone()],
        vec![hello(VERSION), begin(1), begin(2)],
        vec![hello(VERSION), begin(1), commit(2)],
        vec![hello(VERSION), begin(1), commit(1), begin(1)],
        vec![hello(VERSION), begin(1), check.clone(), check],
        vec![hello(VERSION), ToProber::SetIntervals(vec![(CheckId(1), Duration::ZERO)])],
    ];
    let prober = ListeningEngine::start(LIMITS, LONG, None);
    for breach in breaches {
        let mut controller = prober.connect();
        breach.iter().for_each(|message| controller.send(message));
        let error = std::iter::repeat_with(|| controller.receive()).find_map(Result::err);
        assert!(matches!(error, Some(Error::Closed)), "{breach:?} gave {error:?}");
    }
    // The prober still accepts connections.
    prober.connect().greet();
}

#[test]
fn version_mismatch_still_sends_hello() {
    let prober = ListeningEngine::start(LIMITS, LONG, None);
    let mut controller = prober.connect();
    controller.send(&ToProber::Hello { version: VERSION + 1, release: String::new() });
    assert!(matches!(controller.receive(), Ok(ToController::Hello { version: VERSION, .. })));
    assert!(matches!(controller.receive(), Err(Error::Closed)));
}

#[test]
fn silent_controller_is_disconnected() {
    let prober = ListeningEngine::start(LIMITS, LONG, None);
    let mut controller = prober.connect();
    controller.greet();
    assert!(matches!(controller.receive(), Err(Error::Closed)));
}

#[test]
fn rate_limit_serves_checks_fairly() {
    let port = closed_port().port();
    let checks: Vec<_> = (1..=50).map(|n| (n, tcp(Ipv4Addr::new(127, 0, 0, n as u8), port))).collect();
    // An interval of an hour passes admission; the new interval then exceeds the limit tenfold.
    let prober = ListeningEngine::start(ProbeLimits { max_checks: 100, max_rate: 500, ..LIMITS }, LONG, None);
    let mut controller = prober.connect();
    controller.greet();
    controller.send(&ToProber::Begin { generation: 1 });
    controller.send_checks(Duration::from_secs(3600), &checks);
    controller.send(&ToProber::Commit { generation: 1 });
    assert_eq!(controller.until_committed(1), []);
    controller.send(&ToProber::SetIntervals((1..=50).map(|n| (CheckId(n), INTERVAL)).collect()));
    let (mut seen, mut delayed) = ([0; 51], false);
    while !delayed || seen[1..].iter().any(|seen| *seen < 3) {
        match controller.next_message() {
            ToController::Outcomes(outcomes) => outcomes.iter().for_each(|o| seen[o.check.0 as usize] += 1),
            // A check that starts ten times too rarely is later than any host scheduling would make it.
            ToController::Heartbeat(stats) => {
                delayed = stats.delayed_by_rate > 0 && stats.lateness.counts[5..8] != [0; 3];
            }
            message => panic!("{message:?}"),
        }
    }
}

#[test]
fn malformed_message_closes_link() {
    let prober = ListeningEngine::start(LIMITS, LONG, None);
    let mut controller = prober.connect();
    controller.greet();
    send(controller.link.as_raw_fd(), b"\xff\xff", MsgFlags::empty()).unwrap();
    assert!(matches!(controller.receive(), Err(Error::Closed)));
    prober.connect().greet();
}

#[test]
fn heartbeats_carry_the_counters() {
    let (mut controller, _thread) = spawn();
    controller.greet();
    controller.commit(1, &[(1, refused(closed_port().port()))]);
    let stats = controller.stats(|stats| stats.probes > 0);
    assert_eq!(stats.lateness.counts.iter().sum::<u64>(), stats.probes);
}

#[test]
fn outcomes_arrive_complete_and_in_order() {
    let (mut controller, _thread) = spawn();
    controller.greet();
    let port = closed_port().port();
    let checks: Vec<_> = (1..200).map(|n| (n, tcp(Ipv4Addr::new(127, 0, 0, n as u8), port))).collect();
    controller.commit(1, &checks);
    let mut newest = vec![0; 200];
    while newest[1..].iter().any(|seq| *seq < 20) {
        for outcome in controller.outcomes() {
            let last = &mut newest[outcome.check.0 as usize];
            assert_eq!(outcome.seq, *last + 1, "an outcome is lost or out of order");
            *last = outcome.seq;
        }
    }
}
