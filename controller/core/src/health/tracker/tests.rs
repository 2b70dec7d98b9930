//! The transition table cell by cell, then random sequences.

use alloc::vec::Vec;

use maglev_ipc::{CertificateExpiry, CheckId, ConnectMode, ProbeTimeout};
use proptest::prelude::*;

use super::*;
use crate::config::Probe;

const THRESHOLDS: Thresholds = Thresholds { rise: 2, fall: 3 };
const AT: WallTime = WallTime(7);

fn outcome(seq: u64, code: OutcomeCode) -> Outcome {
    let detail = OutcomeDetail::None;
    Outcome {
        check: CheckId(1),
        seq,
        started: 0,
        duration: Duration::ZERO,
        code,
        detail,
        timeout: None,
        not_after: None,
        has_no_route: false,
    }
}

/// Returns a tracker in the given state, with the given counter.
fn tracker(health: Health, counter: u32) -> Tracker {
    Tracker {
        counter: RiseFall::new(THRESHOLDS).at(counter),
        ..Tracker::new(THRESHOLDS, 5, health, WallTime(0))
    }
}

fn after(mut tracker: Tracker, passed: bool, in_service: bool) -> (Health, u32) {
    let code = if passed { OutcomeCode::L7Ok } else { OutcomeCode::L7Sts };
    let before = tracker.health();
    let moved = tracker.record_outcome(&outcome(1, code), in_service, AT);
    assert_eq!(
        moved.is_some(),
        before != tracker.health(),
        "a transition is returned exactly when there is one"
    );
    (tracker.health(), tracker.counter())
}

#[test]
fn outcome_table_cell_by_cell() {
    use Health::{Disabled, Down, Paused, Removed, Unknown, Up};
    let table = [
        // state, counter, after a pass, after a failure
        (Unknown, 0, (Up, 4), (Down, 0)),
        (Down, 0, (Down, 1), (Down, 0)),
        (Down, 1, (Up, 4), (Down, 0)),
        (Up, 2, (Up, 3), (Down, 0)),
        (Up, 3, (Up, 4), (Up, 2)),
        (Up, 4, (Up, 4), (Up, 3)),
        (Paused, 0, (Paused, 0), (Paused, 0)),
        (Disabled, 0, (Disabled, 0), (Disabled, 0)),
        (Removed, 0, (Removed, 0), (Removed, 0)),
    ];
    for (health, counter, passed, failed) in table {
        assert_eq!(after(tracker(health, counter), true, false), passed, "{health} {counter} pass");
        assert_eq!(after(tracker(health, counter), false, false), failed, "{health} {counter} failure");
    }
}

/// The mass-failure detection predicts a transition before it is recorded.
#[test]
fn would_go_down_predicts_transition() {
    for (counter, seq, code) in
        (2..=4).flat_map(|counter| [(counter, 4), (counter, 5), (counter, 6)]).flat_map(|(counter, seq)| {
            [OutcomeCode::L7Sts, OutcomeCode::L7Ok, OutcomeCode::Local].map(|code| (counter, seq, code))
        })
    {
        let mut tracker = Tracker { seq: 5, ..tracker(Health::Up, counter) };
        let outcome = outcome(seq, code);
        let would = tracker.would_go_down(&outcome);
        let is_down = tracker.record_outcome(&outcome, false, AT).is_some();
        assert_eq!(would, is_down, "{counter} {seq} {code:?}");
    }
}

#[test]
fn confirm_down_needs_deferral_and_up() {
    for (health, deferred) in [(Health::Up, true), (Health::Up, false), (Health::Down, true)] {
        let mut tracker = Tracker { down_deferred: deferred, ..tracker(health, 2) };
        let is_down = tracker.confirm_down(TransitionCause::Config, AT).is_some();
        assert_eq!(is_down, health == Health::Up && deferred);
    }
    // A backend that an operator has taken out meanwhile stays out.
    let mut tracker = tracker(Health::Up, 2);
    tracker.defer_down(&outcome(1, OutcomeCode::L7Sts), AT);
    tracker.operate(BackendAction::Pause, AT).unwrap();
    assert_eq!(tracker.confirm_down(TransitionCause::Config, AT), None);
    assert_eq!(tracker.health(), Health::Paused);
}

#[test]
fn stable_after_passes_make_next_pass_steady() {
    for (rise, fall) in (1..=5).flat_map(|rise| (1..=5).map(move |fall| (rise, fall))) {
        let thresholds = Thresholds { rise, fall };
        let up = (rise..=thresholds.max_counter()).map(|counter| (Health::Up, counter));
        let down = (0..rise).map(|counter| (Health::Down, counter));
        for (health, counter) in up.chain(down).chain([(Health::Unknown, 0)]) {
            let mut tracker = Tracker {
                counter: RiseFall::new(thresholds).at(counter),
                down_deferred: true,
                failing_since: Some(1),
                ..Tracker::new(thresholds, 5, health, AT)
            };
            for seq in 1..=thresholds.stable_after().into() {
                tracker.record_outcome(&outcome(seq, OutcomeCode::L7Ok), false, AT);
            }
            let is_steady = tracker.record_steady_pass(&outcome(u64::MAX, OutcomeCode::L7Ok), AT);
            assert!(is_steady, "{thresholds:?} from {health} {counter}");
        }
    }
}

#[test]
fn operator_table_cell_by_cell() {
    use BackendAction::{Disable, Enable, Pause, Resume};
    use Health::{Disabled, Down, Paused, Removed, Unknown, Up};
    let refused = None;
    let table = [
        // state, pause, resume, disable, enable
        (Unknown, [Some(Paused), Some(Unknown), Some(Disabled), Some(Unknown)]),
        (Up, [Some(Paused), Some(Up), Some(Disabled), Some(Up)]),
        (Down, [Some(Paused), Some(Down), Some(Disabled), Some(Down)]),
        (Paused, [Some(Paused), Some(Unknown), Some(Disabled), Some(Paused)]),
        (Disabled, [refused, refused, Some(Disabled), Some(Unknown)]),
        (Removed, [refused, refused, refused, refused]),
    ];
    for (health, row) in table {
        for (action, expected) in [Pause, Resume, Disable, Enable].into_iter().zip(row) {
            let mut tracker = tracker(health, 0);
            let result = tracker.operate(action, AT);
            assert_eq!(result.is_ok().then(|| tracker.health()), expected, "{health} {action:?}");
            let returned = result.ok().flatten().map(|t| (t.from, t.to));
            let moved = (tracker.health() != health).then(|| (health, tracker.health()));
            assert_eq!(returned, moved, "{health} {action:?}");
        }
    }
}

#[test]
fn unknown_in_service_needs_fall_failures() {
    let mut tracker = tracker(Health::Unknown, 0);
    let states: Vec<_> = (1..=3)
        .map(|seq| {
            tracker.record_outcome(&outcome(seq, OutcomeCode::L4Tout), true, AT);
            tracker.health()
        })
        .collect();
    assert_eq!(states, [Health::Unknown, Health::Unknown, Health::Down]);
}

#[test]
fn unknown_in_service_pass_brings_up() {
    let mut tracker = tracker(Health::Unknown, 0);
    tracker.record_outcome(&outcome(1, OutcomeCode::L4Tout), true, AT);
    tracker.record_outcome(&outcome(2, OutcomeCode::L4Ok), true, AT);
    assert_eq!((tracker.health(), tracker.counter()), (Health::Up, 4));
}

#[test]
fn local_fault_keeps_health_and_is_shown() {
    for (health, counter) in [(Health::Unknown, 0), (Health::Up, 3), (Health::Down, 1)] {
        let mut tracker = tracker(health, counter);
        tracker.mark_stale();
        assert_eq!(tracker.record_outcome(&outcome(1, OutcomeCode::Local), false, AT), None);
        assert!(tracker.is_stale(), "no verdict since");
        assert_eq!((tracker.health(), tracker.counter()), (health, counter));
        assert_eq!(tracker.last().unwrap().code, OutcomeCode::Local);
    }
}

#[test]
fn certificate_expiry_survives_outcomes_without_one() {
    let mut tracker = tracker(Health::Up, 4);
    let shown = [
        (OutcomeCode::L7Ok, Some(5)),
        (OutcomeCode::L7Ok, None),
        (OutcomeCode::L6Rsp, Some(4)),
        (OutcomeCode::Local, None),
    ];
    let expiry = |leaf| CertificateExpiry { leaf, chain: leaf - 1 };
    for (seq, (code, leaf)) in (1..).zip(shown) {
        tracker.record_outcome(&Outcome { not_after: leaf.map(expiry), ..outcome(seq, code) }, false, AT);
        assert_eq!(tracker.not_after(), Some(expiry(if seq < 3 { 5 } else { 4 })));
    }
    tracker.restart(Thresholds { rise: 1, fall: 1 }, AT);
    assert_eq!(tracker.not_after(), None);
    let last = Outcome { not_after: Some(expiry(6)), ..outcome(9, OutcomeCode::L7Ok) };
    tracker.replay_history(&VerdictHistory { last, bits: 1, len: 1 }, false, AT);
    assert_eq!(tracker.not_after(), Some(expiry(6)));
}

#[test]
fn older_outcome_is_ignored() {
    let mut tracker = tracker(Health::Up, 4);
    tracker.record_outcome(&outcome(5, OutcomeCode::L7Ok), false, AT);
    for seq in [5, 4, 1] {
        tracker.record_outcome(&outcome(seq, OutcomeCode::L7Sts), false, AT);
        assert!(!tracker.record_steady_pass(&outcome(seq, OutcomeCode::L7Ok), AT), "it is a duplicate");
    }
    assert_eq!((tracker.health(), tracker.counter()), (Health::Up, 4));
}

#[test]
fn history_of_unknown_backend_is_replayed() {
    let cases: [(&[bool], Health, u32); 6] = [
        (&[true], Health::Up, 4),
        (&[false], Health::Down, 0),
        (&[true, false, false], Health::Up, 2),
        (&[true, false, false, false], Health::Down, 0),
        (&[false, true], Health::Down, 1),
        (&[false, true, true], Health::Up, 4),
    ];
    for (verdicts, health, counter) in cases {
        let passes = verdicts.iter().fold(0, |bits, passed| bits << 1 | u64::from(*passed));
        let history = VerdictHistory {
            last: outcome(9, OutcomeCode::L7Ok),
            bits: passes,
            len: u8::try_from(verdicts.len()).unwrap(),
        };
        let mut tracker = tracker(Health::Unknown, 0);
        let transition = tracker.replay_history(&history, false, AT).unwrap();
        assert_eq!((transition.from, transition.to), (Health::Unknown, health), "{verdicts:?}");
        assert_eq!(tracker.counter(), counter, "{verdicts:?}");
        assert_eq!(tracker.history().len(), 1, "one transition for any length");
        assert_eq!(tracker.failing_since().is_some(), verdicts.last() == Some(&false), "{verdicts:?}");
    }
}

#[test]
fn history_of_known_backend_changes_nothing() {
    let mut tracker = tracker(Health::Up, 4);
    let history = VerdictHistory { last: outcome(9, OutcomeCode::L7Sts), bits: 0, len: 64 };
    assert_eq!(tracker.replay_history(&history, false, AT), None);
    assert_eq!(tracker.record_outcome(&outcome(9, OutcomeCode::L7Sts), false, AT), None);
    assert_eq!(tracker.counter(), 4, "the last outcome of the history is not counted twice");
}

#[test]
fn transitions_are_newest_first_and_bounded() {
    let mut tracker = tracker(Health::Unknown, 0);
    for (at, action) in
        [BackendAction::Pause, BackendAction::Resume, BackendAction::Disable, BackendAction::Enable]
            .into_iter()
            .cycle()
            .take(9)
            .enumerate()
    {
        tracker.operate(action, WallTime(at as u64)).unwrap();
    }
    let ats = |tracker: &Tracker| tracker.history().iter().map(|t| t.at.0).collect::<Vec<_>>();
    assert_eq!(ats(&tracker), [8, 7, 6, 5, 4]);
    // A new `transition-history` applies at once.
    tracker.set_history_limit(2);
    assert_eq!(ats(&tracker), [8, 7]);
    for (at, action) in [(9, BackendAction::Resume), (10, BackendAction::Disable)] {
        tracker.operate(action, WallTime(at)).unwrap();
    }
    assert_eq!(ats(&tracker), [10, 9]);
}

#[test]
fn history_survives_pause_and_disable() {
    let mut tracker = tracker(Health::Unknown, 0);
    tracker.record_outcome(&outcome(1, OutcomeCode::L7Ok), false, AT).unwrap();
    let actions =
        [BackendAction::Pause, BackendAction::Resume, BackendAction::Disable, BackendAction::Enable];
    for action in actions {
        tracker.operate(action, AT).unwrap();
    }
    let ways: Vec<_> = tracker.history().iter().map(|t| (t.from, t.to)).collect();
    assert_eq!((ways.len(), ways[4]), (5, (Health::Unknown, Health::Up)));
}

fn healthcheck(probe: Probe) -> Healthcheck {
    Healthcheck {
        probe,
        interval: Duration::from_secs(2),
        fast_interval: Duration::from_millis(500),
        down_interval: Duration::from_secs(10),
        timeout: ProbeTimeout::Fixed(Duration::from_secs(1)),
        rise: 2,
        fall: 3,
        source4: None,
        source6: None,
    }
}

#[test]
fn probe_interval_follows_state() {
    let tcp = Probe::Tcp { port: 1, mode: ConnectMode::Full, tls: None };
    for (probe, rising) in [(tcp, 500), (Probe::Icmp, 2000)] {
        let healthcheck = healthcheck(probe);
        let cases = [
            (Health::Unknown, 0, 500),
            (Health::Up, 4, 2000),
            (Health::Up, 3, 500),
            (Health::Down, 0, 10_000),
            (Health::Down, 1, rising),
        ];
        for (health, counter, millis) in cases {
            assert_eq!(
                tracker(health, counter).probe_interval(&healthcheck),
                Duration::from_millis(millis),
                "{health} {counter}"
            );
        }
    }
}

/// A server that answers two echo requests a second, as the limits of kernels and firewalls do, and a pace of ten.
#[test]
fn server_with_limited_echo_replies_comes_back() {
    let healthcheck = Healthcheck {
        interval: Duration::from_secs(1),
        fast_interval: Duration::from_millis(100),
        down_interval: Duration::from_secs(1),
        ..healthcheck(Probe::Icmp)
    };
    let mut tracker = tracker(Health::Down, 0);
    let (mut now, mut answered) = (Duration::from_secs(10), Duration::ZERO);
    let mut seq = 0;
    while tracker.health() == Health::Down {
        let is_answered = now >= answered + Duration::from_millis(500);
        if is_answered {
            answered = now;
        }
        seq += 1;
        assert!(seq < 100, "it stays down");
        let code = if is_answered { OutcomeCode::L7Ok } else { OutcomeCode::L4Tout };
        tracker.record_outcome(&outcome(seq, code), false, AT);
        now += tracker.probe_interval(&healthcheck);
    }
}

proptest! {
    #[test]
    fn random_verdicts_keep_counter_invariants(
        rise in 1u32..6,
        fall in 1u32..6,
        steps in proptest::collection::vec((0u8..8, any::<bool>()), 0..200),
    ) {
        let thresholds = Thresholds { rise, fall };
        let mut tracker = Tracker::new(thresholds, 3, Health::Unknown, WallTime(0));
        let mut run = (true, 0u32);
        for (seq, (step, in_service)) in (1..).zip(steps) {
            let before = tracker.health();
            let verdict = match step {
                0 => { let _ = tracker.operate(BackendAction::Pause, AT); None }
                1 => { let _ = tracker.operate(BackendAction::Resume, AT); None }
                2 => { let _ = tracker.operate(BackendAction::Disable, AT); None }
                3 => { let _ = tracker.operate(BackendAction::Enable, AT); None }
                4 | 5 => { tracker.record_outcome(&outcome(seq, OutcomeCode::L7Ok), in_service, AT); Some(true) }
                _ => { tracker.record_outcome(&outcome(seq, OutcomeCode::L7Sts), in_service, AT); Some(false) }
            };
            if let Some(passed) = verdict {
                run = if run.0 == passed { (passed, run.1 + 1) } else { (passed, 1) };
            } else {
                run = (true, 0);
            }
            prop_assert!(tracker.counter() <= thresholds.max_counter());
            match tracker.health() {
                Health::Up => prop_assert!(tracker.counter() >= rise),
                Health::Down => prop_assert!(tracker.counter() < rise),
                _ => prop_assert_eq!(tracker.counter(), 0),
            }
            if before == Health::Up && tracker.health() == Health::Down {
                prop_assert_eq!(verdict, Some(false));
            }
            if run == (false, run.1) && run.1 >= fall.max(thresholds.max_counter()) && tracker.is_probed() {
                prop_assert_eq!(tracker.health(), Health::Down);
            }
            prop_assert!(tracker.history().len() <= 3);
        }
    }

    #[test]
    fn up_to_down_takes_fall_failures(rise in 1u32..6, fall in 1u32..6) {
        let mut tracker = Tracker::new(Thresholds { rise, fall }, 3, Health::Down, WallTime(0));
        let mut seq = 0;
        let mut record = |tracker: &mut Tracker, code| { seq += 1; tracker.record_outcome(&outcome(seq, code), false, AT) };
        for n in 1..=rise {
            prop_assert_eq!(record(&mut tracker, OutcomeCode::L4Ok).is_some(), n == rise);
        }
        for n in 1..=fall {
            prop_assert_eq!(record(&mut tracker, OutcomeCode::L4Con).is_some(), n == fall);
        }
    }
}

#[test]
fn local_faults_only_marks_backend_stale() {
    const BOUND: Duration = Duration::from_nanos(10);
    let at = |seq, code, started| Outcome { started, ..outcome(seq, code) };
    for (health, counter) in [(Health::Unknown, 0), (Health::Up, 3), (Health::Down, 1)] {
        let mut tracker = tracker(health, counter);
        for (seq, code, started, stale) in [
            (1, OutcomeCode::Local, 100, false),
            (2, OutcomeCode::Local, 109, false),
            // A verdict in between restarts the bound.
            (3, OutcomeCode::L7Ok, 110, false),
            (4, OutcomeCode::Local, 111, false),
            (5, OutcomeCode::Local, 120, false),
            (6, OutcomeCode::Local, 121, true),
            (7, OutcomeCode::L4Tout, 122, false),
        ] {
            let outcome = at(seq, code, started);
            tracker.record_outcome(&outcome, false, AT);
            if code == OutcomeCode::Local {
                tracker.mark_unobserved_after(BOUND, &outcome);
            }
            assert_eq!((tracker.is_stale(), tracker.is_unobserved()), (stale, stale), "{health} {seq}");
        }
    }
}

/// Each case has local faults of a backend that is unobserved since 110, each with the start of the last answer of another.
#[test]
fn later_local_faults_hide_backend_while_others_answer() {
    let at = |seq, code, started| Outcome { started, ..outcome(seq, code) };
    for (faults, hidden) in [
        ([(120, 0), (130, 0)], false),
        ([(120, 110), (130, 110)], false),
        // It was reported twice.
        ([(110, 111), (120, 130)], false),
        ([(120, 111), (120, 130)], false),
        // One answer is evidence once.
        ([(120, 115), (130, 115)], false),
        ([(120, 115), (130, 125)], true),
        ([(120, 125), (130, 135)], true),
    ] {
        let mut tracker = tracker(Health::Up, 3);
        for (seq, started) in [(1, 100), (2, 109), (3, 110)] {
            let outcome = at(seq, OutcomeCode::Local, started);
            tracker.record_outcome(&outcome, false, AT);
            tracker.count_evidence(200, &outcome);
            tracker.mark_unobserved_after(Duration::from_nanos(10), &outcome);
        }
        for (started, answered) in faults {
            assert!(!tracker.is_hidden(), "{faults:?}");
            tracker.count_evidence(answered, &at(4, OutcomeCode::Local, started));
        }
        assert_eq!((tracker.is_unobserved(), tracker.is_hidden()), (true, hidden), "{faults:?}");
        assert_eq!(tracker.health(), Health::Up);
        tracker.record_outcome(&at(5, OutcomeCode::L4Tout, 140), false, AT);
        assert!(!tracker.is_hidden() && !tracker.is_stale(), "a failure is a verdict");
    }
}
