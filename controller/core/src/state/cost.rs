//! Asserts the complexity of inputs: the number of backends and frontends that an input accesses does not depend on their
//! total. All accesses go through [`CowList`](crate::cow_list::CowList), which counts them.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use maglev_ipc::{CheckId, Outcome, OutcomeCode, OutcomeDetail};

use super::{Input, OperatorCommand, Output, Requester, State};
use crate::config::{self, Api, Config, ForeignVips, Healthcheck, Lb, Pool, Probe};
use crate::cow_list::accesses;
use crate::dataplane::{ActualState, Encap, LbConf, VipKey};
use crate::health::BackendAction;
use crate::time::{MonoTime, Now, WallTime};
use crate::view::VppInfo;

const NOW: Now = Now { mono: MonoTime(1), wall: WallTime(1) };
/// Number of backends per frontend.
const EACH: u32 = 10;

fn config(backends: u32) -> Config {
    let second = Duration::from_secs(1);
    let healthcheck = Healthcheck {
        probe: Probe::Icmp,
        interval: second,
        fast_interval: second,
        down_interval: second,
        timeout: maglev_ipc::ProbeTimeout::Fixed(second),
        rise: 1,
        fall: 1,
        source4: None,
        source6: None,
    };
    let name = |number: u32| alloc::format!("{number:05}").into();
    let backend = |number: u32| {
        let address = IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + number));
        (name(number), config::Backend { address, healthcheck: Some("ping".into()), enabled: true })
    };
    let frontend = |number: u32| {
        let backends = (number * EACH..(number + 1) * EACH).map(|backend| (name(backend), 100)).collect();
        let frontend = config::Frontend {
            description: alloc::string::String::new(),
            vip: VipKey::host(Ipv4Addr::from_bits(0xac10_0000 + number).into(), 6, 80),
            encap: Encap::Gre4,
            src_ip_sticky: false,
            flush_on_down: true,
            table_length: None,
            weight_step: None,
            pools: vec![Pool { name: "all".into(), backends }],
        };
        (name(number), Arc::new(frontend))
    };
    Config {
        transition_history: 5,
        mass_failure_threshold: 100,
        netns: None,
        api: Api::default(),
        lb: Lb {
            sync_interval: Duration::from_secs(30),
            conf: LbConf {
                ipv4_src: Ipv4Addr::LOCALHOST,
                ipv6_src: Ipv6Addr::LOCALHOST,
                sticky_buckets_per_core: 1024,
                flow_timeout: 40,
            },
            startup_min_delay: Duration::ZERO,
            startup_max_delay: Duration::ZERO,
            foreign_vips: ForeignVips::Keep,
            allow_no_frontends: false,
        },
        healthchecks: BTreeMap::from([("ping".into(), Arc::new(healthcheck))]),
        backends: (0..backends).map(backend).collect(),
        frontends: (0..backends / EACH).map(frontend).collect(),
    }
}

/// Returns a state with all backends up and VPP connected.
fn running(backends: u32) -> State {
    running_with(config(backends))
}

fn running_with(config: Config) -> State {
    let mut state = State::new(Arc::new(config), Arc::default(), true, NOW, &mut Vec::new());
    let info = VppInfo { version: "26.10".into(), build_date: "".into(), pid: 1, boot: None };
    for input in
        [Input::ProberUp, Input::Committed(1), Input::VppUp(info), Input::AllRead(ActualState::default())]
    {
        feed(&mut state, input);
    }
    for check in checks(&state) {
        feed(&mut state, outcome(check, 1, OutcomeCode::L7Ok));
    }
    state
}

fn checks(state: &State) -> Vec<CheckId> {
    state.backends.iter().map(|backend| backend.check).collect()
}

fn outcome(check: CheckId, seq: u64, code: OutcomeCode) -> Input {
    Input::Outcomes(vec![outcome_of(check, seq, code)])
}

fn outcome_of(check: CheckId, seq: u64, code: OutcomeCode) -> Outcome {
    let (duration, detail) = (Duration::from_millis(1), OutcomeDetail::None);
    Outcome {
        check,
        seq,
        started: 0,
        duration,
        timeout: None,
        not_after: None,
        has_no_route: false,
        code,
        detail,
    }
}

/// Handles an input, and returns the number of steps.
fn feed(state: &mut State, input: Input) -> usize {
    let mut out = Vec::new();
    state.handle(input, NOW, &mut out);
    execute(state, out)
}

fn execute(state: &mut State, out: Vec<Output>) -> usize {
    let mut steps = 0;
    for output in out {
        if let Output::Apply(run) = output {
            steps += run.steps.len();
            feed(state, Input::StepsApplied { vip: run.vip, done: run.steps.len(), error: None });
        }
    }
    steps
}

/// Returns the accesses for a steady pass, a DOWN transition, a pause, a summary, and a clone.
fn costs(backends: u32) -> [usize; 5] {
    let mut state = running(backends);
    let check = checks(&state)[backends as usize / 2];
    accesses::take();
    assert_eq!(feed(&mut state, outcome(check, 2, OutcomeCode::L7Ok)), 0);
    let pass = accesses::take();
    assert_eq!(feed(&mut state, outcome(check, 3, OutcomeCode::L4Con)), 1);
    let fall = accesses::take();
    let mut out = Vec::new();
    let pause = OperatorCommand::Backend { name: "00001".into(), action: BackendAction::Pause };
    state.operate(&pause, &Requester::default(), NOW, &mut out).unwrap();
    let amends = |output: &Output| match output {
        Output::SetChecks(set) => set.dropped.as_ref().is_some_and(|d| d.len() == 1) && set.checks.is_empty(),
        _ => false,
    };
    assert!(out.iter().any(amends), "{out:?}");
    assert_eq!(execute(&mut state, out), 1);
    let paused = accesses::take();
    let _ = state.summary();
    let summary = accesses::take();
    let _ = state.clone();
    [pass, fall, paused, summary, accesses::take()]
}

#[test]
fn outcome_cost_is_independent_of_backend_count() {
    let few = costs(100);
    assert!(few[1] > 0);
    // A search by name takes a step more for each doubling.
    let many = costs(10_000);
    assert_eq!((few[0], few[1], few[3], few[4]), (many[0], many[1], many[3], many[4]));
    assert!(many[2] <= few[2] + 10, "{few:?} {many:?}");
}

#[test]
fn outcome_without_transition_allocates_nothing() {
    let mut state = running(100);
    let mut out = Vec::new();
    for (seq, code) in (2..).zip([OutcomeCode::L7Ok, OutcomeCode::Local, OutcomeCode::L7Ok]) {
        let outcomes: Vec<_> = checks(&state).into_iter().map(|check| outcome_of(check, seq, code)).collect();
        let input = Input::Outcomes(outcomes);
        let taken = allocation_counter::measure(|| state.handle(input, NOW, &mut out));
        assert_eq!((taken.count_total, out.len()), (0, 0), "{code}");
    }
}

#[test]
fn failure_among_many_has_constant_cost() {
    let cost = |backends: u32| {
        let config = Config { mass_failure_threshold: 60, ..config(backends) };
        let mut state = running_with(config);
        let checks = checks(&state);
        for check in &checks[1..backends as usize / 2] {
            feed(&mut state, outcome(*check, 2, OutcomeCode::L4Con));
        }
        accesses::take();
        feed(&mut state, outcome(checks[0], 2, OutcomeCode::L4Con));
        (accesses::take(), state.mass_failure.pending_until())
    };
    assert_eq!(cost(100), cost(10_000));
}
