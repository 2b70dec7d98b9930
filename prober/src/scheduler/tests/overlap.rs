use proptest::prelude::*;

use super::*;

#[test]
fn timeouts_of_silent_server_run_in_parallel() {
    let mut host = SimulatedHost::with_checks(vec![accepted_check(1, 1)], at_once);
    host.run(10_000 * MS);
    host.server = never;
    (host.starts, host.outcomes) = (Vec::new(), Vec::new());
    while host.outcomes.is_empty() {
        host.iterate(host.next());
    }
    let [first, .., last] = host.starts[..] else { panic!("{:?}", host.starts) };
    assert_eq!(host.starts.len(), MAX_PROBES, "{:?}", host.starts);
    assert!(host.starts.windows(2).all(|pair| (88 * MS..=114 * MS).contains(&(pair[1] - pair[0]))));
    assert!((first + 1000 * MS..=first + 1001 * MS).contains(&host.now));
    // After the first timeout the controller sets the interval, although some probes are still in flight.
    host.scheduler.set_intervals(&[(CheckId(1), FAST)], host.now);
    host.run(last + 1001 * MS);
    assert_eq!(host.outcomes.iter().map(|outcome| outcome.seq).collect::<Vec<_>>(), {
        let first = host.outcomes[0].seq;
        (first..first + 4).collect::<Vec<_>>()
    });
    assert!(host.starts.len() > MAX_PROBES + 1);
    // Down: one probe each interval from here on.
    host.scheduler.set_intervals(&[(CheckId(1), 2 * SECOND)], host.now);
    host.run_for(2 * SECOND);
    host.starts.clear();
    host.run_for(20 * SECOND);
    assert!((9..=11).contains(&host.starts.len()), "{:?}", host.starts);
}

#[test]
fn lost_packet_is_reported_in_order() {
    let mut host = SimulatedHost::with_checks(vec![accepted_check(1, 1)], at_once);
    host.run(10_000 * MS);
    host.outcomes.clear();
    // One packet is lost.
    host.server = never;
    host.starts.clear();
    while host.starts.is_empty() {
        host.iterate(host.next());
    }
    host.server = at_once;
    let lost = host.starts[0];
    host.run(lost + 999 * MS);
    assert_eq!((host.starts.len(), host.outcomes.len()), (2, 0), "{:?}", host.starts);
    host.run(lost + 1001 * MS);
    let codes: Vec<_> = host.outcomes.iter().map(|outcome| (outcome.code, outcome.started)).collect();
    assert_eq!(codes, [(OutcomeCode::L4Tout, lost), (OutcomeCode::L4Ok, host.starts[1])]);
    host.starts.clear();
    host.run_for(10 * SECOND);
    assert!((9..=11).contains(&host.starts.len()), "{:?}", host.starts);
}

#[test]
fn slow_server_keeps_its_probe_rate() {
    // Far slower than `fast-interval`, and one in ten slower by half.
    fn slow(random: &mut fastrand::Rng, _: u8, now: Nanos) -> Option<Nanos> {
        let tail = if random.u8(0..10) == 0 { 150 * MS } else { 0 };
        Some(now + 280 * MS + random.u64(0..40 * MS) + tail)
    }
    let mut host = SimulatedHost::with_checks(vec![accepted_check(1, 1)], slow);
    host.run(1_000_000 * MS);
    assert!(host.outcomes.iter().all(|outcome| outcome.code == OutcomeCode::L4Ok));
    assert!((950..=1100).contains(&host.starts.len()), "{}", host.starts.len());
}

#[test]
fn deferred_probe_keeps_ids_in_flight() {
    let mut host = SimulatedHost::with_checks(vec![accepted_check(1, 1)], at_once);
    host.run(10_000 * MS);
    host.server = never;
    host.starts.clear();
    while host.starts.is_empty() {
        host.iterate(host.next());
    }
    // The reply is late, so the next probe is due while it is in flight.
    let (started, key, _) = host.in_flight[0];
    let now = started + 150 * MS;
    host.scheduler.process_timers(now, |(), _, _| Verdict::from_code(OutcomeCode::L4Tout));
    let mut asked = 0;
    while host.scheduler.start_next(now, |_, _, ()| {
        asked += 1;
        StartResult::Deferred
    }) && asked < 3
    {}
    assert!(asked > 0);
    assert_eq!(host.scheduler.finish_probe(key, OK, now), Some(1));
}

#[test]
fn unknown_latency_prevents_overlap() {
    let mut host = SimulatedHost::with_checks(vec![accepted_check(1, 1)], never);
    host.run(1000 * MS);
    let first = host.starts[0];
    host.run(first + 999 * MS);
    assert_eq!(host.starts.len(), 1);
}

#[test]
fn local_fault_does_not_overlap_probes() {
    let mut host = SimulatedHost::with_checks(vec![accepted_check(1, 1)], at_once);
    host.run(10_000 * MS);
    host.server = never;
    host.starts.clear();
    while host.starts.is_empty() {
        host.iterate(host.next());
    }
    let key = host.probe_ids()[0];
    assert!(host.scheduler.finish_probe(key, Verdict::from_code(OutcomeCode::Local), host.now).is_some());
    host.run_for(Duration::from_millis(850));
    assert_eq!(host.starts.len(), 1, "{:?}", host.starts);
}

fn auto(id: u32, last: u8) -> AcceptedCheck<()> {
    let timeout = ProbeTimeout::Auto { min: Duration::from_millis(50), max: SECOND };
    AcceptedCheck { check: Check { timeout, ..check(last) }, ..accepted_check(id, last) }
}

#[test]
fn derived_timeout_doubles_without_replies() {
    let mut host = SimulatedHost::with_checks(vec![auto(1, 1)], |_, _, now| Some(now + 8 * MS));
    host.run(10_000 * MS);
    let reports: Vec<_> = host.outcomes.iter().map(|outcome| outcome.timeout.unwrap().as_millis()).collect();
    assert_eq!(reports[..5], [1000, 1000, 1000, 96, 96]);
    host.server = never;
    host.outcomes.clear();
    while host.outcomes.is_empty() {
        host.iterate(host.next());
    }
    host.scheduler.set_intervals(&[(CheckId(1), FAST)], host.now);
    host.run_for(5 * SECOND);
    let took: Vec<_> =
        host.outcomes.iter().map(|outcome| outcome.duration.as_millis() / 10).take(6).collect();
    assert_eq!(took, [9, 19, 38, 76, 100, 100]);
    // The third probe starts before the second times out.
    assert_eq!(host.outcomes[1].timeout, Some(Duration::from_millis(768)));
}

/// A check that keeps connections or resumes sessions needs the slow setup only now and then.
#[test]
fn slow_setup_among_fast_probes_passes() {
    let mut host = SimulatedHost::with_checks(vec![auto(1, 1)], never);
    for number in 0..300 {
        let skipped_setup = number % 60 != 0;
        host.server =
            if skipped_setup { |_, _, now| Some(now + 2 * MS) } else { |_, _, now| Some(now + 300 * MS) };
        host.verdict = Verdict { skipped_setup, ..OK };
        host.outcomes.clear();
        while host.outcomes.is_empty() {
            host.iterate(host.next());
        }
        let codes: Vec<_> = host.outcomes.iter().map(|outcome| outcome.code).collect();
        assert_eq!(codes, [OutcomeCode::L4Ok], "{number}");
    }
}

proptest! {
    /// For any loss and latency: each probe is reported once and in order, few are in flight, and starts keep the shortest
    /// interval, with its jitter and granularity.
    #[test]
    fn probes_are_bounded_and_reported_in_order(
        seed: u64, loss in 0u8..100, slowest in 1..1500u64,
        paces in proptest::collection::vec((0u32..5, 10..3000u64, 0..3000u64), 1..50)
    ) {
        let members = (0..5).map(|n| if n % 2 == 0 { accepted_check(n, n as u8) } else { auto(n, n as u8) });
        let mut host = SimulatedHost::with_checks(members.collect(), never);
        host.random.seed(seed);
        for (id, interval, time) in paces {
            host.scheduler.set_intervals(&[(CheckId(id), Duration::from_millis(interval))], host.now);
            let until = host.now + time * MS;
            while let next = host.next() && next <= until {
                host.iterate(next);
                for (started, _, answer) in &mut host.in_flight {
                    if *started == next && host.random.u8(0..100) >= loss {
                        *answer = Some(next + 1 + host.random.u64(0..slowest * MS));
                    }
                }
                let slots = host.probe_ids().into_iter().map(|key| key.slot);
                prop_assert!((0..5).all(|slot| slots.clone().filter(|s| *s == slot).count() <= MAX_PROBES));
            }
            host.now = until;
        }
        let mut newest: HashMap<CheckId, &Outcome> = HashMap::new();
        for outcome in &host.outcomes {
            let last = newest.insert(outcome.check, outcome);
            prop_assert_eq!(outcome.seq, last.map_or(0, |last| last.seq) + 1);
            prop_assert!(last.is_none_or(|last| outcome.started >= last.started + 6 * MS), "{last:?} {outcome:?}");
            prop_assert!(outcome.duration <= SECOND + Duration::from_millis(1));
        }
    }
}
