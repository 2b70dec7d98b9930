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
fn a_controller_that_comes_back_finds_every_streak() {
    let prober = Listening::start(LIMITS, LONG, None);
    let port = closed().port();
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
    let said = second.commit(1, &[(8, tcp(new.ip(), new.port())), (9, refused(port))]);
    let [ToController::Histories(streaks)] = &said[..] else { panic!("{said:?}") };
    let [VerdictHistory { last, bits: 0, len: known }] = &streaks[..] else { panic!("{streaks:?}") };
    assert_eq!((last.check, last.code), (CheckId(9), OutcomeCode::L4Con));
    assert_eq!(u64::from(*known), last.seq.min(64));
    assert!(last.seq >= 3);
    assert_eq!(second.outcome(8).seq, 1);
    assert!(second.outcome(9).seq > last.seq);
}

#[test]
fn a_second_set_on_a_link_goes_on_without_streaks() {
    let (mut controller, _thread) = spawn();
    controller.greet();
    let port = closed().port();
    controller.commit(1, &[(1, refused(port)), (2, tcp(Ipv4Addr::new(127, 0, 0, 2), port))]);
    let before = controller.outcome(1);
    assert_eq!(controller.commit(2, &[(3, refused(port))]), []);
    let after = controller.outcomes();
    assert!(after.iter().all(|outcome| outcome.check == CheckId(3)), "{after:?}");
    assert!(after[0].seq > before.seq);
    assert!(after[0].started > before.started);
}

#[test]
fn what_will_not_be_probed_is_refused_and_the_rest_runs() {
    let limits = ProbeLimits { max_checks: 1, max_rate: 1000 };
    let prober = Listening::start(limits, LONG, None);
    let mut controller = prober.connect();
    controller.greet();
    let port = closed().port();
    let link_local: IpAddr = "fe80::1".parse().unwrap();
    let said = controller.commit(1, &[(2, tcp(link_local, port)), (1, refused(port))]);
    assert!(
        matches!(&said[..], [ToController::Rejected { id: CheckId(2), reason: RejectReason::Target(..) }]),
        "{said:?}"
    );
    assert_eq!(controller.outcome(1).code, OutcomeCode::L4Con);
    let over = Ipv4Addr::new(127, 0, 0, 9);
    let said = controller.commit(2, &[(3, refused(port)), (4, tcp(over, port))]);
    assert!(
        matches!(&said[..], [ToController::Rejected { id: CheckId(4), reason: RejectReason::Limit { .. } }]),
        "{said:?}"
    );
}

#[test]
fn pace_is_obeyed() {
    let (mut controller, _thread) = spawn();
    controller.greet();
    controller.commit(1, &[(1, refused(closed().port()))]);
    controller.outcome(1);
    controller.send(&ToProber::SetIntervals(vec![
        (CheckId(1), Duration::from_secs(3600)),
        (CheckId(77), INTERVAL),
    ]));
    // The message that proves that the pace was read: nothing was probed meanwhile, but for one in flight.
    controller.send(&ToProber::Begin { generation: 2 });
    controller.send(&ToProber::Commit { generation: 2 });
    assert_eq!(controller.until_committed(2), []);
}

#[test]
fn the_prober_ends_with_the_controller_that_started_it() {
    let (controller, thread) = spawn();
    drop(controller);
    assert_eq!(thread.join().unwrap(), Exit::ControllerExited);
}

#[test]
fn the_prober_ends_when_no_controller_comes_back() {
    let prober = Listening::start(LIMITS, Duration::ZERO, None);
    prober.connect().greet();
    assert_eq!(prober.thread.join().unwrap(), Exit::OrphanTimeout);
}

#[test]
fn a_new_controller_takes_the_place_of_the_old() {
    let prober = Listening::start(LIMITS, LONG, None);
    let mut old = prober.connect();
    old.greet();
    let mut new = prober.connect();
    new.greet();
    assert!(matches!(old.receive(), Err(Error::Closed)));
    assert_eq!(new.commit(1, &[]), []);
}

#[test]
fn a_stranger_is_turned_away() {
    let prober = Listening::start(LIMITS, LONG, Some(Vec::new()));
    assert!(matches!(prober.connect().receive(), Err(Error::Closed)));
}

#[test]
fn whoever_breaks_the_protocol_is_cut_off() {
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
    let prober = Listening::start(LIMITS, LONG, None);
    for breach in breaches {
        let mut controller = prober.connect();
        breach.iter().for_each(|message| controller.send(message));
        let error = std::iter::repeat_with(|| controller.receive()).find_map(Result::err);
        assert!(matches!(error, Some(Error::Closed)), "{breach:?} gave {error:?}");
    }
    // And the prober lives.
    prober.connect().greet();
}

#[test]
fn a_controller_of_another_version_is_told_ours() {
    let prober = Listening::start(LIMITS, LONG, None);
    let mut controller = prober.connect();
    controller.send(&ToProber::Hello { version: VERSION + 1, release: String::new() });
    assert!(matches!(controller.receive(), Ok(ToController::Hello { version: VERSION, .. })));
    assert!(matches!(controller.receive(), Err(Error::Closed)));
}

#[test]
fn a_controller_that_falls_silent_is_cut_off() {
    let prober = Listening::start(LIMITS, LONG, None);
    let mut controller = prober.connect();
    controller.greet();
    assert!(matches!(controller.receive(), Err(Error::Closed)));
}

#[test]
fn the_rate_has_a_limit_and_every_check_its_turn() {
    let port = closed().port();
    let checks: Vec<_> = (1..=50).map(|n| (n, tcp(Ipv4Addr::new(127, 0, 0, n as u8), port))).collect();
    // At an hour each, all are admitted; the pace then asks for ten times what the limit allows.
    let prober = Listening::start(ProbeLimits { max_checks: 100, max_rate: 500 }, LONG, None);
    let mut controller = prober.connect();
    controller.greet();
    controller.send(&ToProber::Begin { generation: 1 });
    controller.send_checks(Duration::from_secs(3600), &checks);
    controller.send(&ToProber::Commit { generation: 1 });
    assert_eq!(controller.until_committed(1), []);
    controller.send(&ToProber::SetIntervals((1..=50).map(|n| (CheckId(n), INTERVAL)).collect()));
    let (mut seen, mut put_off) = ([0; 51], false);
    while !put_off || seen[1..].iter().any(|seen| *seen < 3) {
        match controller.anything() {
            ToController::Outcomes(outcomes) => outcomes.iter().for_each(|o| seen[o.check.0 as usize] += 1),
            // A check that comes round ten times too seldom is later each time than any scheduler makes it.
            ToController::Heartbeat(stats) => {
                put_off = stats.delayed_by_rate > 0 && stats.lateness.counts[5..8] != [0; 3];
            }
            message => panic!("{message:?}"),
        }
    }
}

#[test]
fn a_malformed_message_cuts_the_link() {
    let prober = Listening::start(LIMITS, LONG, None);
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
    controller.commit(1, &[(1, refused(closed().port()))]);
    let stats = controller.stats(|stats| stats.probes > 0);
    assert_eq!(stats.lateness.counts.iter().sum::<u64>(), stats.probes);
}

#[test]
fn outcomes_of_many_checks_arrive_whole_and_in_order() {
    let (mut controller, _thread) = spawn();
    controller.greet();
    let port = closed().port();
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
