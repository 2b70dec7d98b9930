use super::*;

#[test]
fn equal_check_continues_under_new_id() {
    let mut host = SimulatedHost::with_checks(vec![accepted_check(1, 1), accepted_check(2, 2)], never);
    host.run(1000 * MS);
    assert_eq!(host.in_flight.len(), 2);
    let slower = AcceptedCheck { interval: 2 * SECOND, ..accepted_check(7, 2) };
    let change = host.scheduler.replace_set(vec![slower, accepted_check(8, 3)], host.now);
    let [(kept, interval)] = change.kept[..] else { panic!("{change:?}") };
    assert_eq!((interval, &change.renamed[..]), (2 * SECOND, &[kept][..]));
    assert_eq!((change.added.len(), change.dropped.len()), (1, 1));
    let keys = host.probe_ids();
    let of = |goes_on| keys.iter().copied().find(|key| (key.slot == kept) == goes_on).unwrap();
    assert_eq!(host.scheduler.finish_probe(of(false), OK, host.now), None, "a probe of a removed check");
    assert_eq!(host.scheduler.finish_probe(of(true), OK, host.now), Some(2));
    let reports: Vec<_> = host.scheduler.take_reports().map(|report| report.outcome).collect();
    assert_eq!((reports.len(), reports[0].check, reports[0].seq), (1, CheckId(7), 1));
    let histories: Vec<_> = host.scheduler.verdict_histories([kept].into_iter()).collect();
    assert_eq!((histories[0].last.check, histories[0].bits, histories[0].len), (CheckId(7), 1, 1));
}

#[test]
fn renamed_check_without_verdict_is_due_soon() {
    let hour = 3600 * SECOND;
    let slow = |id| AcceptedCheck { interval: hour, ..accepted_check(id, 1) };
    for (server, soon) in [(never as ServerModel, true), (at_once, false)] {
        let mut host = SimulatedHost::with_checks(vec![slow(1)], server);
        host.run(1000 * MS);
        let slot = host.scheduler.table.slot(CheckId(1)).unwrap();
        host.scheduler.table.entry_mut(slot).unwrap().due = host.now + 3_600_000 * MS;
        host.scheduler.amend_set(&[CheckId(1)], vec![slow(2)], host.now);
        let due = host.scheduler.table.entry(slot).unwrap().due;
        assert_eq!(due <= host.now + 1000 * MS, soon);
    }
}

#[test]
fn amendment_touches_only_named_checks() {
    let mut host = SimulatedHost::with_checks((1..=4).map(|n| accepted_check(n, n as u8)).collect(), never);
    host.run(1000 * MS);
    let in_flight = host.probe_ids();
    assert_eq!(in_flight.len(), 4);
    // Check 2 is removed, check 3 gets another identifier, check 5 is new.
    let members = vec![accepted_check(6, 3), accepted_check(5, 5)];
    let change = host.scheduler.amend_set(&[CheckId(2), CheckId(3), CheckId(9)], members, host.now);
    assert_eq!((change.kept.len(), change.added.len(), change.dropped.len()), (1, 1, 1));
    assert_eq!((change.ended.len(), change.added), (1, change.dropped.clone()), "the free slot is reused");
    let mut ended = |key: &ProbeId| host.scheduler.finish_probe(*key, OK, host.now).is_some();
    assert_eq!(
        in_flight.iter().filter(|key| !change.dropped.contains(&key.slot)).filter(|k| ended(k)).count(),
        3
    );
    let mut reports: Vec<_> =
        host.scheduler.take_reports().map(|report| (report.outcome.check.0, report.outcome.seq)).collect();
    reports.sort_unstable();
    assert_eq!(reports, [(1, 1), (4, 1), (6, 1)]);
}

#[test]
fn equal_checks_with_two_ids_stay_two() {
    let mut host = SimulatedHost::with_checks(vec![accepted_check(1, 1), accepted_check(2, 1)], never);
    host.run(1000 * MS);
    assert_eq!(host.in_flight.len(), 2);
    let change = host.scheduler.replace_set(vec![accepted_check(3, 1)], host.now);
    assert_eq!((change.kept.len(), change.added.len(), change.dropped.len()), (1, 0, 1));
    assert_eq!(change.ended.len(), 1);
}

/// The controller counts outcomes by identifier, and ignores those with an old sequence number.
#[test]
fn equal_checks_keep_slots_by_id() {
    let mut host = SimulatedHost::with_checks(vec![accepted_check(1, 1)], at_once);
    host.run_for(10 * SECOND);
    host.scheduler.amend_set(&[], vec![accepted_check(2, 1)], host.now);
    host.run_for(3 * SECOND);
    let seqs = |host: &SimulatedHost| {
        [1, 2].map(|id| {
            host.outcomes.iter().rfind(|reports| reports.check == CheckId(id)).map(|reports| reports.seq)
        })
    };
    let before = seqs(&host);
    host.scheduler.replace_set(vec![accepted_check(1, 1), accepted_check(2, 1)], host.now);
    host.run_for(3 * SECOND);
    let after = seqs(&host);
    assert!(before[0] < after[0] && before[1] < after[1], "{before:?} {after:?}");
}

#[test]
fn late_reply_matches_nothing() {
    let mut host = SimulatedHost::with_checks(vec![accepted_check(1, 1)], never);
    host.run(1000 * MS);
    let (started, old, _) = host.in_flight[0];
    assert_eq!(ProbeId::from(u64::from(old)), old);
    host.run(started + 1001 * MS);
    assert_eq!(host.outcomes[0].code, OutcomeCode::L4Tout);
    assert_eq!(host.scheduler.finish_probe(old, OK, host.now), None);
    // Nor does it match another check's probe in the same slot.
    host.scheduler.replace_set(vec![accepted_check(2, 2)], host.now);
    host.run(host.now + 1000 * MS);
    let (_, new, _) = host.in_flight[0];
    assert_eq!(new.slot, old.slot);
    assert_eq!(host.scheduler.finish_probe(old, OK, host.now), None);
    assert!(host.scheduler.in_flight_mut(old).is_none() && host.scheduler.in_flight_mut(new).is_some());
}

#[test]
fn removed_due_check_is_not_probed() {
    let mut host = SimulatedHost::new(1, never);
    host.scheduler.replace_set((0..3).map(|n| accepted_check(n, 1)).collect(), 0);
    host.run(1000 * MS);
    assert!(!host.scheduler.ready.is_empty(), "the rate limit delayed no start");
    host.scheduler.replace_set(vec![accepted_check(9, 9)], host.now);
    host.in_flight.clear();
    host.run(host.now + 2000 * MS);
    let ended = host.scheduler.replace_set(Vec::new(), host.now).ended;
    assert_eq!(ended, [9]);
}

#[test]
fn new_interval_counts_from_last_start() {
    let mut host = SimulatedHost::with_checks(vec![accepted_check(1, 1)], at_once);
    host.run(1000 * MS);
    let started = host.outcomes[0].started;
    host.scheduler
        .set_intervals(&[(CheckId(1), Duration::from_millis(100)), (CheckId(77), SECOND)], host.now);
    host.run(host.now + 50 * MS);
    let again = host.outcomes[1].started;
    assert!((1000 * MS..1004 * MS).contains(&again) || again - started <= 112 * MS, "{started} {again}");
    host.scheduler.set_intervals(&[(CheckId(1), 3600 * SECOND)], host.now);
    let count = host.outcomes.len();
    host.run(host.now + 3_000_000 * MS);
    assert_eq!(host.outcomes.len(), count);
}

#[test]
fn probe_longer_than_interval_is_followed_immediately() {
    let fast = AcceptedCheck { interval: Duration::from_millis(100), ..accepted_check(1, 1) };
    let mut host = SimulatedHost::with_checks(vec![fast], |_, _, now| Some(now + 300 * MS));
    host.run(5000 * MS);
    for pair in host.outcomes.windows(2) {
        let over = pair[0].started + nanos(pair[0].duration);
        assert!((over..=over + MS).contains(&pair[1].started), "{pair:?}");
    }
    assert!(host.outcomes.len() >= 14, "{}", host.outcomes.len());
}

#[test]
fn own_work_excuses_no_timeout() {
    for (worked, code) in [(5000 * MS, OutcomeCode::L4Tout), (4000 * MS, OutcomeCode::Local)] {
        let mut host = SimulatedHost::with_checks(vec![accepted_check(1, 1)], never);
        host.run(1000 * MS);
        let planned = host.scheduler.next_wakeup(host.now);
        let now = planned + 5000 * MS;
        host.scheduler.begin_iteration(planned, now, worked);
        host.iterate(now);
        assert_eq!(host.outcomes[0].code, code, "{worked}");
    }
}

#[test]
fn stall_yields_local_faults_and_spreads_starts() {
    let mut host = SimulatedHost::with_checks((0..100).map(|n| accepted_check(n, n as u8)).collect(), never);
    host.run(500 * MS);
    let (in_flight, waiting) = (host.in_flight.len(), 100 - host.in_flight.len());
    let planned = host.scheduler.next_wakeup(host.now);
    let now = host.now + 5000 * MS;
    host.scheduler.begin_iteration(planned, now, 0);
    host.iterate(now);
    let reports = std::mem::take(&mut host.outcomes);
    assert_eq!(reports.len(), in_flight);
    assert!(reports.iter().all(|outcome| outcome.code == OutcomeCode::Local));
    assert_eq!(host.scheduler.stats().delayed_by_stall, waiting as u64);
    // Probes in flight are followed at once. The rest is spread: at most a fifth in one iteration.
    host.in_flight.clear();
    let mut starts: HashMap<Nanos, usize> = HashMap::new();
    while let next = host.scheduler.next_wakeup(host.now)
        && next < now + 1000 * MS
    {
        host.iterate(next);
        let fresh = host.starts.iter().filter(|started| **started == next && next > now + MS).count();
        *starts.entry(next).or_default() += fresh;
    }
    assert_eq!(starts.values().sum::<usize>(), waiting);
    assert!(starts.values().all(|count| *count <= waiting / 5), "{starts:?}");
    // Later timeouts count again.
    host.run(now + 2500 * MS);
    assert!(host.outcomes.iter().any(|outcome| outcome.code == OutcomeCode::L4Tout));
}

#[test]
fn rate_limit_serves_checks_fairly() {
    let mut host = SimulatedHost::new(50, at_once);
    let fast = |n| AcceptedCheck { interval: Duration::from_millis(100), ..accepted_check(n, n as u8) };
    host.scheduler.replace_set((0..50).map(fast).collect(), 0);
    host.run(10_000 * MS);
    assert!((490..=501).contains(&host.outcomes.len()), "{}", host.outcomes.len());
    let mut counts = [0; 50];
    host.outcomes.iter().for_each(|outcome| counts[outcome.check.0 as usize] += 1);
    assert!(counts.iter().all(|count| (9..=11).contains(count)), "{counts:?}");
    let stats = host.scheduler.stats();
    assert_eq!(stats.probes, host.outcomes.len() as u64);
    assert!(stats.delayed_by_rate > 0 && stats.lateness.counts[7] > 0, "{stats:?}");
}

/// Returns `count` checks of one address.
fn of_one_address(count: u32, interval: Duration) -> Vec<AcceptedCheck<()>> {
    (0..count).map(|n| AcceptedCheck { interval, ..accepted_check(n, 1) }).collect()
}

/// Asserts that no window has more than the limit of 200 a second, and one second's burst.
fn assert_within_address_limit(host: &SimulatedHost) {
    for (first, from) in host.starts.iter().enumerate() {
        let within = host.starts[first..].iter().take_while(|at| **at <= from + 1000 * MS).count();
        assert!(within <= 400, "{within} from {from}");
    }
}

#[test]
fn address_limit_delays_all_its_checks_alike() {
    let mut host = SimulatedHost::new(100_000, at_once);
    host.scheduler.replace_set(of_one_address(100, Duration::from_millis(100)), 0);
    host.run(10_000 * MS);
    assert_within_address_limit(&host);
    assert!((2000..=2200).contains(&host.starts.len()), "{}", host.starts.len());
    let mut counts = [0; 100];
    host.outcomes.iter().for_each(|outcome| counts[outcome.check.0 as usize] += 1);
    assert!(counts.iter().all(|count| (19..=24).contains(count)), "{counts:?}");
    assert_eq!(host.scheduler.take_delayed_address(), Some(check(1).target));
    assert!(host.scheduler.stats().delayed_by_rate > 1000);
}

#[test]
fn address_limit_spares_others_and_ordinary_sets() {
    let mut host = SimulatedHost::new(100_000, at_once);
    let mut checks = of_one_address(1000, Duration::from_millis(100));
    checks.push(accepted_check(5000, 2));
    host.scheduler.replace_set(checks, 0);
    host.run(10_000 * MS);
    assert!(host.outcomes.iter().filter(|outcome| outcome.check == CheckId(5000)).count() >= 9);
    // A hundred ports of one server, all of whose checks turn fast at once.
    let mut host = SimulatedHost::new(100_000, at_once);
    host.scheduler.replace_set(of_one_address(100, SECOND), 0);
    host.run(5000 * MS);
    let fast: Vec<_> = (0..100).map(|n| (CheckId(n), SECOND / 2)).collect();
    host.scheduler.set_intervals(&fast, host.now);
    host.run_for(2 * SECOND);
    assert_eq!((host.scheduler.stats().delayed_by_rate, host.scheduler.take_delayed_address()), (0, None));
}

/// A controller that changes intervals and sets all the time gains nothing.
#[test]
fn address_limit_survives_new_intervals_and_sets() {
    let mut host = SimulatedHost::new(100_000, at_once);
    for round in 0..200_u32 {
        let interval = Duration::from_millis(10 + u64::from(round % 2));
        if round % 20 == 0 {
            let checks = of_one_address(300, interval).into_iter();
            let renamed =
                checks.map(|check| AcceptedCheck { id: CheckId(check.id.0 + round * 1000), ..check });
            // Every second set is empty, so that the next one has no check of an earlier one.
            host.scheduler.replace_set(Vec::new(), host.now);
            host.scheduler.replace_set(renamed.collect(), host.now);
        }
        let first = round / 20 * 20_000;
        let intervals: Vec<_> = (first..first + 300).map(|id| (CheckId(id), interval)).collect();
        host.scheduler.set_intervals(&intervals, host.now);
        host.run_for(Duration::from_millis(50));
    }
    assert_within_address_limit(&host);
    // Of ten seconds, some are lost to reservations of removed checks.
    assert!(host.starts.len() > 200, "{}", host.starts.len());
}

/// Reiterations twenty due checks of which none has started, in the same order each time.
fn all_due() -> SimulatedHost {
    let mut host = SimulatedHost::with_checks((0..20).map(|n| accepted_check(n, n as u8)).collect(), never);
    for ms in 1..=1000 {
        host.now = ms * MS;
        host.scheduler.process_timers(host.now, |(), _, _| OK);
    }
    host
}

#[test]
fn deferred_starts_keep_order_without_blocking() {
    let mut order = Vec::new();
    let mut host = all_due();
    let mut start = |check: &Check| {
        order.push(last_octet(check));
        StartResult::InFlight(0)
    };
    while host.scheduler.start_next(host.now, |_, check, ()| start(check)) {}
    // Every other check is so expensive that an iteration can start two of them.
    let is_expensive = |number: &u8| number % 2 == 1;
    let mut iterations: Vec<Vec<u8>> = Vec::new();
    let mut host = all_due();
    while host.scheduler.stats().probes < 20 {
        let mut started = Vec::new();
        let mut start = |number: u8| {
            if is_expensive(&number) && started.iter().filter(|n| is_expensive(n)).count() == 2 {
                return StartResult::Deferred;
            }
            started.push(number);
            StartResult::InFlight(number)
        };
        while host.scheduler.start_next(host.now, |_, check, ()| start(last_octet(check))) {}
        iterations.push(started);
        // The next iteration follows at once while starts are deferred.
        assert_eq!(host.scheduler.next_wakeup(host.now) == host.now, host.scheduler.stats().probes < 20);
        host.scheduler.process_timers(host.now, |(), _, _| OK);
    }
    assert_eq!(iterations.iter().map(Vec::len).collect::<Vec<_>>(), [12, 2, 2, 2, 2], "{iterations:?}");
    let expensive = |numbers: &[u8]| numbers.iter().copied().filter(is_expensive).collect::<Vec<_>>();
    assert_eq!(expensive(&iterations.concat()), expensive(&order));
}

#[test]
fn failed_start_is_reported_and_retried() {
    let mut host = SimulatedHost::with_checks(vec![accepted_check(1, 1)], never);
    while let next = host.next()
        && next < 5000 * MS
    {
        host.now = next;
        host.scheduler.process_timers(next, |(), _, _| Verdict::from_code(OutcomeCode::L4Tout));
        while host.scheduler.start_next(next, |_, _, ()| {
            StartResult::Finished(Verdict::new(OutcomeCode::Local, "out of ports"))
        }) {}
    }
    let reports: Vec<_> = host.scheduler.take_reports().map(|report| report.outcome).collect();
    assert!((4..=6).contains(&reports.len()), "{reports:?}");
    assert!(
        reports
            .iter()
            .all(|outcome| outcome.code == OutcomeCode::Local && outcome.duration == Duration::ZERO)
    );
}

#[test]
fn pass_is_batchable_after_stable_count() {
    let mut host = SimulatedHost::with_checks(vec![accepted_check(1, 1)], at_once);
    host.run(5 * 1200 * MS);
    assert_eq!(host.batchable[..5], [false, false, false, true, true]);
    host.server = never;
    host.batchable.clear();
    host.run_for(3 * SECOND);
    assert!(
        !host.batchable.is_empty() && host.batchable.iter().all(|stable_after| !stable_after),
        "failures"
    );
    host.server = at_once;
    host.run_for(3 * SECOND);
    host.outcomes.clear();
    host.batchable.clear();
    host.run_for(10 * SECOND);
    assert!(host.batchable.iter().all(|stable_after| *stable_after));
    // Under another identifier the count starts again.
    let change = host.scheduler.replace_set(vec![accepted_check(7, 1)], host.now);
    assert_eq!(change.kept.len(), 1);
    host.batchable.clear();
    host.run_for(10 * SECOND);
    assert_eq!(host.batchable[..5], [false, false, false, true, true]);
}
