//! The core with a configuration and models of prober and VPP, and the commands of the transcripts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use maglev_core::config::{self, Config, ForeignVips, Frontend, Lb, Pool, Probe};
use maglev_core::dataplane::{ActualState, Encap, LbConf, VipKey, VppMemory};
use maglev_core::health::BackendAction;
use maglev_core::overrides::{Override, Overrides};
use maglev_core::ownership::OwnedVips;
use maglev_core::state::{ExplanationLine, Input, OperatorCommand, Output, Requester, State};
use maglev_core::time::{MonoTime, Now, WallTime};
use maglev_ipc::{ConnectMode, OutcomeCode, OutcomeDetail};

use super::format::{event_text, healthcheck, override_text, seconds};
use super::prober::{NO_ROUTE, ScriptedProber};
use super::vpp::{ScriptedVpp, default_conf, without_sticky};

pub struct ScenarioWorld {
    pub config: Config,
    pub state: Option<State>,
    pub now: MonoTime,
    /// Offset of the wall clock.
    pub ahead: Duration,
    pub vpp: ScriptedVpp,
    pub prober: ScriptedProber,
    pub lines: Vec<String>,
}

impl ScenarioWorld {
    pub fn new() -> Self {
        Self {
            config: Config {
                transition_history: 5,
                mass_failure_threshold: 100,
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
                    allow_no_frontends: false,
                },
                healthchecks: BTreeMap::from([("ping".into(), Arc::new(healthcheck()))]),
                backends: BTreeMap::new(),
                frontends: BTreeMap::new(),
                api: config::Api::default(),
            },
            state: None,
            now: MonoTime(0),
            ahead: Duration::ZERO,
            vpp: ScriptedVpp::default(),
            prober: ScriptedProber::default(),
            lines: Vec::new(),
        }
    }

    pub fn now(&self) -> Now {
        Now { mono: self.now, wall: WallTime(self.now.0) + self.ahead }
    }

    pub fn command(&mut self, command: &str) {
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
                Arc::make_mut(self.config.healthchecks.get_mut("ping").unwrap()).fall = fall.parse().unwrap();
            }
            ["set", "interval", interval] => {
                let ping = Arc::make_mut(self.config.healthchecks.get_mut("ping").unwrap());
                ping.interval = seconds(interval);
            }
            ["set", "port", port] => {
                let ping = Arc::make_mut(self.config.healthchecks.get_mut("ping").unwrap());
                ping.probe = match port.parse() {
                    Ok(port) => Probe::Tcp { port, mode: ConnectMode::Full, tls: None },
                    Err(_) => Probe::Icmp,
                };
            }
            ["set", "mass-failure-threshold", percent] => {
                self.config.mass_failure_threshold = percent.parse().unwrap();
            }
            ["set", "sync-interval", interval] => self.config.lb.sync_interval = seconds(interval),
            ["set", "startup-max-delay", delay] => self.config.lb.startup_max_delay = seconds(delay),
            ["set", "startup-min-delay", delay] => self.config.lb.startup_min_delay = seconds(delay),
            ["set", "foreign-vips", "keep"] => self.config.lb.foreign_vips = ForeignVips::Keep,
            ["set", "foreign-vips", "remove"] => self.config.lb.foreign_vips = ForeignVips::Remove,
            ["set", "allow-no-frontends"] => self.config.lb.allow_no_frontends = true,
            ["start"] => self.start(),
            ["start", "without", "ownership"] => {
                self.start_with(self.saved_overrides(), OwnedVips::default());
            }
            ["start", "without", "overrides"] => {
                self.state = None;
                self.start();
            }
            ["reload"] => match self.state.as_ref().unwrap().reload_objection(&self.config, self.now()) {
                Some(problem) => self.lines.push(format!("REFUSED {problem}")),
                None => self.feed(Input::Reload(Arc::new(self.config.clone()))),
            },
            ["prober", "up"] => self.prober_up(false),
            ["prober", "back"] => self.prober_up(true),
            ["prober", "resets", "sequence"] => self.prober.seq = 0,
            ["prober", "takes", latency] => self.prober.latency = seconds(latency),
            ["prober", "down"] => self.feed(Input::ProberDown),
            ["pass", ref names @ ..] => self.outcomes(names, OutcomeCode::L7Ok, OutcomeDetail::None),
            ["fail", ref names @ ..] => self.outcomes(names, OutcomeCode::L4Tout, OutcomeDetail::None),
            ["local", ref names @ ..] => self.outcomes(names, OutcomeCode::Local, "no buffer space".into()),
            ["unroutable", ref names @ ..] => self.outcomes(names, OutcomeCode::Local, NO_ROUTE.into()),
            ["wait", time] => self.wait(seconds(time)),
            ["vpp", "up"] => self.vpp_up(None),
            ["vpp", "up", "since", boot] => self.vpp_up(Some(WallTime(0) + seconds(boot))),
            ["vpp", "memory", "unknown"] => self.vpp.memory = None,
            ["vpp", "memory", total, free, workers] => {
                let [total, free] = [total, free].map(|mib| mib.parse::<u64>().unwrap() << 20);
                self.vpp.memory = Some(VppMemory { total, free, workers: workers.parse().unwrap() });
            }
            ["set", "buckets", buckets] => {
                self.config.lb.conf.sticky_buckets_per_core = buckets.parse().unwrap();
            }
            ["vpp", "down"] => self.vpp_down(),
            ["vpp", "restarts", "empty"] => {
                self.vpp.actual = ActualState { conf: Some(default_conf()), vips: BTreeMap::new() };
                self.vpp.pid += 1;
            }
            ["vpp", "reconnects", "early"] => self.vpp_reconnects_early(),
            ["vpp", "reports", "sticky"] => self.vpp.reports_sticky = true,
            ["vpp", "pauses"] => self.vpp.is_paused = true,
            ["vpp", "resumes"] => {
                self.vpp.is_paused = false;
                self.vpp_answers_all();
            }
            ["vpp", "loses", "answers"] => self.vpp_loses_answers(),
            ["vpp", "rejects", "conf"] => self.vpp.rejects_conf = true,
            ["vpp", "has", "conf", source] => {
                let conf = LbConf { ipv4_src: source.parse().unwrap(), ..self.config.lb.conf };
                self.vpp.actual.conf = Some(conf);
            }
            ["vpp", "accepts", "conf"] => self.vpp.rejects_conf = false,
            ["vpp", "rejects", times] => self.vpp.rejections = times.parse().unwrap(),
            ["vpp", "loses", "vip", address] => {
                let address: IpAddr = address.parse().unwrap();
                self.vpp.actual.vips.retain(|vip, _| vip.address != address);
            }
            ["vpp", "conflicts", ref frontends @ ..] => {
                let vips = frontends.iter().map(|name| self.config.frontends[*name].vip).collect();
                self.feed(Input::AddressConflicts(vips));
            }
            ["vpp", "edit", address, server, weight] => self.edit(address, server, weight),
            ["vpp", "nat", address] => {
                let address: IpAddr = address.parse().unwrap();
                let vip = self.vpp.actual.vips.iter_mut().find(|(vip, _)| vip.address == address);
                vip.unwrap().1.encap = Encap::Nat4;
            }
            ["prober", "commits", set] => self.feed(Input::Committed(set.parse().unwrap())),
            ["prober", "rejects", name, ref why @ ..] => self.reject(name, &why.join(" ")),
            ["operator", "weight", frontend, pool, backend, weight, ref note @ ..] => {
                let [frontend, pool, backend] = [frontend, pool, backend].map(Into::into);
                self.operate(
                    OperatorCommand::Weight { frontend, pool, backend, weight: weight.parse().ok() },
                    note,
                );
            }
            ["operator", action, name, ref note @ ..] => {
                let action = [
                    BackendAction::Pause,
                    BackendAction::Resume,
                    BackendAction::Disable,
                    BackendAction::Enable,
                ]
                .into_iter()
                .find(|a| a.as_str() == action)
                .unwrap();
                self.operate(OperatorCommand::Backend { name: name.into(), action }, note);
            }
            ["overrides"] => self.list_overrides(),
            ["clock", "ahead", time] => self.ahead += seconds(time),
            ["resync"] => self.feed(Input::Resync),
            ["preview"] => self.preview(None),
            ["preview", "reload"] => self.preview(Some(Arc::new(self.config.clone()))),
            ["show"] => self.show(),
            ["explain", "backend", name] => self.explain(|state, now| state.explain_backend(name, now)),
            ["explain", "frontend", name] => self.explain(|state, now| state.explain_frontend(name, now)),
            _ => panic!("unknown command: {command}"),
        }
    }

    pub fn backend(&mut self, name: &str, address: &str, healthcheck: Option<&str>) {
        let backend = config::Backend {
            address: address.parse().unwrap(),
            healthcheck: healthcheck.map(Into::into),
            enabled: true,
        };
        self.config.backends.insert(name.into(), backend);
    }

    /// `frontend NAME ADDRESS[:PORT] [flush] [sticky] POOL BACKEND=WEIGHT... [| POOL BACKEND=WEIGHT...]`
    pub fn frontend(&mut self, name: &str, vip: &str, rest: &[&str]) {
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
            weight_step: None,
            pools,
        };
        self.config.frontends.insert(name.into(), Arc::new(frontend));
    }

    /// Starts `maglevd` with the overrides and the VIPs of the last run. VPP and the prober keep their state.
    pub fn start(&mut self) {
        let owned = self.state.as_ref().map(State::owned_vips).unwrap_or_default();
        self.start_with(self.saved_overrides(), OwnedVips::restored(owned.vpp, owned.vips()));
    }

    fn saved_overrides(&self) -> Arc<Overrides> {
        self.state.as_ref().map(|state| Arc::clone(state.overrides())).unwrap_or_default()
    }

    pub fn start_with(&mut self, kept: Arc<Overrides>, owned: OwnedVips) {
        let mut out = Vec::new();
        let mut state = State::new(Arc::new(self.config.clone()), kept, true, self.now(), &mut out);
        state.restore_ownership(owned);
        self.state = Some(state);
        self.take(out);
    }

    pub fn feed(&mut self, input: Input) {
        let mut out = Vec::new();
        let now = self.now();
        self.state.as_mut().unwrap().handle(input, now, &mut out);
        self.take(out);
    }

    pub fn take(&mut self, out: Vec<Output>) {
        for output in out {
            match output {
                Output::SetChecks(set) => self.install(set),
                Output::SetInterval(check, interval) => {
                    let target = self.target(check);
                    self.lines.push(format!("interval {target} {interval:?}"));
                }
                Output::Event(event) => self.lines.push(event_text(&event.kind)),
                other => self.vpp.asked.push(other),
            }
        }
        self.vpp_answers_all();
    }

    pub fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.state.as_ref().unwrap().wake_at().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.feed(Input::Tick);
        }
        self.now = end;
    }

    /// `note` is `[because REASON] [for TIME]`.
    pub fn operate(&mut self, command: OperatorCommand, note: &[&str]) {
        let mut by = Requester { who: "alice".into(), ..Requester::default() };
        for pair in note.chunks(2) {
            match pair {
                ["because", reason] => by.reason = (*reason).into(),
                ["for", time] => by.lifetime = Some(seconds(time)),
                _ => panic!("unknown note: {pair:?}"),
            }
        }
        let mut out = Vec::new();
        let now = self.now();
        if let Err(error) = self.state.as_mut().unwrap().operate(&command, &by, now, &mut out) {
            self.lines.push(format!("{error:?}"));
        }
        self.take(out);
    }

    fn list_overrides(&mut self) {
        let view = self.state.as_ref().unwrap().view(self.now());
        let line = |o: Override| override_text(&o, o.is_dangling(&view.config));
        self.lines.extend(view.overrides.list().map(line));
    }

    pub fn preview(&mut self, config: Option<Arc<Config>>) {
        let preview =
            self.state.as_ref().unwrap().preview(without_sticky(self.vpp.actual.clone()), config, self.now());
        if let Some(conf) = preview.conf {
            self.lines.push(format!("conf {} {}", conf.ipv4_src, conf.sticky_buckets_per_core));
        }
        for planned in preview.vips {
            let frontend = planned.frontend.map_or("foreign".into(), |name| name.to_string());
            let moved = planned
                .new_flows_moved
                .map_or(String::new(), |part| format!(", {:.1}% of new flows move", part * 100.0));
            let resets = if planned.recreates_vip { ", RECREATE" } else { "" };
            self.lines.push(format!("{} ({frontend}{moved}{resets})", planned.vip));
            self.lines.extend(planned.steps.iter().map(|step| format!("  {step}")));
        }
        self.lines.extend(preview.notes.iter().map(|note| format!("note: {note}")));
    }

    pub fn explain(&mut self, ask: impl Fn(&State, Now) -> Option<Vec<ExplanationLine>>) {
        let reasons = ask(self.state.as_ref().unwrap(), self.now()).expect("the object does not exist");
        self.lines.extend(reasons.iter().map(|reason| format!("{}: {}", reason.topic.as_str(), reason.text)));
    }

    pub fn show(&mut self) {
        let view = self.state.as_ref().unwrap().view(self.now());
        for frontend in &view.frontends {
            let held = if frontend.startup_done { "" } else { " (startup hold)" };
            self.lines.push(format!("{} {}{held}", frontend.name, frontend.state));
            self.lines.extend(frontend.warnings.iter().map(|warning| format!("  warning: {warning}")));
            for pool in &frontend.pools {
                for b in &pool.backends {
                    let in_vpp = b.in_vpp.map_or("-".into(), |w| w.to_string());
                    let (name, health) = (&b.name, b.health);
                    let (weight, effective) = (b.weight, b.effective);
                    self.lines.push(format!(
                        "  {} {name} {health} weight {weight} effective {effective} in vpp {in_vpp}",
                        pool.name
                    ));
                }
            }
        }
        for backend in view.backends.iter().filter(|b| b.stale) {
            self.lines.push(format!("{} is stale", backend.name));
        }
    }
}
