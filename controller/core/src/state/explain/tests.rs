//! Every state of a backend × what an operator wants × its pool × VPP: each has its words.

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

/// How the backend `x` came to be what it is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Is {
    Unknown,
    Up,
    Down,
    Paused,
    Disabled,
    DisabledByConfig,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Vpp {
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
struct Cell {
    is: Is,
    weight: Option<u8>,
    /// Whether the pool of `x` is the first one; `y`, which is up, is in the other.
    first: bool,
    vpp: Vpp,
}

fn cells() -> impl Iterator<Item = Cell> {
    use Vpp::{AtWork, Away, Blocked, Failed, Held, Off, Shadowed, Synced, Unread};
    let states = [Is::Unknown, Is::Up, Is::Down, Is::Paused, Is::Disabled, Is::DisabledByConfig];
    states.into_iter().flat_map(|is| {
        [None, Some(40), Some(0)].into_iter().flat_map(move |weight| {
            [true, false].into_iter().flat_map(move |first| {
                [Off, Away, Unread, Synced, AtWork, Failed, Blocked, Shadowed, Held].map(|vpp| Cell {
                    is,
                    weight,
                    first,
                    vpp,
                })
            })
        })
    })
}

impl Cell {
    fn health(self) -> Health {
        match self.is {
            Is::Unknown => Health::Unknown,
            Is::Up => Health::Up,
            Is::Down => Health::Down,
            Is::Paused => Health::Paused,
            Is::Disabled | Is::DisabledByConfig => Health::Disabled,
        }
    }

    /// The weight of `x` that follows from health and failover.
    fn effective(self) -> u8 {
        if self.is == Is::Up && self.first { self.weight.unwrap_or(100) } else { 0 }
    }

    /// What the weights are divided by; that of `y` is 20.
    fn divisor(self) -> u8 {
        20
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
            pools: pools.into(),
        };
        let held = self.vpp == Vpp::Held;
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
            },
            healthchecks: BTreeMap::from([("ping".into(), Arc::new(healthcheck))]),
            backends: BTreeMap::from([
                ("x".into(), backend(X, self.is != Is::DisabledByConfig)),
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

/// A core, and a VPP that does what it is asked.
struct World {
    state: State,
    vpp: Vpp,
}

impl World {
    fn new(cell: Cell) -> Self {
        let mut out = Vec::new();
        let enabled = cell.vpp != Vpp::Off;
        let state = State::new(Arc::new(cell.config()), Arc::default(), enabled, at(0), &mut out);
        let mut world = Self { state, vpp: cell.vpp };
        if !matches!(cell.vpp, Vpp::Off | Vpp::Away) {
            let (version, build_date) = ("26.10".into(), String::new());
            world.tell(Input::VppUp(VppInfo { version, build_date, pid: 1, boot: None }));
        }
        let shadowed = if cell.vpp == Vpp::Shadowed { BTreeSet::from([WEB]) } else { BTreeSet::new() };
        world.tell(Input::AddressConflicts(shadowed));
        world.tell(Input::ProberUp);
        world.tell(Input::Committed(1));
        world.probed("y", OutcomeCode::L7Ok, 1);
        match cell.is {
            Is::Unknown | Is::DisabledByConfig => {}
            Is::Up => world.probed("x", OutcomeCode::L7Ok, 1),
            Is::Down => world.probed("x", OutcomeCode::L4Con, 3),
            Is::Paused => world.operate(&action(BackendAction::Pause)),
            Is::Disabled => world.operate(&action(BackendAction::Disable)),
        }
        if let Some(weight) = cell.weight {
            let pool = if cell.first { "primary" } else { "fallback" };
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
                (Output::ReadAll, Vpp::Unread) | (Output::Apply(_), Vpp::AtWork) => {}
                (Output::ReadAll, _) => self.tell(Input::AllRead(self.found())),
                (Output::Apply(run), Vpp::Failed) => {
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

    /// What VPP has at first.
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
            Vpp::Blocked => BTreeMap::from([(all_ports, vip(BTreeMap::new()))]),
            Vpp::Held => BTreeMap::from([(WEB, vip(BTreeMap::from([(X, server(1)), (Y, server(1))])))]),
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
            }]));
        }
    }

    fn told(&self) -> Vec<ExplanationLine> {
        self.state.explain_backend("x", at(3)).unwrap()
    }
}

fn action(action: BackendAction) -> OperatorCommand {
    OperatorCommand::Backend { name: "x".into(), action }
}

fn lines(told: &[ExplanationLine], topic: Topic) -> Vec<&str> {
    told.iter().filter(|r| r.topic == topic).map(|r| r.text.as_str()).collect()
}

fn has(told: &[ExplanationLine], topic: Topic, part: &str) -> bool {
    lines(told, topic).iter().any(|line| line.contains(part))
}

#[test]
fn the_conclusion_is_the_state_and_the_weight() {
    for cell in cells() {
        let told = World::new(cell).told();
        let start = format!("x is {}, weight {} in web", cell.health(), cell.effective());
        assert!(told[0].text.starts_with(&start) && told[0].topic == Topic::State, "{cell:?}: {told:?}");
    }
}

#[test]
fn a_weight_follows_from_health_pool_and_operator() {
    for cell in cells() {
        let told = World::new(cell).told();
        let (weight, health) = (cell.weight.unwrap_or(100), cell.health());
        let said = match cell.weight {
            None => "as configured".to_string(),
            Some(weight) => format!("set to {weight} by alice 2s ago; configured: 100"),
        };
        let why = match (cell.is, weight, cell.first) {
            (Is::Up, 0, _) | (Is::Up, _, true) => said,
            (Is::Up, _, false) => format!("it stands by with {weight} ({said}), while pool primary serves"),
            (_, 0, _) => format!("it is {health}; once up it has 0 ({said})"),
            (_, _, true) => format!("it is {health}; once up it has {weight} ({said})"),
            (_, _, false) => format!("it is {health}; once up it stands by with {weight} ({said})"),
        };
        let pool = if cell.first { "primary" } else { "fallback" };
        let line = format!("{} in web, pool {pool}: {why}", cell.effective());
        assert_eq!(lines(&told, Topic::Weight), [line], "{cell:?}");
    }
}

#[test]
fn what_vpp_has_and_why_it_has_no_more() {
    for cell in cells() {
        let told = World::new(cell).told();
        let word = match cell.vpp {
            Vpp::Off => "VPP is not used: nothing is programmed".to_string(),
            Vpp::Away => "not connected for 3s: what VPP has stays, and is read before it is changed".into(),
            Vpp::Unread => "connected for 2s; what VPP has is still being read".into(),
            Vpp::AtWork => "web: not there, as the VIP is not: VPP is at work: create vip gre4 table 1024, and 2 more".into(),
            Vpp::Failed => {
                "web: not there, as the VIP is not: `create vip gre4 table 1024` failed: VALUE_EXIST; next try in 0s".into()
            }
            Vpp::Blocked => "web: not there, as the VIP is not: VPP has 203.0.113.1 on this address, which allows no \
                             other; it is nobody's here, and stays"
                .into(),
            Vpp::Synced | Vpp::Shadowed => match cell.effective() / cell.divisor() {
                0 => "web: weight 0".into(),
                weight => format!("web: weight {weight} ({} / 20), 100.0% of new flows", cell.effective()),
            },
            Vpp::Held if matches!(cell.is, Is::Paused | Is::Disabled | Is::DisabledByConfig) => "web: weight 0".into(),
            Vpp::Held => {
                format!("web: weight 1, kept while web is held; health asks for {}", cell.effective() / 20)
            }
        };
        let vpp = lines(&told, Topic::Vpp);
        assert!(vpp.len() == 1 && vpp[0].starts_with(&word), "{cell:?}: {word}: {vpp:?}");
        let shadowed = "web: VPP has this address on an interface: the VIP gets no traffic";
        assert_eq!(has(&told, Topic::Warning, shadowed), cell.vpp == Vpp::Shadowed, "{cell:?}");
    }
}

#[test]
fn what_keeps_it_as_it_is_is_named() {
    for cell in cells() {
        let told = World::new(cell).told();
        let undo = |is, word: &str| {
            assert_eq!(has(&told, Topic::Operator, word), cell.is == is, "{cell:?}: {told:?}");
        };
        undo(Is::Paused, "paused by alice 2s ago: no probes, no weight; `set backend x resume` ends that");
        undo(
            Is::Disabled,
            "disabled by alice 2s ago: no probes, no weight; `set backend x enable` ends that",
        );
        let configured =
            "the configuration has `enabled: false`: no probes, no weight; `set backend x enable`";
        assert_eq!(has(&told, Topic::State, configured), cell.is == Is::DisabledByConfig, "{cell:?}");
        let probed = matches!(cell.is, Is::Unknown | Is::Up | Is::Down);
        assert_eq!(has(&told, Topic::Probes, "icmp by healthcheck ping, every"), probed, "{cell:?}");
        assert_eq!(lines(&told, Topic::Counter).len(), usize::from(probed), "{cell:?}");
        let held = "web is held for 3s: VPP keeps the weights that it has, until ";
        assert_eq!(has(&told, Topic::Startup, held), cell.vpp == Vpp::Held, "{cell:?}: {told:?}");
    }
}

#[test]
fn the_counter_says_what_is_missing() {
    let cell = |is| Cell { is, weight: None, first: true, vpp: Vpp::Synced };
    let counter = |world: &World| lines(&world.told(), Topic::Counter)[0].to_string();
    let mut up = World::new(cell(Is::Up));
    assert_eq!(counter(&up), "4 of 4 (rise 2, fall 3): 3 failures in a row take it down");
    up.state.backends[0].tracker.renumber();
    up.probed("x", OutcomeCode::L4Con, 2);
    assert_eq!(counter(&up), "2 of 4 (rise 2, fall 3): 1 failure takes it down");

    let mut down = World::new(cell(Is::Down));
    assert_eq!(counter(&down), "0 of 4 (rise 2, fall 3): 2 passes in a row bring it up");
    down.state.backends[0].tracker.renumber();
    down.probed("x", OutcomeCode::L7Ok, 1);
    assert_eq!(counter(&down), "1 of 4 (rise 2, fall 3): 1 pass brings it up");

    assert_eq!(counter(&World::new(cell(Is::Unknown))), "nothing known: the next verdict decides");
    let mut served = World::new(Cell { vpp: Vpp::Held, ..cell(Is::Unknown) });
    served.probed("x", OutcomeCode::L4Con, 1);
    let word = "nothing known: a pass brings it up; 2 failures in a row take it down, as VPP may serve it";
    assert_eq!(counter(&served), word);
}

#[test]
fn why_vpp_is_away_is_told_until_it_is_back() {
    let mut world = World::new(Cell { is: Is::Up, weight: None, first: true, vpp: Vpp::Synced });
    world.tell(Input::VppDown);
    world.tell(Input::VppUnreachable("api.sock: Permission denied".into()));
    let away =
        |told: &[ExplanationLine]| has(told, Topic::Vpp, "(api.sock: Permission denied): what VPP has stays");
    assert!(away(&world.told()));
    let (version, build_date) = ("26.10".into(), String::new());
    world.tell(Input::VppUp(VppInfo { version, build_date, pid: 2, boot: None }));
    world.tell(Input::VppDown);
    assert!(!away(&world.told()), "an outage of its own, with a reason of its own");
}

#[test]
fn a_silent_prober_is_named() {
    let mut world = World::new(Cell { is: Is::Up, weight: None, first: true, vpp: Vpp::Synced });
    let check = world.state.backends[0].check;
    world.tell(Input::CheckRejected(check, "192.0.2.1 is no target".into()));
    let refused = "the prober will not probe it, and its state stays: 192.0.2.1 is no target";
    assert_eq!(lines(&world.told(), Topic::Prober), [refused]);
    world.tell(Input::ProberDown);
    let lost = "not connected for 2s: nothing is heard of it, and its state stays";
    assert_eq!(lines(&world.told(), Topic::Prober), [lost]);
    world.tell(Input::ProberUnreachable("prober.sock: Permission denied".into()));
    let lost =
        "not connected for 2s (prober.sock: Permission denied): nothing is heard of it, and its state stays";
    assert_eq!(lines(&world.told(), Topic::Prober), [lost]);
    world.tell(Input::ProberUp);
    let idle = "connected for 2s, but its checks are not in force yet";
    let stale = "the prober was lost or would not probe it, and has had no verdict on it since";
    assert_eq!(lines(&world.told(), Topic::Prober), [idle, stale]);
    assert!(!has(&world.told(), Topic::Probes, "every"), "nothing is probed");
}
