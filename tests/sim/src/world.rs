//! The state of the simulation: everything outside the processes, and handles of the running ones.

use std::collections::{BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use maglev_core::config::Config;
use tokio::time::Instant;

use super::config_model::ConfigModel;
use super::disk::DiskModel;
use super::expected_overrides::ExpectedOverrides;
use super::fault::HostConfig;
use super::oracle::Oracle;
use super::pipe::SimPipe;
use super::rejected_checks::RejectedChecks;
use super::running::{RunningController, RunningProber};
use super::script::FaultScript;
use super::servers::ServerFleet;
use super::vpp_model::RunningVpp;
use super::withdrawn_routes::WithdrawnRoutes;

/// Maximum number of trace lines.
const LINES: usize = 4000;

/// A pending request of an operator.
pub type OperatorRequest = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The state of the simulation.
pub struct SimWorld {
    /// The file.
    pub model: ConfigModel,
    /// The host.
    pub host: HostConfig,
    /// The parsed file.
    pub config: Arc<Config>,
    /// Servers.
    pub fleet: ServerFleet,
    /// `None` while it does not run.
    pub vpp: Option<RunningVpp>,
    /// Number of starts of VPP.
    pub vpp_starts: u32,
    /// Time between a crash and the restart.
    pub vpp_away: Duration,
    /// End of VPP's stats failure, and the duration of each failing read.
    pub stats_failure: (Instant, Duration),
    /// `None` while it does not run.
    pub prober: Option<RunningProber>,
    /// The prober's newest link.
    pub prober_link: Option<(Arc<SimPipe>, Arc<SimPipe>)>,
    /// The prober is stopped before this time.
    pub prober_frozen_until: Instant,
    /// Time between a crash and the restart.
    pub prober_away: Duration,
    /// Probes give no verdicts before this time.
    pub probes_blind_until: Instant,
    /// `None` while it does not run.
    pub controller: Option<RunningController>,
    /// Time between a crash and the restart.
    pub controller_away: Duration,
    /// `maglevd` is starting before this time.
    pub starting_until: Instant,
    /// Disk.
    pub disk: DiskModel,
    /// The host has no power before this time.
    pub powered_from: Instant,
    /// Offset of the wall clock in seconds.
    pub wall_offset: i64,
    /// Operators' requests that wait to be polled.
    pub operators: Vec<OperatorRequest>,
    /// Checks that the prober rejects.
    pub rejected_checks: RejectedChecks,
    /// Withdrawn routes.
    pub withdrawn_routes: WithdrawnRoutes,
    /// Overrides that must be in force.
    pub expected_overrides: ExpectedOverrides,
    /// Removed frontends whose VIPs `maglevd` must remove, even if it keeps foreign VIPs.
    pub retired: BTreeSet<usize>,
    /// The oracle.
    pub oracle: Oracle,
    /// Per frontend: end of the time in which its VIP keeps some weight.
    pub kept_until: Vec<Instant>,
    /// Violations.
    pub violations: Vec<String>,
    trace: VecDeque<String>,
    /// Digest of the whole trace, including dropped lines.
    digest: u64,
    rng: Rng,
}

impl SimWorld {
    /// Returns the state at the start of a script.
    pub fn new(script: &FaultScript, config: Arc<Config>, begin: Instant) -> Self {
        let mut rng = Rng::with_seed(script.seed ^ 0x5eed);
        let model = script.model.clone();
        Self {
            host: script.host.clone(),
            config,
            fleet: ServerFleet::new(model.backends.len(), rng.u64(..)),
            vpp: None,
            vpp_starts: 0,
            vpp_away: Duration::ZERO,
            stats_failure: (begin, Duration::ZERO),
            prober: None,
            prober_link: None,
            prober_frozen_until: begin,
            prober_away: Duration::ZERO,
            probes_blind_until: begin,
            controller: None,
            controller_away: Duration::ZERO,
            starting_until: begin,
            disk: DiskModel::new(rng.u64(..)),
            powered_from: begin,
            wall_offset: 0,
            operators: Vec::new(),
            rejected_checks: RejectedChecks::default(),
            withdrawn_routes: WithdrawnRoutes::default(),
            expected_overrides: ExpectedOverrides::default(),
            retired: BTreeSet::new(),
            oracle: Oracle::new(&model, begin),
            kept_until: vec![begin; model.frontends.len()],
            violations: Vec::new(),
            trace: VecDeque::new(),
            digest: 0,
            rng,
            model,
        }
    }

    /// Draws a seed.
    pub fn next_seed(&mut self) -> u64 {
        self.rng.u64(..)
    }

    /// Returns true once in `one_in` times on average.
    pub fn one_in(&mut self, one_in: u32) -> bool {
        self.rng.u32(..one_in) == 0
    }

    /// Returns the violations, the trace and its digest.
    pub fn result(&self) -> (Vec<String>, Vec<String>, u64) {
        (self.violations.clone(), self.trace.iter().cloned().collect(), self.digest)
    }

    /// Drops all running processes.
    pub fn drop_processes(&mut self) {
        (self.vpp, self.prober, self.prober_link, self.controller) = (None, None, None, None);
    }

    /// Adds a line to the trace.
    pub fn trace(&mut self, at: Duration, line: &str) {
        let line = format!("{:>10.3} s  {line}", at.as_secs_f64());
        // FNV-1a, because the digest must be the same on all platforms.
        for byte in line.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.trace.len() == LINES {
            self.trace.pop_front();
        }
        self.trace.push_back(line);
    }
}
