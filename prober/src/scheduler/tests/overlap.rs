use proptest::prelude::*;

use super::*;

#[test]
fn time_outs_of_a_silent_server_run_side_by_side() {
    let mut world = World::of(vec![member(1, 1)], at_once);
    world.run(10_000 * MS);
    world.server = never;
    (world.starts, world.outcomes) = (Vec::new(), Vec::new());
    while world.outcomes.is_empty() {
        world.turn(world.next());
    }
    let [first, .., last] = world.starts[..] else { panic!("{:?}", world.starts) };
    assert_eq!(world.starts.len(), MAX_PROBES, "{:?}", world.starts);
    assert!(world.starts.windows(2).all(|pair| (88 * MS..=114 * MS).contains(&(pair[1] - pair[0]))));
    assert!((first + 1000 * MS..=first + 1001 * MS).contains(&world.now));
    // The controller hears of it, and what it says is obeyed although some are still in flight.
    world.scheduler.set_intervals(&[(CheckId(1), FAST)], world.now);
    world.run(last + 1001 * MS);
    assert_eq!(world.outcomes.iter().map(|outcome| outcome.seq).collect::<Vec<_>>(), {
        let first = world.outcomes[0].seq;
        (first..first + 4).collect::<Vec<_>>()
    });
    assert!(world.starts.len() > MAX_PROBES + 1);
    // It is down: from now on there is a probe each interval, silent as it may be.
    world.scheduler.set_intervals(&[(CheckId(1), 2 * SECOND)], world.now);
    world.run_for(2 * SECOND);
    world.starts.clear();
    world.run_for(20 * SECOND);
    assert!((9..=11).contains(&world.starts.len()), "{:?}", world.starts);
}

#[test]
fn a_lost_packet_is_followed_by_one_probe_and_told_in_its_turn() {
    let mut world = World::of(vec![member(1, 1)], at_once);
    world.run(10_000 * MS);
    world.outcomes.clear();
    // One is lost, and no other.
    world.server = never;
    world.starts.clear();
    while world.starts.is_empty() {
        world.turn(world.next());
    }
    world.server = at_once;
    let lost = world.starts[0];
    world.run(lost + 999 * MS);
    assert_eq!((world.starts.len(), world.outcomes.len()), (2, 0), "{:?}", world.starts);
    world.run(lost + 1001 * MS);
    let codes: Vec<_> = world.outcomes.iter().map(|outcome| (outcome.code, outcome.started)).collect();
    assert_eq!(codes, [(OutcomeCode::L4Tout, lost), (OutcomeCode::L4Ok, world.starts[1])]);
    world.starts.clear();
    world.run_for(10 * SECOND);
    assert!((9..=11).contains(&world.starts.len()), "{:?}", world.starts);
}

#[test]
fn a_slow_server_is_not_probed_more_often_for_it() {
    // Slower than `fast-interval` by far, and one in ten by a half more.
    fn slow(random: &mut fastrand::Rng, _: u8, now: Nanos) -> Option<Nanos> {
        let tail = if random.u8(0..10) == 0 { 150 * MS } else { 0 };
        Some(now + 280 * MS + random.u64(0..40 * MS) + tail)
    }
    let mut world = World::of(vec![member(1, 1)], slow);
    world.run(1_000_000 * MS);
    assert!(world.outcomes.iter().all(|outcome| outcome.code == OutcomeCode::L4Ok));
    assert!((950..=1100).contains(&world.starts.len()), "{}", world.starts.len());
}

#[test]
fn a_probe_that_is_put_off_takes_no_name_from_the_one_in_flight() {
    let mut world = World::of(vec![member(1, 1)], at_once);
    world.run(10_000 * MS);
    world.server = never;
    world.starts.clear();
    while world.starts.is_empty() {
        world.turn(world.next());
    }
    // In doubt, the next is due while it is in flight.
    let (started, key, _) = world.flying[0];
    let now = started + 150 * MS;
    world.scheduler.process_timers(now, |(), _, _| Verdict::from_code(OutcomeCode::L4Tout));
    let mut asked = 0;
    while world.scheduler.start_next(now, |_, _, ()| {
        asked += 1;
        StartResult::Deferred
    }) && asked < 3
    {}
    assert!(asked > 0);
    assert_eq!(world.scheduler.finish_probe(key, OK, now), Some(1));
}

#[test]
fn what_is_not_known_is_not_doubted() {
    let mut world = World::of(vec![member(1, 1)], never);
    world.run(1000 * MS);
    let first = world.starts[0];
    world.run(first + 999 * MS);
    assert_eq!(world.starts.len(), 1);
}

#[test]
fn a_fault_of_this_host_is_no_doubt() {
    let mut world = World::of(vec![member(1, 1)], at_once);
    world.run(10_000 * MS);
    world.server = never;
    world.starts.clear();
    while world.starts.is_empty() {
        world.turn(world.next());
    }
    let key = world.keys()[0];
    assert!(world.scheduler.finish_probe(key, Verdict::from_code(OutcomeCode::Local), world.now).is_some());
    world.run_for(Duration::from_millis(850));
    assert_eq!(world.starts.len(), 1, "{:?}", world.starts);
}

fn auto(id: u32, last: u8) -> AcceptedCheck<()> {
    let timeout = ProbeTimeout::Auto { min: Duration::from_millis(50), max: SECOND };
    AcceptedCheck { check: Check { timeout, ..check(last) }, ..member(id, last) }
}

#[test]
fn a_derived_time_out_is_told_and_doubles_while_nothing_answers() {
    let mut world = World::of(vec![auto(1, 1)], |_, _, now| Some(now + 8 * MS));
    world.run(10_000 * MS);
    let told: Vec<_> = world.outcomes.iter().map(|outcome| outcome.timeout.unwrap().as_millis()).collect();
    assert_eq!(told[..5], [1000, 1000, 1000, 96, 96]);
    world.server = never;
    world.outcomes.clear();
    while world.outcomes.is_empty() {
        world.turn(world.next());
    }
    world.scheduler.set_intervals(&[(CheckId(1), FAST)], world.now);
    world.run_for(5 * SECOND);
    let took: Vec<_> =
        world.outcomes.iter().map(|outcome| outcome.duration.as_millis() / 10).take(6).collect();
    assert_eq!(took, [9, 19, 38, 76, 100, 100]);
    // By the time that the second is given up, the third has started.
    assert_eq!(world.outcomes[1].timeout, Some(Duration::from_millis(768)));
}

/// A check that keeps its connections, or resumes its sessions, is slow but once in a while.
#[test]
fn however_quick_probes_are_that_need_no_handshake_those_that_do_are_in_time() {
    let mut world = World::of(vec![auto(1, 1)], never);
    for number in 0..300 {
        let is_short = number % 60 != 0;
        world.server =
            if is_short { |_, _, now| Some(now + 2 * MS) } else { |_, _, now| Some(now + 300 * MS) };
        world.verdict = Verdict { is_short, ..OK };
        world.outcomes.clear();
        while world.outcomes.is_empty() {
            world.turn(world.next());
        }
        let codes: Vec<_> = world.outcomes.iter().map(|outcome| outcome.code).collect();
        assert_eq!(codes, [OutcomeCode::L4Ok], "{number}");
    }
}

proptest! {
    /// Whatever becomes of probes: each is told once and in order, few are in flight, and none follows another sooner than
    /// the shortest interval, its jitter and the grain of starts allow.
    #[test]
    fn probes_of_a_check_are_few_and_told_in_order(
        seed: u64, loss in 0u8..100, slowest in 1..1500u64,
        paces in proptest::collection::vec((0u32..5, 10..3000u64, 0..3000u64), 1..50)
    ) {
        let members = (0..5).map(|n| if n % 2 == 0 { member(n, n as u8) } else { auto(n, n as u8) });
        let mut world = World::of(members.collect(), never);
        world.random.seed(seed);
        for (id, interval, time) in paces {
            world.scheduler.set_intervals(&[(CheckId(id), Duration::from_millis(interval))], world.now);
            let until = world.now + time * MS;
            while let next = world.next() && next <= until {
                world.turn(next);
                for (started, _, answer) in &mut world.flying {
                    if *started == next && world.random.u8(0..100) >= loss {
                        *answer = Some(next + 1 + world.random.u64(0..slowest * MS));
                    }
                }
                let slots = world.keys().into_iter().map(|key| key.slot);
                prop_assert!((0..5).all(|slot| slots.clone().filter(|s| *s == slot).count() <= MAX_PROBES));
            }
            world.now = until;
        }
        let mut newest: HashMap<CheckId, &Outcome> = HashMap::new();
        for outcome in &world.outcomes {
            let last = newest.insert(outcome.check, outcome);
            prop_assert_eq!(outcome.seq, last.map_or(0, |last| last.seq) + 1);
            prop_assert!(last.is_none_or(|last| outcome.started >= last.started + 6 * MS), "{last:?} {outcome:?}");
            prop_assert!(outcome.duration <= SECOND + Duration::from_millis(1));
        }
    }
}
