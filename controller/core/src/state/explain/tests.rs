//! Explanations of every combination of health, override, pool and VPP.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use maglev_ipc::{CheckId, Outcome, OutcomeCode, OutcomeDetail, ProbeTimeout};

use super::{ExplanationLine, Topic};
use crate::config::{self, Api, Config, ForeignVips, Healthcheck, Lb, Pool, Probe};
use crate::dataplane::{ActualAs, ActualState, ActualVip, Encap, LbConf, VipKey};
use crate::health::{BackendAction, Health};
use crate::state::{Input, OperatorCommand, Output, Requester, State};
use crate::time::{MonoTime, Now, WallTime};
use crate::view::VppInfo;

const X: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const Y: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
const WEB: VipKey = VipKey::host(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)), 6, 80);
const CONF: LbConf = LbConf {
    ipv4_src: Ipv4Addr::LOCALHOST,
    ipv6_src: Ipv6Addr::LOCALHOST,
    sticky_buckets_per_core: 1024,
    flow_timeout: 40,
};

/// Health of backend `x`, and its cause.
#[derive(Clone, Copy, Debug, PartialEq)]
enum HealthCase {
    Unknown,
    Up,
    Down,
    Paused,
    Disabled,
    DisabledByConfig,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum VppCase {
    Off,
    Away,
    Unread,
    Synced,
    AtWork,
    Failed,
    Blocked,
    Shadowed,
    /// For a warm-up, with weight 1 for `x` in VPP.
    Held,
}

#[derive(Clone, Copy, Debug)]
struct ExplainCase {
    is: HealthCase,
    weight: Option<u8>,
    /// True if the pool of `x` is the first one; `y`, which is up, is in the other.
    first: bool,
    vpp: VppCase,
}

fn cases() -> impl Iterator<Item = ExplainCase> {
    use VppCase::{AtWork, Away, Blocked, Failed, Held, Off, Shadowed, Synced, Unread};
    let states = [
        HealthCase::Unknown,
        HealthCase::Up,
        HealthCase::Down,
        HealthCase::Paused,
        HealthCase::Disabled,
        HealthCase::DisabledByConfig,
    ];
    states.into_iter().flat_map(|is| {
        [None, Some(40), Some(0)].into_iter().flat_map(move |weight| {
            [true, false].into_iter().flat_map(move |first| {
                [Off, Away, Unread, Synced, AtWork, Failed, Blocked, Shadowed, Held].map(|vpp| ExplainCase {
                    is,
                    weight,
                    first,
                    vpp,
                })
            })
        })
    })
}

impl ExplainCase {
    fn health(self) -> Health {
        match self.is {
            HealthCase::Unknown => Health::Unknown,
            HealthCase::Up => Health::Up,
            HealthCase::Down => Health::Down,
            HealthCase::Paused => Health::Paused,
            HealthCase::Disabled | HealthCase::DisabledByConfig => Health::Disabled,
        }
    }

    /// The weight of `x` that follows from health and failover.
    fn effective(self) -> u8 {
        if self.is == HealthCase::Up && self.first { self.weight.unwrap_or(100) } else { 0 }
    }

    fn config(self) -> Config {
        let healthcheck = Healthcheck {
            probe: Probe::Icmp,
            interval: Duration::from_secs(2),
            fast_interval: Duration::from_millis(500),
            down_interval: Duration::from_secs(10),
            timeout: ProbeTimeout::Fixed(Duration::from_secs(1)),
            rise: 2,
            fall: 3,
            source4: None,
            source6: None,
        };
        let backend =
            |address, enabled| config::Backend { address, healthcheck: Some("ping".into()), enabled };
        let pool = |name: &str, backend: &str, weight| Pool {
            name: name.into(),
            backends: BTreeMap::from([(backend.into(), weight)]),
        };
        let (of_x, of_y) = if self.first { ("primary", "fallback") } else { ("fallback", "primary") };
        let mut pools = [pool(of_x, "x", 100), pool(of_y, "y", 20)];
        if !self.first {
            pools.reverse();
        }
        let frontend = config::Frontend {
            description: String::new(),
            vip: WEB,
            encap: Encap::Gre4,
            src_ip_sticky: false,
            flush_on_down: false,
            table_length: None,
            weight_step: None,
            pools: pools.into(),
        };
        let held = self.vpp == VppCase::Held;
        Config {
            transition_history: 5,
            mass_failure_threshold: 100,
            netns: None,
            api: Api::default(),
            lb: Lb {
                sync_interval: Duration::from_secs(30),
                conf: CONF,
                startup_min_delay: Duration::from_secs(if held { 20 } else { 0 }),
                startup_max_delay: Duration::from_secs(if held { 30 } else { 0 }),
                foreign_vips: ForeignVips::Keep,
                allow_no_frontends: false,
            },
            healthchecks: BTreeMap::from([("ping".into(), Arc::new(healthcheck))]),
            backends: BTreeMap::from([
                ("x".into(), backend(X, self.is != HealthCase::DisabledByConfig)),
                ("y".into(), backend(Y, true)),
            ]),
            frontends: BTreeMap::from([("web".into(), Arc::new(frontend))]),
        }
    }
}

const fn at(seconds: u64) -> Now {
    let nanos = seconds * 1_000_000_000;
    Now { mono: MonoTime(nanos), wall: WallTime(nanos) }
}

/// A state, and a VPP that accepts all requests.
struct ExplainWorld {
    state: State,
    vpp: VppCase,
}

impl ExplainWorld {
    fn new(case: ExplainCase) -> Self {
        let mut out = Vec::new();
        let enabled = case.vpp != VppCase::Off;
        let state = State::new(Arc::new(case.config()), Arc::default(), enabled, at(0), &mut out);
        let mut world = Self { state, vpp: case.vpp };
        if !matches!(case.vpp, VppCase::Off | VppCase::Away) {
            let (version, build_date) = ("26.10".into(), String::new());
            world.tell(Input::VppUp(VppInfo { version, build_date, pid: 1, boot: None }));
        }
        let shadowed = if case.vpp == VppCase::Shadowed { BTreeSet::from([WEB]) } else { BTreeSet::new() };
        world.tell(Input::AddressConflicts(shadowed));
        world.tell(Input::ProberUp);
        world.tell(Input::Committed(1));
        world.probed("y", OutcomeCode::L7Ok, 1);
        match case.is {
            HealthCase::Unknown | HealthCase::DisabledByConfig => {}
            HealthCase::Up => world.probed("x", OutcomeCode::L7Ok, 1),
            HealthCase::Down => world.probed("x", OutcomeCode::L4Con, 3),
            HealthCase::Paused => world.operate(&action(BackendAction::Pause)),
            HealthCase::Disabled => world.operate(&action(BackendAction::Disable)),
        }
        if let Some(weight) = case.weight {
            let pool = if case.first { "primary" } else { "fallback" };
            let (frontend, pool, backend) = ("web".into(), pool.into(), "x".into());
            world.operate(&OperatorCommand::Weight { frontend, pool, backend, weight: Some(weight) });
        }
        world
    }

    fn tell(&mut self, input: Input) {
        let mut out = Vec::new();
        self.state.handle(input, at(1), &mut out);
        self.follow(out);
    }

    fn operate(&mut self, command: &OperatorCommand) {
        let mut out = Vec::new();
        let by = Requester { who: "alice".into(), ..Requester::default() };
        self.state.operate(command, &by, at(1), &mut out).unwrap();
        self.follow(out);
    }

    fn follow(&mut self, out: Vec<Output>) {
        for output in out {
            match (output, self.vpp) {
                (Output::ReadAll, VppCase::Unread) | (Output::Apply(_), VppCase::AtWork) => {}
                (Output::ReadAll, _) => self.tell(Input::AllRead(self.found())),
                (Output::Apply(run), VppCase::Failed) => {
                    let error = Some("VALUE_EXIST".to_string());
                    self.tell(Input::StepsApplied { vip: run.vip, done: 0, error });
                }
                (Output::Apply(run), _) => {
                    self.tell(Input::StepsApplied { vip: run.vip, done: run.steps.len(), error: None });
                }
                _ => {}
            }
        }
    }

    /// Returns VPP's state at the first read.
    fn found(&self) -> ActualState {
        let server = |weight| ActualAs { weight, buckets: u32::from(weight) * 512 };
        let vip = |servers| ActualVip {
            encap: Encap::Gre4,
            table_length: Some(1024),
            src_ip_sticky: Some(false),
            servers,
        };
        let all_ports = VipKey { protocol: 255, port: 0, ..WEB };
        let vips = match self.vpp {
            VppCase::Blocked => BTreeMap::from([(all_ports, vip(BTreeMap::new()))]),
            VppCase::Held => BTreeMap::from([(WEB, vip(BTreeMap::from([(X, server(1)), (Y, server(1))])))]),
            _ => BTreeMap::new(),
        };
        ActualState { conf: Some(CONF), vips }
    }

    fn probed(&mut self, name: &str, code: OutcomeCode, times: u64) {
        let check: CheckId = self.state.backends.iter().find(|b| *b.name == *name).unwrap().check;
        for seq in 1..=times {
            let (duration, detail) = (Duration::from_millis(3), OutcomeDetail::None);
            self.tell(Input::Outcomes(vec![Outcome {
                check,
                seq,
                started: 0,
                duration,
                code,
                detail,
                timeout: None,
                not_after: None,
                has_no_route: false,
            }]));
        }
    }

    fn lines(&self) -> Vec<ExplanationLine> {
        self.state.explain_backend("x", at(3)).unwrap()
    }
}

fn action(action: BackendAction) -> OperatorCommand {
    OperatorCommand::Backend { name: "x".into(), action }
}

fn texts(lines: &[ExplanationLine], topic: Topic) -> Vec<&str> {
    lines.iter().filter(|r| r.topic == topic).map(|r| r.text.as_str()).collect()
}

fn has(lines: &[ExplanationLine], topic: Topic, part: &str) -> bool {
    texts(lines, topic).iter().any(|line| line.contains(part))
}

#[test]
fn conclusion_names_state_and_weight() {
    for case in cases() {
        let lines = ExplainWorld::new(case).lines();
        let start = format!("x is {}, weight {} in web", case.health(), case.effective());
        assert!(lines[0].text.starts_with(&start) && lines[0].topic == Topic::State, "{case:?}: {lines:?}");
    }
}

#[test]
fn weight_line_names_health_pool_and_override() {
    for case in cases() {
        let lines = ExplainWorld::new(case).lines();
        let (weight, health) = (case.weight.unwrap_or(100), case.health());
        let said = match case.weight {
            None => "as configured".to_string(),
            Some(weight) => format!("set to {weight} by alice 2s ago; configured: 100"),
        };
        let why = match (case.is, weight, case.first) {
            (HealthCase::Up, 0, _) | (HealthCase::Up, _, true) => said,
            (HealthCase::Up, _, false) => {
                format!("it stands by with {weight} ({said}), while pool primary serves")
            }
            (_, 0, _) => format!("it is {health}; once up it has 0 ({said})"),
            (_, _, true) => format!("it is {health}; once up it has {weight} ({said})"),
            (_, _, false) => format!("it is {health}; once up it stands by with {weight} ({said})"),
        };
        let pool = if case.first { "primary" } else { "fallback" };
        let line = format!("{} in web, pool {pool}: {why}", case.effective());
        assert_eq!(texts(&lines, Topic::Weight), [line], "{case:?}");
    }
}

#[test]
fn vpp_line_names_difference_and_reason() {
    for case in cases() {
        let lines = ExplainWorld::new(case).lines();
        let word = match case.vpp {
            VppCase::Off => "VPP is not used: nothing is programmed".to_string(),
            VppCase::Away => "not connected for 3s: what VPP has stays, and is read before it is changed".into(),
            VppCase::Unread => "connected for 2s; what VPP has is still being read".into(),
            VppCase::AtWork => "web: not there, as the VIP is not: VPP is applying steps: create vip gre4 table 1024, and 2 more".into(),
            VppCase::Failed => {
                "web: not there, as the VIP is not: `create vip gre4 table 1024` failed: VALUE_EXIST; next try in 0s".into()
            }
            VppCase::Blocked => "web: not there, as the VIP is not: VPP has 203.0.113.1 on this address, which allows no \
                             other; it is foreign, and stays"
                .into(),
            VppCase::Synced | VppCase::Shadowed => match case.effective() / 5 {
                0 => "web: weight 0".into(),
                weight => format!("web: weight {weight} ({} / 5), 100.0% of new flows", case.effective()),
            },
            VppCase::Held if matches!(case.is, HealthCase::Paused | HealthCase::Disabled | HealthCase::DisabledByConfig) => "web: weight 0".into(),
            VppCase::Held => {
                format!("web: weight 1, kept while web is held; health asks for {}", case.effective() / 5)
            }
        };
        let vpp = texts(&lines, Topic::Vpp);
        assert!(vpp.len() == 1 && vpp[0].starts_with(&word), "{case:?}: {word}: {vpp:?}");
        let shadowed = "web: VPP has this address on an interface: the VIP gets no traffic";
        assert_eq!(has(&lines, Topic::Warning, shadowed), case.vpp == VppCase::Shadowed, "{case:?}");
    }
}

#[test]
fn override_and_hold_are_named() {
    for case in cases() {
        let lines = ExplainWorld::new(case).lines();
        let undo = |is, word: &str| {
            assert_eq!(has(&lines, Topic::Operator, word), case.is == is, "{case:?}: {lines:?}");
        };
        undo(
            HealthCase::Paused,
            "paused by alice 2s ago: no probes, no weight; `set backend x resume` ends that",
        );
        undo(
            HealthCase::Disabled,
            "disabled by alice 2s ago: no probes, no weight; `set backend x enable` ends that",
        );
        let configured =
            "the configuration has `enabled: false`: no probes, no weight; `set backend x enable`";
        assert_eq!(
            has(&lines, Topic::State, configured),
            case.is == HealthCase::DisabledByConfig,
            "{case:?}"
        );
        let probed = matches!(case.is, HealthCase::Unknown | HealthCase::Up | HealthCase::Down);
        assert_eq!(has(&lines, Topic::Probes, "icmp by healthcheck ping, every"), probed, "{case:?}");
        assert_eq!(texts(&lines, Topic::Counter).len(), usize::from(probed), "{case:?}");
        let held = "web is held for 3s: VPP keeps the weights that it has, until ";
        assert_eq!(has(&lines, Topic::Startup, held), case.vpp == VppCase::Held, "{case:?}: {lines:?}");
    }
}

#[test]
fn counter_line_names_missing_verdicts() {
    let case = |is| ExplainCase { is, weight: None, first: true, vpp: VppCase::Synced };
    let counter = |world: &ExplainWorld| texts(&world.lines(), Topic::Counter)[0].to_string();
    let mut up = ExplainWorld::new(case(HealthCase::Up));
    assert_eq!(counter(&up), "4 of 4 (rise 2, fall 3): 3 failures in a row take it down");
    up.state.backends[0].tracker.reset_sequence();
    up.probed("x", OutcomeCode::L4Con, 2);
    assert_eq!(counter(&up), "2 of 4 (rise 2, fall 3): 1 failure takes it down");

    let mut down = ExplainWorld::new(case(HealthCase::Down));
    assert_eq!(counter(&down), "0 of 4 (rise 2, fall 3): 2 passes in a row bring it up");
    down.state.backends[0].tracker.reset_sequence();
    down.probed("x", OutcomeCode::L7Ok, 1);
    assert_eq!(counter(&down), "1 of 4 (rise 2, fall 3): 1 pass brings it up");

    assert_eq!(
        counter(&ExplainWorld::new(case(HealthCase::Unknown))),
        "nothing known: the next verdict decides"
    );
    let mut served = ExplainWorld::new(ExplainCase { vpp: VppCase::Held, ..case(HealthCase::Unknown) });
    served.probed("x", OutcomeCode::L4Con, 1);
    let word = "nothing known: a pass brings it up; 2 failures in a row take it down, as VPP may serve it";
    assert_eq!(counter(&served), word);
}

#[test]
fn vpp_fault_is_shown_until_reconnection() {
    let mut world = ExplainWorld::new(ExplainCase {
        is: HealthCase::Up,
        weight: None,
        first: true,
        vpp: VppCase::Synced,
    });
    world.tell(Input::VppDown);
    world.tell(Input::VppUnreachable("api.sock: Permission denied".into()));
    let away = |lines: &[ExplanationLine]| {
        has(lines, Topic::Vpp, "(api.sock: Permission denied): what VPP has stays")
    };
    assert!(away(&world.lines()));
    let (version, build_date) = ("26.10".into(), String::new());
    world.tell(Input::VppUp(VppInfo { version, build_date, pid: 2, boot: None }));
    world.tell(Input::VppDown);
    assert!(!away(&world.lines()), "an outage of its own, with a reason of its own");
}

#[test]
fn disconnected_prober_is_named() {
    let mut world = ExplainWorld::new(ExplainCase {
        is: HealthCase::Up,
        weight: None,
        first: true,
        vpp: VppCase::Synced,
    });
    let check = world.state.backends[0].check;
    world.tell(Input::CheckRejected(check, "192.0.2.1 is no target".into()));
    let refused = "the prober rejects its check, and its state stays: 192.0.2.1 is no target";
    assert_eq!(texts(&world.lines(), Topic::Prober), [refused]);
    world.tell(Input::ProberDown);
    let lost = "not connected for 2s: no outcomes arrive, and its state stays";
    assert_eq!(texts(&world.lines(), Topic::Prober), [lost]);
    world.tell(Input::ProberUnreachable("prober.sock: Permission denied".into()));
    let lost =
        "not connected for 2s (prober.sock: Permission denied): no outcomes arrive, and its state stays";
    assert_eq!(texts(&world.lines(), Topic::Prober), [lost]);
    world.tell(Input::ProberUp);
    let idle = "connected for 2s, but its checks are not in force yet";
    let stale = "the prober was lost or rejected its check, and no verdict has arrived since";
    assert_eq!(texts(&world.lines(), Topic::Prober), [idle, stale]);
    assert!(!has(&world.lines(), Topic::Probes, "every"), "nothing is probed");
}
