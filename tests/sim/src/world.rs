//! The state of the simulation: everything outside the processes, and a handle on each of them.

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

/// The lines of the trace that are kept.
const LINES: usize = 4000;

/// An operator who asks, and waits for the answer.
pub type OperatorRequest = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Everything outside the processes, and a hand on each of them.
pub struct SimWorld {
    /// What the file says.
    pub model: ConfigModel,
    /// What everything runs on.
    pub host: HostConfig,
    /// What the daemon makes of it.
    pub config: Arc<Config>,
    /// The servers.
    pub fleet: ServerFleet,
    /// `None` while it is down.
    pub vpp: Option<RunningVpp>,
    /// Counts its starts.
    pub vpp_starts: u32,
    /// For how long it is away when it ends by itself.
    pub vpp_away: Duration,
    /// Its stats cannot be read before, and it takes this long to see that.
    pub stats_failure: (Instant, Duration),
    /// `None` while it is down.
    pub prober: Option<RunningProber>,
    /// Its newest link.
    pub prober_link: Option<(Arc<SimPipe>, Arc<SimPipe>)>,
    /// It is stopped until then.
    pub prober_frozen_until: Instant,
    /// For how long it is away when it ends by itself.
    pub prober_away: Duration,
    /// Probes tell nothing before.
    pub probes_blind_until: Instant,
    /// `None` while it is down.
    pub controller: Option<RunningController>,
    /// For how long it is away when it ends by itself.
    pub controller_away: Duration,
    /// It has begun, and does not know everything before.
    pub starting_until: Instant,
    /// The disk.
    pub disk: DiskModel,
    /// There is no power before.
    pub powered_from: Instant,
    /// How far the wall's clock was put, in seconds.
    pub wall_offset: i64,
    /// Who has asked something that is not attended to yet.
    pub operators: Vec<OperatorRequest>,
    /// What the prober refuses.
    pub rejected_checks: RejectedChecks,
    /// What operators want.
    pub expected_overrides: ExpectedOverrides,
    /// The frontends whose VIPs go as they have left the file, whatever becomes of those of others.
    pub retired: BTreeSet<usize>,
    /// What is to be so.
    pub oracle: Oracle,
    /// What is wrong.
    pub violations: Vec<String>,
    trace: VecDeque<String>,
    /// Of the whole trace, those lines that are not kept included.
    digest: u64,
    rng: Rng,
}

impl SimWorld {
    /// At the beginning of a script, with nothing running.
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
            expected_overrides: ExpectedOverrides::default(),
            retired: BTreeSet::new(),
            oracle: Oracle::new(&model, begin),
            violations: Vec::new(),
            trace: VecDeque::new(),
            digest: 0,
            rng,
            model,
        }
    }

    /// A seed for something.
    pub fn next_seed(&mut self) -> u64 {
        self.rng.u64(..)
    }

    /// Once in so many times.
    pub fn one_in(&mut self, one_in: u32) -> bool {
        self.rng.u32(..one_in) == 0
    }

    /// What is wrong, the trace, and its digest.
    pub fn result(&self) -> (Vec<String>, Vec<String>, u64) {
        (self.violations.clone(), self.trace.iter().cloned().collect(), self.digest)
    }

    /// Lets go of all that runs.
    pub fn drop_processes(&mut self) {
        (self.vpp, self.prober, self.prober_link, self.controller) = (None, None, None, None);
    }

    /// Writes a line of the trace.
    pub fn trace(&mut self, at: Duration, line: &str) {
        let line = format!("{:>10.3} s  {line}", at.as_secs_f64());
        // FNV-1a: it is to be the same everywhere, and no more than that.
        for byte in line.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.trace.len() == LINES {
            self.trace.pop_front();
        }
        self.trace.push_back(line);
    }
}
