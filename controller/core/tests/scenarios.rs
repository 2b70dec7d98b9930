//! Scenarios as plain text: what the core is told, and what it does about it.
//!
//! A line that starts with `> ` is a command; the lines below it are what follows. `MAGLEV_REWRITE=1 cargo test` writes
//! the files anew, and the difference is the review. VPP is a model that does what it is asked, unless told to fail.

#![cfg(test)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs};

use maglev_core::config::{self, Config, ForeignVips, Frontend, Healthcheck, Lb, Pool, Probe};
use maglev_core::dataplane::{Actual, ActualAs, Encap, LbConf, Run, VipKey};
use maglev_core::event::Kind;
use maglev_core::health::Action;
use maglev_core::plan;
use maglev_core::state::{CheckSet, Command, Input, Listed, Output, State};
use maglev_core::time::{Mono, Now, Wall};
use maglev_core::view::VppInfo;
use maglev_ipc::{CheckId, Code, Detail, Outcome, Streak};

#[test]
fn transcripts() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 10, "the scenarios are there");
    let mut wrong = Vec::new();
    for file in files {
        let transcript = fs::read_to_string(&file).unwrap();
        let replayed = replay(&transcript);
        if replayed == transcript {
            continue;
        }
        if env::var_os("MAGLEV_REWRITE").is_some() {
            fs::write(&file, &replayed).unwrap();
            continue;
        }
        wrong.push(format!("{}:\n{}", file.display(), first_difference(&transcript, &replayed)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn first_difference(expected: &str, got: &str) -> String {
    let at = expected.lines().zip(got.lines()).position(|(a, b)| a != b);
    let at = at.unwrap_or_else(|| expected.lines().count().min(got.lines().count()));
    let show = |text: &str| text.lines().nth(at).unwrap_or("<end>").to_owned();
    format!("line {}\n  expected: {}\n  got:      {}", at + 1, show(expected), show(got))
}

/// Runs the commands of a transcript, and writes it anew.
fn replay(transcript: &str) -> String {
    let mut world = World::new();
    let mut text = String::new();
    for line in transcript.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            writeln!(text, "{line}").unwrap();
            world.command(command);
            for line in world.said.drain(..) {
                writeln!(text, "  {line}").unwrap();
            }
        } else if !line.starts_with("  ") {
            writeln!(text, "{line}").unwrap();
        }
    }
    text
}

struct World {
    config: Config,
    state: Option<State>,
    now: Mono,
    vpp: Vpp,
    prober: Prober,
    said: Vec<String>,
}

/// A VPP that does what it is asked.
#[derive(Default)]
struct Vpp {
    pid: u32,
    up: bool,
    actual: Actual,
    waiting: bool,
    asked: Vec<Output>,
    refusals: usize,
    refuses_conf: bool,
}

/// What a prober remembers.
#[derive(Default)]
struct Prober {
    set: CheckSet,
    seq: u64,
    verdicts: BTreeMap<IpAddr, (u64, u8)>,
}

impl World {
    fn new() -> Self {
        Self {
            config: Config {
                transition_history: 5,
                netns: None,
                lb: Lb {
                    sync_interval: Duration::from_secs(30),
                    conf: LbConf {
                        ipv4_src: "192.0.2.254".parse().unwrap(),
                        ipv6_src: "2001:db8::254".parse().unwrap(),
                        sticky_buckets_per_core: 65536,
                        flow_timeout: 40,
                    },
                    startup_min_delay: Duration::ZERO,
                    startup_max_delay: Duration::from_secs(30),
                    foreign_vips: ForeignVips::Remove,
                },
                healthchecks: BTreeMap::from([("ping".into(), Arc::new(healthcheck()))]),
                backends: BTreeMap::new(),
                frontends: BTreeMap::new(),
            },
            state: None,
            now: Mono(0),
            vpp: Vpp::default(),
            prober: Prober::default(),
            said: Vec::new(),
        }
    }

    fn now(&self) -> Now {
        Now { mono: self.now, wall: Wall(self.now.0) }
    }

    fn command(&mut self, command: &str) {
        let words: Vec<_> = command.split_whitespace().collect();
        match words[..] {
            ["backend", name, address] => self.backend(name, address, Some("ping")),
            ["backend", name, address, "static"] => self.backend(name, address, None),
            ["backend", name, address, "disabled"] => {
                self.backend(name, address, Some("ping"));
                self.config.backends.get_mut(name).unwrap().enabled = false;
            }
            ["frontend", name, vip, ref pools @ ..] => self.frontend(name, vip, pools),
            ["no", "frontend", name] => _ = self.config.frontends.remove(name),
            ["no", "backend", name] => _ = self.config.backends.remove(name),
            ["set", "fall", fall] => {
                let fall = fall.parse().unwrap();
                let changed = Healthcheck { fall, ..healthcheck() };
                self.config.healthchecks.insert("ping".into(), Arc::new(changed));
            }
            ["set", "startup-min-delay", delay] => self.config.lb.startup_min_delay = seconds(delay),
            ["set", "foreign-vips", "keep"] => self.config.lb.foreign_vips = ForeignVips::Keep,
            ["set", "foreign-vips", "remove"] => self.config.lb.foreign_vips = ForeignVips::Remove,
            ["start"] => self.start(),
            ["reload"] => self.tell(Input::Reload(Arc::new(self.config.clone()))),
            ["prober", "up"] => self.prober_up(false),
            ["prober", "back"] => self.prober_up(true),
            ["prober", "down"] => self.tell(Input::ProberDown),
            ["pass", ref names @ ..] => self.outcomes(names, Code::L7Ok, Detail::None),
            ["fail", ref names @ ..] => self.outcomes(names, Code::L4Tout, Detail::None),
            ["local", ref names @ ..] => self.outcomes(names, Code::Local, "no buffer space".into()),
            ["wait", time] => self.wait(seconds(time)),
            ["vpp", "up"] => self.vpp_up(),
            ["vpp", "down"] => self.vpp_down(),
            ["vpp", "restarts", "empty"] => {
                self.vpp.actual = Actual { conf: Some(default_conf()), vips: BTreeMap::new() };
                self.vpp.pid += 1;
            }
            ["vpp", "waits"] => self.vpp.waiting = true,
            ["vpp", "goes", "on"] => {
                self.vpp.waiting = false;
                self.vpp_works();
            }
            ["vpp", "works", "unheard"] => self.vpp_works_unheard(),
            ["vpp", "refuses", "conf"] => self.vpp.refuses_conf = true,
            ["vpp", "takes", "conf"] => self.vpp.refuses_conf = false,
            ["vpp", "refuses", times] => self.vpp.refusals = times.parse().unwrap(),
            ["vpp", "loses", "vip", address] => {
                let address: IpAddr = address.parse().unwrap();
                self.vpp.actual.vips.retain(|vip, _| vip.address != address);
            }
            ["vpp", "has", ref frontends @ ..] => {
                let vips = frontends.iter().map(|name| self.config.frontends[*name].vip).collect();
                self.tell(Input::Shadowed(vips));
            }
            ["vpp", "edit", address, server, weight] => self.edit(address, server, weight),
            ["vpp", "nat", address] => {
                let address: IpAddr = address.parse().unwrap();
                let vip = self.vpp.actual.vips.iter_mut().find(|(vip, _)| vip.address == address);
                vip.unwrap().1.encap = Encap::Nat4;
            }
            ["prober", "refuses", name, ref why @ ..] => self.refuse(name, &why.join(" ")),
            ["operator", action, name] => self.operate(action, name),
            ["resync"] => self.tell(Input::Resync),
            ["preview"] => self.preview(None),
            ["preview", "reload"] => self.preview(Some(Arc::new(self.config.clone()))),
            ["show"] => self.show(),
            _ => panic!("unknown command: {command}"),
        }
    }

    fn backend(&mut self, name: &str, address: &str, healthcheck: Option<&str>) {
        let backend = config::Backend {
            address: address.parse().unwrap(),
            healthcheck: healthcheck.map(Into::into),
            enabled: true,
        };
        self.config.backends.insert(name.into(), backend);
    }

    /// `frontend NAME ADDRESS[:PORT] [flush] [sticky] POOL BACKEND=WEIGHT... [| POOL BACKEND=WEIGHT...]`
    fn frontend(&mut self, name: &str, vip: &str, rest: &[&str]) {
        let (address, port) = vip.split_once(':').map_or((vip, 0), |(a, p)| (a, p.parse().unwrap()));
        let protocol = if port == 0 { 255 } else { 6 };
        let has = |flag| rest.contains(&flag);
        let words: Vec<_> = rest.iter().copied().filter(|w| !["flush", "sticky"].contains(w)).collect();
        let pool = |words: &[&str]| Pool {
            name: words[0].into(),
            backends: words[1..]
                .iter()
                .map(|word| {
                    let (name, weight) = word.split_once('=').unwrap();
                    (name.into(), weight.parse().unwrap())
                })
                .collect(),
        };
        let pools: Vec<_> = words.split(|word| *word == "|").map(pool).collect();
        let frontend = Frontend {
            description: String::new(),
            vip: VipKey::host(address.parse().unwrap(), protocol, port),
            encap: Encap::Gre4,
            src_ip_sticky: has("sticky"),
            flush_on_down: has("flush"),
            table_length: None,
            pools,
        };
        self.config.frontends.insert(name.into(), frontend);
    }

    /// Starts `maglevd`; VPP and the prober stay as they are.
    fn start(&mut self) {
        let mut out = Vec::new();
        self.state = Some(State::new(Arc::new(self.config.clone()), true, self.now(), &mut out));
        self.take(out);
    }

    fn tell(&mut self, input: Input) {
        let mut out = Vec::new();
        let now = self.now();
        self.state.as_mut().unwrap().handle(input, now, &mut out);
        self.take(out);
    }

    fn take(&mut self, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Checks(set) => self.install(set),
                Output::Pace(check, pace) => {
                    let target = self.target(check);
                    self.said.push(format!("pace {target} {pace:?}"));
                }
                Output::Event(event) => self.said.push(event_text(&event.kind)),
                Output::Count { .. } => {}
                other => self.vpp.asked.push(other),
            }
        }
        self.vpp_works();
    }

    fn target(&self, check: CheckId) -> IpAddr {
        self.prober.set.checks.iter().find(|(id, ..)| *id == check).unwrap().2.target
    }

    fn install(&mut self, set: CheckSet) {
        let checks: Vec<_> =
            set.checks.iter().map(|(id, pace, check)| format!("#{id} {} {pace:?}", check.target)).collect();
        self.said.push(format!("checks {}", checks.join(", ")));
        self.prober.set = set;
    }

    fn prober_up(&mut self, remembers: bool) {
        self.tell(Input::ProberUp);
        if remembers {
            let streaks: Vec<_> = self
                .prober
                .set
                .checks
                .iter()
                .filter_map(|(id, _, check)| self.streak(*id, check.target))
                .collect();
            self.tell(Input::Streaks(streaks));
        } else {
            self.prober.verdicts.clear();
        }
        self.tell(Input::Committed(self.prober.set.generation));
    }

    fn streak(&self, check: CheckId, target: IpAddr) -> Option<Streak> {
        let (passes, known) = *self.prober.verdicts.get(&target)?;
        let code = if passes & 1 == 1 { Code::L7Ok } else { Code::L4Tout };
        let last = Outcome {
            check,
            seq: self.prober.seq,
            started: 0,
            duration: Duration::ZERO,
            code,
            detail: Detail::None,
        };
        Some(Streak { last, passes, known })
    }

    fn outcomes(&mut self, names: &[&str], code: Code, detail: Detail) {
        for name in names {
            let address = self.config.backends[*name].address;
            let check = self.prober.set.checks.iter().find(|(_, _, check)| check.target == address);
            let Some(&(check, ..)) = check else {
                self.said.push(format!("{name} is not probed"));
                continue;
            };
            self.prober.seq += 1;
            if let Some(passed) = code.passed() {
                let (passes, known) = self.prober.verdicts.entry(address).or_default();
                *passes = *passes << 1 | u64::from(passed);
                *known = (*known + 1).min(64);
            }
            let (seq, detail) = (self.prober.seq, detail.clone());
            self.tell(Input::Outcome(Outcome {
                check,
                seq,
                started: 0,
                duration: Duration::ZERO,
                code,
                detail,
            }));
        }
    }

    fn refuse(&mut self, name: &str, why: &str) {
        let address = self.config.backends[name].address;
        let check = self.prober.set.checks.iter().find(|(_, _, check)| check.target == address).unwrap().0;
        self.tell(Input::Refused(check, why.to_owned()));
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.state.as_ref().unwrap().wake_at().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.tell(Input::Tick);
        }
        self.now = end;
    }

    fn vpp_up(&mut self) {
        self.vpp.up = true;
        if self.vpp.actual.conf.is_none() {
            self.vpp.actual.conf = Some(default_conf());
        }
        let (version, build_date) = ("26.10".into(), String::new());
        self.tell(Input::VppUp(VppInfo { version, build_date, pid: self.vpp.pid, boot: None }));
    }

    fn vpp_down(&mut self) {
        self.vpp.up = false;
        self.vpp.asked.clear();
        self.tell(Input::VppDown);
    }

    /// Answers everything that is asked of VPP.
    fn vpp_works(&mut self) {
        if self.vpp.waiting || !self.vpp.up {
            return;
        }
        while !self.vpp.asked.is_empty() {
            let asked = self.vpp.asked.remove(0);
            let answer = self.vpp_answers(asked);
            self.tell(answer);
        }
    }

    /// Does everything that is asked of VPP, and loses the answers.
    fn vpp_works_unheard(&mut self) {
        for asked in std::mem::take(&mut self.vpp.asked) {
            self.vpp_answers(asked);
        }
    }

    fn vpp_answers(&mut self, asked: Output) -> Input {
        match asked {
            Output::ReadAll => {
                self.said.push("vpp: read all".into());
                Input::AllRead(untold(self.vpp.actual.clone()))
            }
            Output::List => {
                self.said.push("vpp: list".into());
                let listed = |(vip, found): (&VipKey, &maglev_core::dataplane::ActualVip)| {
                    (*vip, Listed { encap: found.encap, table_length: found.table_length })
                };
                Input::Listed(self.vpp.actual.conf, self.vpp.actual.vips.iter().map(listed).collect())
            }
            Output::ReadServers(vip) => {
                self.said.push(format!("vpp: read servers of {vip}"));
                let servers = self.vpp.actual.vips.get(&vip).map(|found| found.servers.clone());
                Input::ServersRead(vip, servers.unwrap_or_default())
            }
            Output::ReadVip(vip) => {
                self.said.push(format!("vpp: read {vip}"));
                Input::VipRead(vip, untold(self.vpp.actual.clone()).vips.remove(&vip))
            }
            Output::SetConf(_) if self.vpp.refuses_conf => {
                self.said.push("vpp: REFUSES conf".into());
                Input::ConfSet(Some("INVALID_MEMORY_SIZE".into()))
            }
            Output::SetConf(conf) => {
                self.said.push(format!("vpp: conf {} {}", conf.ipv4_src, conf.sticky_buckets_per_core));
                self.vpp.actual.conf = Some(conf);
                Input::ConfSet(None)
            }
            Output::Run(run) => self.vpp_runs(&run),
            other => panic!("not asked of VPP: {other:?}"),
        }
    }

    fn vpp_runs(&mut self, run: &Run) -> Input {
        let vip = run.vip;
        let mut found = self.vpp.actual.vips.remove(&vip);
        let mut done = 0;
        for step in &run.steps {
            if self.vpp.refusals > 0 {
                self.vpp.refusals -= 1;
                self.said.push(format!("vpp: {vip}: REFUSES {step}"));
                break;
            }
            self.said.push(format!("vpp: {vip}: {step}"));
            plan::apply(step, &mut found);
            done += 1;
        }
        if let Some(found) = found {
            self.vpp.actual.vips.insert(vip, found);
        }
        let error = (done < run.steps.len()).then(|| "INVALID_VALUE".to_owned());
        Input::Ran { vip, done, error }
    }

    fn edit(&mut self, address: &str, server: &str, weight: &str) {
        let address: IpAddr = address.parse().unwrap();
        let vip = self.vpp.actual.vips.keys().find(|vip| vip.address == address).copied();
        let vip = vip.unwrap_or(VipKey::host(address, 255, 0));
        let found = self.vpp.actual.vips.entry(vip).or_insert_with(|| maglev_core::dataplane::ActualVip {
            encap: Encap::Gre4,
            table_length: Some(1024),
            src_ip_sticky: None,
            servers: BTreeMap::new(),
        });
        found
            .servers
            .insert(server.parse().unwrap(), ActualAs { weight: weight.parse().unwrap(), buckets: 0 });
    }

    fn operate(&mut self, action: &str, name: &str) {
        let action = [Action::Pause, Action::Resume, Action::Disable, Action::Enable]
            .into_iter()
            .find(|a| a.as_str() == action)
            .unwrap();
        let mut out = Vec::new();
        let now = self.now();
        let command = Command::Backend { name: name.into(), action };
        if let Err(error) = self.state.as_mut().unwrap().operate(&command, now, &mut out) {
            self.said.push(format!("{error:?}"));
        }
        self.take(out);
    }

    fn preview(&mut self, config: Option<Arc<Config>>) {
        let preview =
            self.state.as_ref().unwrap().preview(untold(self.vpp.actual.clone()), config, self.now());
        if let Some(conf) = preview.conf {
            self.said.push(format!("conf {} {}", conf.ipv4_src, conf.sticky_buckets_per_core));
        }
        for planned in preview.vips {
            let frontend = planned.frontend.map_or("nobody's".into(), |name| name.to_string());
            let moved = planned
                .moved
                .map_or(String::new(), |part| format!(", {:.1}% of new flows move", part * 100.0));
            let resets = if planned.resets { ", RESET" } else { "" };
            self.said.push(format!("{} ({frontend}{moved}{resets})", planned.vip));
            self.said.extend(planned.steps.iter().map(|step| format!("  {step}")));
        }
    }

    fn show(&mut self) {
        let view = self.state.as_ref().unwrap().view(self.now());
        for frontend in &view.frontends {
            let held = if frontend.released { "" } else { " (warming up)" };
            self.said.push(format!("{} {}{held}", frontend.name, frontend.state));
            self.said.extend(frontend.warnings.iter().map(|warning| format!("  warning: {warning}")));
            for pool in &frontend.pools {
                for b in &pool.backends {
                    let in_vpp = b.in_vpp.map_or("-".into(), |w| w.to_string());
                    let (name, health) = (&b.name, b.health);
                    let (weight, effective) = (b.weight, b.effective);
                    self.said.push(format!(
                        "  {} {name} {health} weight {weight} effective {effective} in vpp {in_vpp}",
                        pool.name
                    ));
                }
            }
        }
        for backend in view.backends.iter().filter(|b| b.stale) {
            self.said.push(format!("{} is stale", backend.name));
        }
    }
}

fn healthcheck() -> Healthcheck {
    Healthcheck {
        probe: Probe::Icmp,
        interval: Duration::from_secs(2),
        fast_interval: Duration::from_millis(500),
        down_interval: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
        rise: 2,
        fall: 3,
        source4: None,
        source6: None,
    }
}

fn default_conf() -> LbConf {
    LbConf {
        ipv4_src: "255.255.255.255".parse().unwrap(),
        ipv6_src: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap(),
        sticky_buckets_per_core: 1024,
        flow_timeout: 40,
    }
}

/// What VPP tells of what it has.
fn untold(mut actual: Actual) -> Actual {
    actual.vips.values_mut().for_each(|vip| vip.src_ip_sticky = None);
    actual
}

fn seconds(text: &str) -> Duration {
    Duration::from_secs_f64(text.strip_suffix('s').unwrap().parse().unwrap())
}

fn event_text(kind: &Kind) -> String {
    let there = |connected: bool| if connected { "connected" } else { "lost" };
    match kind {
        Kind::Backend { name, transition, .. } => {
            format!("backend {name} {} -> {} ({})", transition.from, transition.to, transition.cause)
        }
        Kind::Frontend { name, from, to, active_pool } => {
            let pool = active_pool.as_ref().map_or("none", |pool| pool);
            format!("frontend {name} {from} -> {to}, pool {pool}")
        }
        Kind::Prober { connected } => format!("prober {}", there(*connected)),
        Kind::Refused { name, why } => format!("prober refuses {name}: {why}"),
        Kind::Vpp { connected } => format!("vpp {}", there(*connected)),
        Kind::Shadowed { vip, shadowed: true } => format!("shadowed {vip}"),
        Kind::Shadowed { vip, shadowed: false } => format!("no longer shadowed {vip}"),
        Kind::Drift { vip } => format!("drift {vip}"),
        Kind::ConfSent { error: None } => "conf sent".into(),
        Kind::ConfSent { error: Some(error) } => format!("conf refused: {error}"),
        Kind::Synced { vip, counts } => format!(
            "synced {vip} vip +{} -{} as +{} -{} ~{}",
            counts.vip_added,
            counts.vip_removed,
            counts.as_added,
            counts.as_removed,
            counts.as_weight_updated
        ),
        Kind::StepFailed { vip, step, error } => format!("failed {vip}: {step}: {error}"),
        Kind::Reloaded => "reloaded".into(),
    }
}
