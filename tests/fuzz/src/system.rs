//! A `maglevd` without its edges: the state, a prober's half of the protocol, and an obedient VPP.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use maglev_core::config::Config;
use maglev_core::dataplane::{self, ActualState, Step, VipKey, VipPlan};
use maglev_core::health::TransitionCause;
use maglev_core::overrides::Overrides;
use maglev_core::plan;
use maglev_core::state::{CheckSet, Input, ListedVip, Output, State};
use maglev_core::time::{MonoTime, Now, WallTime};
use maglev_core::view::VppInfo;
use maglev_ipc::bundle::certificates;
use maglev_ipc::outcome::MAX_DETAIL;
use maglev_ipc::regexp::RegexpSet;
use maglev_ipc::{OutcomeDetail, ToProber, VERSION};
use maglev_ipc_link::{batch_checks, codec};
use maglev_vpp::message::{
    LbAddDelAsV2, LbAddDelVipV2, LbAsSetWeight, LbConf, LbEncapType, Prefix, RequestMessage, Vip,
};
use maglevd_prober::probe::tls::TlsConfigs;
use maglevd_prober::protocol::{self, ControllerProtocol};
use maglevd_prober::set::ProbeLimits;
use maglevd_prober::targets::Targets;

use crate::configuration::PEM;

/// The prober's default limits.
pub const LIMITS: ProbeLimits =
    ProbeLimits { targets: Targets::ANY, max_checks: 100_000, max_rate: 100_000, max_rate_per_address: 200 };

/// Exceeds every chain of consequences of one input.
const MOST_OUTPUTS: usize = 200_000;

/// The state of `maglevd`, with its peers.
pub struct TestSystem {
    pub state: State,
    pub now: Now,
    actual: ActualState,
    /// The newest set of checks, as the prober has it.
    pub checks: Option<CheckSet>,
}

impl TestSystem {
    /// Returns a `maglevd` that was just started with `config`, a prober and a VPP.
    pub fn new(config: Arc<Config>, overrides: Arc<Overrides>) -> Self {
        let now = Now { mono: MonoTime(1_000_000_000), wall: WallTime(1_795_348_800_000_000_000) };
        let mut out = Vec::new();
        let state = State::new(config, overrides, true, now, &mut out);
        let mut system = Self { state, now, actual: ActualState::default(), checks: None };
        system.follow(out);
        let info = VppInfo { version: "26.10".into(), build_date: String::new(), pid: 1, boot: None };
        system.take(Input::VppUp(info));
        system
    }

    /// Passes an input, and executes its outputs.
    pub fn take(&mut self, input: Input) {
        let mut out = Vec::new();
        self.state.handle(input, self.now, &mut out);
        self.follow(out);
    }

    /// Advances the time.
    pub fn wait(&mut self, time: Duration) {
        self.now = Now { mono: self.now.mono + time, wall: self.now.wall + time };
        if self.state.wake_at().is_some_and(|at| at <= self.now.mono) {
            self.take(Input::Tick);
        }
    }

    /// Renders all views.
    pub fn look(&self) {
        let view = self.state.view(self.now);
        for backend in &view.backends {
            if let Some(last) = &backend.last {
                tame(&last.detail);
            }
            for transition in &backend.transitions {
                if let TransitionCause::Outcome { detail, .. } = &transition.cause {
                    tame(detail);
                }
            }
            let reasons = self.state.explain_backend(&backend.name, self.now).expect("it is there");
            reasons.iter().for_each(|reason| shown(&reason.text, 4096));
        }
        for frontend in &view.frontends {
            let reasons = self.state.explain_frontend(&frontend.name, self.now).expect("it is there");
            reasons.iter().for_each(|reason| shown(&reason.text, 4096));
        }
        view.prober.rejected_checks.iter().for_each(|(_, why)| shown(why, MAX_DETAIL));
        let _ = self.state.preview(self.actual.clone(), None, self.now);
    }

    fn follow(&mut self, out: Vec<Output>) {
        let mut waiting = std::collections::VecDeque::from(out);
        for _ in 0..MOST_OUTPUTS {
            let Some(output) = waiting.pop_front() else { return };
            let Some(input) = self.answer(output) else { continue };
            let mut out = Vec::new();
            self.state.handle(input, self.now, &mut out);
            waiting.extend(out);
        }
        panic!("it never comes to an end");
    }

    fn answer(&mut self, output: Output) -> Option<Input> {
        Some(match output {
            Output::ReadAll => Input::AllRead(self.actual.clone()),
            Output::ListVips => {
                let listed = |(key, vip): (&VipKey, &dataplane::ActualVip)| {
                    (*key, ListedVip { encap: vip.encap, table_length: vip.table_length })
                };
                Input::VipsListed(self.actual.conf, self.actual.vips.iter().map(listed).collect())
            }
            Output::ReadServers(vip) => {
                let found = self.actual.vips.get(&vip);
                Input::ServersRead(vip, found.map(|found| found.servers.clone()).unwrap_or_default())
            }
            Output::ReadVip(vip) => Input::VipRead(vip, self.actual.vips.get(&vip).cloned()),
            Output::SetConf(conf) => {
                let dataplane::LbConf { ipv4_src, ipv6_src, sticky_buckets_per_core, flow_timeout } = conf;
                assert_harmless(&LbConf {
                    ip4_src: ipv4_src,
                    ip6_src: ipv6_src,
                    sticky_buckets: sticky_buckets_per_core,
                    flow_timeout,
                });
                assert!(sticky_buckets_per_core.is_power_of_two());
                self.actual.conf = Some(conf);
                Input::ConfSet(None)
            }
            Output::Apply(run) => self.run(&run),
            Output::SetChecks(set) => {
                self.amend(set);
                return None;
            }
            Output::Event(event) => {
                // As the log renders it.
                let _ = format!("{:?}", event.kind);
                return None;
            }
            Output::SetInterval(_, interval) => {
                assert!(maglevd_prober::set::is_allowed_interval(interval), "{interval:?}");
                return None;
            }
        })
    }

    /// Maintains the prober's whole set.
    fn amend(&mut self, mut set: CheckSet) {
        if let Some(dropped) = set.dropped.take() {
            let before = self.checks.take().expect("an amendment is to a set");
            let kept = before.checks.into_iter().filter(|(id, ..)| !dropped.contains(id));
            set.checks = kept.chain(set.checks).collect();
            set.bundles = before.bundles;
        }
        self.checks = Some(set);
    }

    /// Executes a plan as VPP would.
    fn run(&mut self, run: &VipPlan) -> Input {
        assert!(!run.steps.is_empty());
        for step in &run.steps {
            self.check(run.vip, step);
            let mut vip = self.actual.vips.remove(&run.vip);
            plan::apply(step, &mut vip);
            if let Some(vip) = vip {
                self.actual.vips.insert(run.vip, vip);
            }
        }
        Input::StepsApplied { vip: run.vip, done: run.steps.len(), error: None }
    }

    /// Asserts that VPP accepts the step, and survives it.
    fn check(&self, key: VipKey, step: &Step) {
        let found = self.actual.vips.get(&key);
        let prefix = Prefix { address: key.address, len: key.prefix_len };
        let vip = Vip { prefix, protocol: key.protocol, port: key.port };
        match *step {
            Step::CreateVip { encap, src_ip_sticky, table_length } => {
                assert!(found.is_none(), "{key} is there");
                assert!(table_length.is_power_of_two());
                for (other, there) in &self.actual.vips {
                    assert!(
                        !plan::blocks_creation((other, there.encap), (&key, encap)),
                        "{other} forbids {key}"
                    );
                }
                let encap = match encap {
                    dataplane::Encap::Gre4 => LbEncapType::Gre4,
                    dataplane::Encap::Gre6 => LbEncapType::Gre6,
                    other => panic!("{other} is never ours"),
                };
                assert_harmless(&LbAddDelVipV2::add(vip, encap, table_length, src_ip_sticky));
            }
            Step::AddAs { server, weight } => {
                let there = found.expect("the VIP is there");
                assert!(!there.servers.contains_key(&server) && weight <= 100);
                assert_eq!(server.is_ipv4(), there.encap == dataplane::Encap::Gre4);
                assert_harmless(&LbAddDelAsV2::add(vip, server, weight));
            }
            Step::SetWeight { server, to, flush, .. } => {
                assert!(found.is_some_and(|found| found.servers.contains_key(&server)) && to <= 100);
                assert_harmless(&LbAsSetWeight { vip, address: server, weight: to, is_flush: flush });
            }
            Step::RemoveAs { server } => assert_harmless(&LbAddDelAsV2::delete(vip, server, true)),
            Step::RemoveVip => assert_harmless(&LbAddDelVipV2::delete(vip)),
        }
    }
}

fn assert_harmless<R: RequestMessage>(request: &R) {
    assert_eq!(request.hazard(), None);
}

/// Asserts that a detail is safe for terminals.
pub fn tame(detail: &OutcomeDetail) {
    if let OutcomeDetail::Text(text) = detail {
        shown(text, MAX_DETAIL);
    }
}

/// Returns true if a text is safe for logs and terminals.
pub fn shown(text: &str, most: usize) {
    assert!(text.len() <= most && !text.contains(maglev_ipc::text::is_unprintable), "{text:?}");
}

/// Validates a set of checks as a prober does.
pub fn received(set: &CheckSet) -> maglevd_prober::set::ReceivedSet {
    // A host with root certificates.
    let mut configs = TlsConfigs::new(certificates(PEM).expect("a certificate"));
    let mut protocol = ControllerProtocol::new(LIMITS);
    let mut say = |message: ToProber| {
        let bytes = codec::encode(&message).expect("what is sent fits");
        let message = codec::decode(&bytes).expect("what is sent is read");
        protocol.handle(message, &mut configs).expect("the protocol is kept to")
    };
    let generation = set.generation;
    say(ToProber::Hello { version: VERSION, release: String::new() });
    say(ToProber::Begin { generation });
    for bundle in &set.bundles {
        say(ToProber::Bundle { id: bundle.id, pem: bundle.pem.clone() });
    }
    for checks in batch_checks(set.checks.clone()) {
        say(checks);
    }
    match say(ToProber::Commit { generation }) {
        Some(protocol::ControllerRequest::ApplySet(set)) => set,
        other => panic!("{other:?}"),
    }
}

/// Asserts that a set respects all limits of the prober.
pub fn within_limits(set: &maglevd_prober::set::ReceivedSet, limits: &ProbeLimits) {
    assert!(set.accepted.len() <= limits.max_checks as usize);
    let mut ids = HashSet::new();
    let mut rate = 0.0;
    for member in &set.accepted {
        assert!(ids.insert(member.id));
        assert!(maglevd_prober::set::is_allowed_interval(member.interval));
        member.check.validate().expect("what is probed is within its bounds");
        rate += 1.0 / member.interval.as_secs_f64();
        if let maglev_ipc::ProbeKind::Http { http, .. } = &member.check.probe {
            let request = maglevd_prober::probe::http::HttpRequest::compile(http, &mut RegexpSet::new(1))
                .expect("it was compiled before");
            let lines = request.bytes.split(|byte| *byte == b'\n').count();
            assert_eq!(lines, if http.keep_alive.is_some() { 7 } else { 8 }, "nothing is smuggled in");
        }
    }
    assert!(rate <= f64::from(limits.max_rate) * 1.001, "{rate} probes a second");
    assert!(set.rejected.iter().all(|(id, _)| ids.insert(*id)));
}
