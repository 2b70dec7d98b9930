use super::*;

#[test]
fn a_check_that_is_equal_by_value_goes_on_under_its_new_name() {
    let mut world = World::of(vec![member(1, 1), member(2, 2)], never);
    world.run(1000 * MS);
    assert_eq!(world.flying.len(), 2);
    let slower = AcceptedCheck { interval: 2 * SECOND, ..member(7, 2) };
    let change = world.scheduler.replace_set(vec![slower, member(8, 3)], world.now);
    let [(kept, interval)] = change.kept[..] else { panic!("{change:?}") };
    assert_eq!(interval, 2 * SECOND);
    assert_eq!((change.added.len(), change.dropped.len()), (1, 1));
    let keys = world.keys();
    let of = |goes_on| keys.iter().copied().find(|key| (key.slot == kept) == goes_on).unwrap();
    assert_eq!(
        world.scheduler.finish_probe(of(false), OK, world.now),
        None,
        "a probe of a check that is gone"
    );
    assert_eq!(world.scheduler.finish_probe(of(true), OK, world.now), Some(2));
    let told: Vec<_> = world.scheduler.take_reports().map(|report| report.outcome).collect();
    assert_eq!((told.len(), told[0].check, told[0].seq), (1, CheckId(7), 1));
    let streaks: Vec<_> = world.scheduler.verdict_histories([kept].into_iter()).collect();
    assert_eq!((streaks[0].last.check, streaks[0].bits, streaks[0].len), (CheckId(7), 1, 1));
}

#[test]
fn an_amendment_touches_nothing_but_what_it_names() {
    let mut world = World::of((1..=4).map(|n| member(n, n as u8)).collect(), never);
    world.run(1000 * MS);
    let flying = world.keys();
    assert_eq!(flying.len(), 4);
    // The second leaves, the third begins under another name, the fifth is new.
    let members = vec![member(6, 3), member(5, 5)];
    let change = world.scheduler.amend_set(&[CheckId(2), CheckId(3), CheckId(9)], members, world.now);
    assert_eq!((change.kept.len(), change.added.len(), change.dropped.len()), (1, 1, 1));
    assert_eq!((change.ended.len(), change.added), (1, change.dropped.clone()), "a slot is used again");
    let mut ended = |key: &ProbeId| world.scheduler.finish_probe(*key, OK, world.now).is_some();
    assert_eq!(
        flying.iter().filter(|key| !change.dropped.contains(&key.slot)).filter(|k| ended(k)).count(),
        3
    );
    let mut told: Vec<_> =
        world.scheduler.take_reports().map(|report| (report.outcome.check.0, report.outcome.seq)).collect();
    told.sort_unstable();
    assert_eq!(told, [(1, 1), (4, 1), (6, 1)]);
}

#[test]
fn equal_checks_under_two_names_are_two_checks() {
    let mut world = World::of(vec![member(1, 1), member(2, 1)], never);
    world.run(1000 * MS);
    assert_eq!(world.flying.len(), 2);
    let change = world.scheduler.replace_set(vec![member(3, 1)], world.now);
    assert_eq!((change.kept.len(), change.added.len(), change.dropped.len()), (1, 0, 1));
    assert_eq!(change.ended.len(), 1);
}

/// The controller counts the outcomes of each name, and passes over those that it takes for older ones.
#[test]
fn equal_checks_go_on_each_under_its_own_name() {
    let mut world = World::of(vec![member(1, 1)], at_once);
    world.run_for(10 * SECOND);
    world.scheduler.amend_set(&[], vec![member(2, 1)], world.now);
    world.run_for(3 * SECOND);
    let seqs = |world: &World| {
        [1, 2].map(|id| world.outcomes.iter().rfind(|told| told.check == CheckId(id)).map(|told| told.seq))
    };
    let before = seqs(&world);
    world.scheduler.replace_set(vec![member(1, 1), member(2, 1)], world.now);
    world.run_for(3 * SECOND);
    let after = seqs(&world);
    assert!(before[0] < after[0] && before[1] < after[1], "{before:?} {after:?}");
}

#[test]
fn what_comes_late_finds_nothing() {
    let mut world = World::of(vec![member(1, 1)], never);
    world.run(1000 * MS);
    let (started, old, _) = world.flying[0];
    assert_eq!(ProbeId::from(u64::from(old)), old);
    world.run(started + 1001 * MS);
    assert_eq!(world.outcomes[0].code, OutcomeCode::L4Tout);
    assert_eq!(world.scheduler.finish_probe(old, OK, world.now), None);
    // Nor does it find another check's probe in the same slot.
    world.scheduler.replace_set(vec![member(2, 2)], world.now);
    world.run(world.now + 1000 * MS);
    let (_, new, _) = world.flying[0];
    assert_eq!(new.slot, old.slot);
    assert_eq!(world.scheduler.finish_probe(old, OK, world.now), None);
    assert!(world.scheduler.in_flight_mut(old).is_none() && world.scheduler.in_flight_mut(new).is_some());
}

#[test]
fn a_check_that_leaves_while_it_is_due_is_not_probed() {
    let mut world = World::new(1, never);
    world.scheduler.replace_set((0..3).map(|n| member(n, 1)).collect(), 0);
    world.run(1000 * MS);
    assert!(!world.scheduler.ready.is_empty(), "nothing was put off");
    world.scheduler.replace_set(vec![member(9, 9)], world.now);
    world.flying.clear();
    world.run(world.now + 2000 * MS);
    let ended = world.scheduler.replace_set(Vec::new(), world.now).ended;
    assert_eq!(ended, [9]);
}

#[test]
fn a_new_interval_counts_from_the_last_start() {
    let mut world = World::of(vec![member(1, 1)], at_once);
    world.run(1000 * MS);
    let started = world.outcomes[0].started;
    world
        .scheduler
        .set_intervals(&[(CheckId(1), Duration::from_millis(100)), (CheckId(77), SECOND)], world.now);
    world.run(world.now + 50 * MS);
    let again = world.outcomes[1].started;
    assert!((1000 * MS..1004 * MS).contains(&again) || again - started <= 112 * MS, "{started} {again}");
    world.scheduler.set_intervals(&[(CheckId(1), 3600 * SECOND)], world.now);
    let count = world.outcomes.len();
    world.run(world.now + 3_000_000 * MS);
    assert_eq!(world.outcomes.len(), count);
}

#[test]
fn what_outlives_its_interval_is_followed_at_once() {
    let fast = AcceptedCheck { interval: Duration::from_millis(100), ..member(1, 1) };
    let mut world = World::of(vec![fast], |_, _, now| Some(now + 300 * MS));
    world.run(5000 * MS);
    for pair in world.outcomes.windows(2) {
        let over = pair[0].started + nanos(pair[0].duration);
        assert!((over..=over + MS).contains(&pair[1].started), "{pair:?}");
    }
    assert!(world.outcomes.len() >= 14, "{}", world.outcomes.len());
}

#[test]
fn what_times_out_in_a_stall_is_no_verdict_and_what_fell_due_is_spread() {
    let mut world = World::of((0..100).map(|n| member(n, n as u8)).collect(), never);
    world.run(500 * MS);
    let (flying, waiting) = (world.flying.len(), 100 - world.flying.len());
    let planned = world.scheduler.next_wakeup(world.now);
    let now = world.now + 5000 * MS;
    world.scheduler.begin_iteration(planned, now);
    world.turn(now);
    let told = std::mem::take(&mut world.outcomes);
    assert_eq!(told.len(), flying);
    assert!(told.iter().all(|outcome| outcome.code == OutcomeCode::Local));
    assert_eq!(world.scheduler.stats().delayed_by_stall, waiting as u64);
    // What was in flight is followed at once; the rest is spread, no two tenths of it in one turn.
    world.flying.clear();
    let mut starts: HashMap<Nanos, usize> = HashMap::new();
    while let next = world.scheduler.next_wakeup(world.now)
        && next < now + 1000 * MS
    {
        world.turn(next);
        let fresh = world.starts.iter().filter(|started| **started == next && next > now + MS).count();
        *starts.entry(next).or_default() += fresh;
    }
    assert_eq!(starts.values().sum::<usize>(), waiting);
    assert!(starts.values().all(|count| *count <= waiting / 5), "{starts:?}");
    // And what times out later is a verdict again.
    world.run(now + 2500 * MS);
    assert!(world.outcomes.iter().any(|outcome| outcome.code == OutcomeCode::L4Tout));
}

#[test]
fn the_rate_has_a_limit_and_every_check_its_turn() {
    let mut world = World::new(50, at_once);
    let fast = |n| AcceptedCheck { interval: Duration::from_millis(100), ..member(n, n as u8) };
    world.scheduler.replace_set((0..50).map(fast).collect(), 0);
    world.run(10_000 * MS);
    assert!((490..=501).contains(&world.outcomes.len()), "{}", world.outcomes.len());
    let mut counts = [0; 50];
    world.outcomes.iter().for_each(|outcome| counts[outcome.check.0 as usize] += 1);
    assert!(counts.iter().all(|count| (9..=11).contains(count)), "{counts:?}");
    let stats = world.scheduler.stats();
    assert_eq!(stats.probes, world.outcomes.len() as u64);
    assert!(stats.delayed_by_rate > 0 && stats.lateness.counts[7] > 0, "{stats:?}");
}

/// Twenty checks that have all fallen due, and nothing was started yet. Each time it is the same.
fn all_due() -> World {
    let mut world = World::of((0..20).map(|n| member(n, n as u8)).collect(), never);
    for ms in 1..=1000 {
        world.now = ms * MS;
        world.scheduler.process_timers(world.now, |(), _, _| OK);
    }
    world
}

#[test]
fn what_is_put_off_starts_in_its_order_and_holds_up_nobody_else() {
    let mut order = Vec::new();
    let mut world = all_due();
    let mut start = |check: &Check| {
        order.push(last(check));
        StartResult::InFlight(0)
    };
    while world.scheduler.start_next(world.now, |_, check, ()| start(check)) {}
    // Every other check costs so much that a turn has time for two of them.
    let is_dear = |number: &u8| number % 2 == 1;
    let mut turns: Vec<Vec<u8>> = Vec::new();
    let mut world = all_due();
    while world.scheduler.stats().probes < 20 {
        let mut started = Vec::new();
        let mut start = |number: u8| {
            if is_dear(&number) && started.iter().filter(|n| is_dear(n)).count() == 2 {
                return StartResult::Deferred;
            }
            started.push(number);
            StartResult::InFlight(number)
        };
        while world.scheduler.start_next(world.now, |_, check, ()| start(last(check))) {}
        turns.push(started);
        // The next turn follows at once as long as there is something put off.
        assert_eq!(world.scheduler.next_wakeup(world.now) == world.now, world.scheduler.stats().probes < 20);
        world.scheduler.process_timers(world.now, |(), _, _| OK);
    }
    assert_eq!(turns.iter().map(Vec::len).collect::<Vec<_>>(), [12, 2, 2, 2, 2], "{turns:?}");
    let dear = |numbers: &[u8]| numbers.iter().copied().filter(is_dear).collect::<Vec<_>>();
    assert_eq!(dear(&turns.concat()), dear(&order));
}

#[test]
fn a_probe_that_cannot_start_is_told_and_the_next_follows_in_time() {
    let mut world = World::of(vec![member(1, 1)], never);
    while let next = world.next()
        && next < 5000 * MS
    {
        world.now = next;
        world.scheduler.process_timers(next, |(), _, _| Verdict::from_code(OutcomeCode::L4Tout));
        while world.scheduler.start_next(next, |_, _, ()| {
            StartResult::Finished(Verdict::new(OutcomeCode::Local, "out of ports"))
        }) {}
    }
    let told: Vec<_> = world.scheduler.take_reports().map(|report| report.outcome).collect();
    assert!((4..=6).contains(&told.len()), "{told:?}");
    assert!(
        told.iter().all(|outcome| outcome.code == OutcomeCode::Local && outcome.duration == Duration::ZERO)
    );
}

#[test]
fn a_pass_is_settled_after_as_many_as_the_controller_said() {
    let mut world = World::of(vec![member(1, 1)], at_once);
    world.run(5 * 1200 * MS);
    assert_eq!(world.settled[..5], [false, false, false, true, true]);
    world.server = never;
    world.settled.clear();
    world.run_for(3 * SECOND);
    assert!(!world.settled.is_empty() && world.settled.iter().all(|settled| !settled), "failures");
    world.server = at_once;
    world.run_for(3 * SECOND);
    world.outcomes.clear();
    world.settled.clear();
    world.run_for(10 * SECOND);
    assert!(world.settled.iter().all(|settled| *settled));
    // Under another name, nothing is known of it.
    let change = world.scheduler.replace_set(vec![member(7, 1)], world.now);
    assert_eq!(change.kept.len(), 1);
    world.settled.clear();
    world.run_for(10 * SECOND);
    assert_eq!(world.settled[..5], [false, false, false, true, true]);
}
