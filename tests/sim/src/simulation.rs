//! The simulation: its state, clocks, links and trace.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use maglev_core::event::{Event, Kind};
use maglev_core::time::{MonoTime, Now, WallTime};
use maglev_ipc::{Check, OutcomeCode};
use maglevd::clock::Clock;
use maglevd::metrics::Metrics;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::config_model::ConfigModel;
use super::pipe::LinkConditions;
use super::script::FaultScript;
use super::servers::ProbeResult;
use super::world::SimWorld;

/// Uptime at the start of the simulation, in nanoseconds.
const UPTIME: u64 = 1_000_000_000_000;
/// Wall clock at the start.
const EPOCH: u64 = 1_795_348_800_000_000_000;

/// The simulated system.
pub struct Simulation {
    world: Mutex<SimWorld>,
    /// Shared, because a registry per start would dominate the run time.
    pub metrics: Arc<Metrics>,
    begin: Instant,
    to_prober: Arc<LinkConditions>,
    from_prober: Arc<LinkConditions>,
    vpp: Arc<LinkConditions>,
    /// Reports a violation.
    pub failed: Notify,
    /// Notified when VPP crashes.
    pub vpp_ended: Notify,
    /// Notified when an operator sends a request.
    pub operator_waiting: Notify,
}

impl std::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulation").finish_non_exhaustive()
    }
}

impl Simulation {
    /// Returns the state at the start of a script.
    ///
    /// # Errors
    /// Its configuration is invalid.
    pub fn new(script: &FaultScript) -> Result<Arc<Self>, String> {
        let (begin, config) = (Instant::now(), script.model.config()?);
        let world = SimWorld::new(script, config, begin);
        Ok(Arc::new(Self {
            world: Mutex::new(world),
            metrics: Arc::new(Metrics::new().map_err(|error| error.to_string())?),
            begin,
            to_prober: LinkConditions::new(),
            from_prober: LinkConditions::new(),
            vpp: LinkConditions::new(),
            failed: Notify::new(),
            vpp_ended: Notify::new(),
            operator_waiting: Notify::new(),
        }))
    }

    /// Reads or changes the state.
    pub fn with<T>(&self, look: impl FnOnce(&mut SimWorld) -> T) -> T {
        look(&mut self.world.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the monotonic clock in nanoseconds.
    pub fn nanos(&self) -> u64 {
        UPTIME + self.elapsed().as_nanos() as u64
    }

    /// Returns the time at which the monotonic clock reaches `nanos`, at most a year ahead.
    pub fn instant(&self, nanos: u64) -> Instant {
        const FAR: Duration = Duration::from_secs(86_400 * 365);
        self.begin + Duration::from_nanos(nanos.saturating_sub(UPTIME)).min(FAR)
    }

    /// Returns the time since the start.
    pub fn elapsed(&self) -> Duration {
        Instant::now() - self.begin
    }

    /// Draws a seed.
    pub fn next_seed(&self) -> u64 {
        self.with(SimWorld::next_seed)
    }

    /// Returns true once in `one_in` times on average.
    pub fn one_in(&self, one_in: u32) -> bool {
        self.with(|world| world.one_in(one_in))
    }

    /// Returns the conditions of the links to and from the prober.
    pub fn prober_conditions(&self) -> (Arc<LinkConditions>, Arc<LinkConditions>) {
        (Arc::clone(&self.to_prober), Arc::clone(&self.from_prober))
    }

    /// Returns the conditions of the links to VPP.
    pub fn vpp_conditions(&self) -> Arc<LinkConditions> {
        Arc::clone(&self.vpp)
    }

    /// Adds a line to the trace.
    pub fn trace(&self, line: &str) {
        let at = self.elapsed();
        self.with(|world| world.trace(at, line));
    }

    /// Reports a violation.
    pub fn report_violation(&self, what: &str) {
        self.trace(&format!("FAILED {what}"));
        self.with(|world| world.violations.push(what.to_owned()));
        self.failed.notify_one();
    }

    /// Compares VPP with the expected state.
    pub fn check_state(&self) {
        let violation =
            self.with(|world| if world.violations.is_empty() { world.find_violation() } else { None });
        if let Some(violation) = violation {
            self.report_violation(&violation);
        } else if self.with(|world| !world.violations.is_empty()) {
            self.failed.notify_one();
        }
    }

    /// Starts a probe, and records its result.
    pub fn start_probe(&self, check: &Check) -> ProbeResult {
        self.with(|world| {
            let result = world.fleet.probe(check);
            let Some(server) = ConfigModel::server_at(check.target) else { return result };
            world.record_route(server, &result);
            match result {
                ProbeResult::Answered(_, code) => world.oracle.record_probe(server, code),
                ProbeResult::Lost => world.oracle.record_probe(server, OutcomeCode::L4Tout),
                ProbeResult::NotSent | ProbeResult::NoRoute => {}
            }
            result
        })
    }

    /// Handles a write to VPP.
    pub fn on_vpp_write(&self, vip: Option<IpAddr>, what: &str) {
        self.trace(&format!("vpp    {what}"));
        let violation = self.with(|world| world.oracle.check_write(&world.model, vip));
        if let Some(violation) = violation {
            self.report_violation(&violation);
        }
        self.check_state();
    }

    /// Handles an event of `maglevd`.
    pub fn on_event(&self, event: &Event) {
        self.trace(&format!("event  {}", describe_event(&event.kind)));
        let violation = self.with(|world| {
            let refused = world.on_event(&event.kind);
            refused.or_else(|| world.oracle.check_transition(&event.kind, &world.model))
        });
        if let Some(violation) = violation {
            self.report_violation(&violation);
        }
        self.check_state();
    }

    /// Returns the violations, the trace and its digest.
    pub fn result(&self) -> (Vec<String>, Vec<String>, u64) {
        self.with(|world| world.result())
    }
}

/// The clocks of `maglevd`.
#[derive(Clone, Debug)]
pub struct SimClock(pub Arc<Simulation>);

impl Clock for SimClock {
    fn now(&self) -> Now {
        let (mono, put) = (self.0.nanos(), self.0.with(|world| world.wall_offset));
        let wall = EPOCH + (mono - UPTIME);
        Now { mono: MonoTime(mono), wall: WallTime(wall.saturating_add_signed(put * 1_000_000_000)) }
    }
}

fn describe_event(kind: &Kind) -> String {
    let mut text = String::new();
    let _ = match kind {
        Kind::Backend { name, transition, .. } => {
            write!(text, "{name} {} -> {} ({})", transition.from, transition.to, transition.cause)
        }
        Kind::Frontend { name, from, to, active_pool } => {
            write!(text, "{name} {from} -> {to}, pool {}", active_pool.as_deref().unwrap_or("none"))
        }
        Kind::StepFailed { vip, step, error } => write!(text, "{vip}: {step} failed: {error}"),
        Kind::Synced { vip, counts } => write!(text, "{vip} synced {counts:?}"),
        Kind::Operator(audit) => {
            write!(text, "{}: {} {} -> {}", audit.subject, audit.action.as_str(), audit.from, audit.to)
        }
        other => write!(text, "{other:?}"),
    };
    text
}
