//! Where everything is, and what is told of it.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use maglev_core::config::Config;
use maglev_core::event::{Event, Kind};
use maglev_core::time::{MonoTime, Now, WallTime};
use maglev_ipc::{Check, OutcomeCode};
use maglevd::clock::Clock;
use maglevd::metrics::Metrics;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::disk::Platters;
use super::oracle::Oracle;
use super::pipe::{Pipe, Weather};
use super::refusals::Refusals;
use super::script::{Host, Script};
use super::shape::Shape;
use super::truth::{Fate, Truth};
use super::wishes::Wishes;
use super::{controller, prober, vpp};

/// The machine has run for so long when the simulation begins, in nanoseconds.
const UPTIME: u64 = 1_000_000_000_000;
/// The wall's clock then.
const EPOCH: u64 = 1_795_348_800_000_000_000;
/// The lines of the trace that are kept.
const LINES: usize = 4000;

/// An operator who asks, and waits for the answer.
pub type Operator = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Everything outside the processes, and a hand on each of them.
pub struct World {
    /// What the file says.
    pub shape: Shape,
    /// What everything runs on.
    pub host: Host,
    /// What the daemon makes of it.
    pub config: Arc<Config>,
    /// The servers.
    pub truth: Truth,
    /// `None` while it is down.
    pub vpp: Option<vpp::Running>,
    /// Counts its starts.
    pub vpp_lives: u32,
    /// For how long it is away when it ends by itself.
    pub vpp_away: Duration,
    /// Its stats cannot be read before, and it takes this long to see that.
    pub stats_fail: (Instant, Duration),
    /// `None` while it is down.
    pub prober: Option<prober::Running>,
    /// Its newest link.
    pub prober_link: Option<(Arc<Pipe>, Arc<Pipe>)>,
    /// It is stopped until then.
    pub prober_frozen: Instant,
    /// For how long it is away when it ends by itself.
    pub prober_away: Duration,
    /// Probes tell nothing before.
    pub blind: Instant,
    /// `None` while it is down.
    pub controller: Option<controller::Running>,
    /// For how long it is away when it ends by itself.
    pub controller_away: Duration,
    /// It has begun, and does not know everything before.
    pub starting: Instant,
    /// The disk.
    pub disk: Platters,
    /// There is no power before.
    pub power: Instant,
    /// How far the wall's clock was put, in seconds.
    pub wall: i64,
    /// Who has asked something that is not attended to yet.
    pub operators: Vec<Operator>,
    /// What the prober refuses.
    pub refusals: Refusals,
    /// What operators want.
    pub wishes: Wishes,
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

/// The world, and the time in it.
pub struct Site {
    world: Mutex<World>,
    /// A registry for each start of thousands would cost more than all else.
    pub metrics: Arc<Metrics>,
    begin: Instant,
    to_prober: Arc<Weather>,
    from_prober: Arc<Weather>,
    vpp: Arc<Weather>,
    /// Something is wrong.
    pub failed: Notify,
    /// VPP has ended by itself.
    pub vpp_ended: Notify,
    /// An operator asks something.
    pub asked: Notify,
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site").finish_non_exhaustive()
    }
}

impl Site {
    /// At the beginning of a script, with nothing running.
    ///
    /// # Errors
    /// Its configuration is not allowed.
    pub fn new(script: &Script) -> Result<Arc<Self>, String> {
        let mut rng = Rng::with_seed(script.seed ^ 0x5eed);
        let (begin, shape) = (Instant::now(), script.shape.clone());
        let world = World {
            host: script.host.clone(),
            config: shape.config()?,
            truth: Truth::new(shape.backends.len(), rng.u64(..)),
            vpp: None,
            vpp_lives: 0,
            vpp_away: Duration::ZERO,
            stats_fail: (begin, Duration::ZERO),
            prober: None,
            prober_link: None,
            prober_frozen: begin,
            prober_away: Duration::ZERO,
            blind: begin,
            controller: None,
            controller_away: Duration::ZERO,
            starting: begin,
            disk: Platters::new(rng.u64(..)),
            power: begin,
            wall: 0,
            operators: Vec::new(),
            refusals: Refusals::default(),
            wishes: Wishes::default(),
            retired: BTreeSet::new(),
            oracle: Oracle::new(&shape, begin),
            violations: Vec::new(),
            trace: VecDeque::new(),
            digest: 0,
            rng,
            shape,
        };
        Ok(Arc::new(Self {
            world: Mutex::new(world),
            metrics: Arc::new(Metrics::new().map_err(|error| error.to_string())?),
            begin,
            to_prober: Weather::new(),
            from_prober: Weather::new(),
            vpp: Weather::new(),
            failed: Notify::new(),
            vpp_ended: Notify::new(),
            asked: Notify::new(),
        }))
    }

    /// Looks at the world, or changes it.
    pub fn with<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        look(&mut self.world.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Nanoseconds of the monotonic clock.
    pub fn nanos(&self) -> u64 {
        UPTIME + self.elapsed().as_nanos() as u64
    }

    /// When the monotonic clock will say so, if it ever does.
    pub fn instant(&self, nanos: u64) -> Instant {
        const FAR: Duration = Duration::from_secs(86_400 * 365);
        self.begin + Duration::from_nanos(nanos.saturating_sub(UPTIME)).min(FAR)
    }

    /// Since the beginning.
    pub fn elapsed(&self) -> Duration {
        Instant::now() - self.begin
    }

    /// A seed for something.
    pub fn seed(&self) -> u64 {
        self.with(|world| world.rng.u64(..))
    }

    /// Once in so many times.
    pub fn chance(&self, one_in: u32) -> bool {
        self.with(|world| world.rng.u32(..one_in) == 0)
    }

    /// What the link to the prober, and that from it, meet.
    pub fn prober_weather(&self) -> (Arc<Weather>, Arc<Weather>) {
        (Arc::clone(&self.to_prober), Arc::clone(&self.from_prober))
    }

    /// What the link to VPP meets.
    pub fn vpp_weather(&self) -> Arc<Weather> {
        Arc::clone(&self.vpp)
    }

    /// Writes a line of the trace.
    pub fn tell(&self, line: &str) {
        let at = self.elapsed();
        self.with(|world| world.tell(at, line));
    }

    /// Something is wrong.
    pub fn violated(&self, what: &str) {
        self.tell(&format!("WRONG  {what}"));
        self.with(|world| world.violations.push(what.to_owned()));
        self.failed.notify_one();
    }

    /// Holds everything against what it should be.
    pub fn check(&self) {
        let wrong = self.with(|world| if world.violations.is_empty() { world.wrong() } else { None });
        if let Some(wrong) = wrong {
            self.violated(&wrong);
        } else if self.with(|world| !world.violations.is_empty()) {
            self.failed.notify_one();
        }
    }

    /// A probe starts.
    pub fn probe(&self, check: &Check) -> Fate {
        self.with(|world| {
            let fate = world.truth.probe(check);
            let Some(server) = Shape::server_at(check.target) else { return fate };
            for backend in world.shape.backends_on(server) {
                match fate {
                    Fate::Ends(_, code) => world.oracle.probed(backend, code),
                    Fate::Lost => world.oracle.probed(backend, OutcomeCode::L4Tout),
                    Fate::Local => {}
                }
            }
            fate
        })
    }

    /// VPP was written to.
    pub fn written(&self, vip: Option<IpAddr>, what: &str) {
        self.tell(&format!("vpp    {what}"));
        let wrong = self.with(|world| world.oracle.written(&world.shape, vip));
        if let Some(wrong) = wrong {
            self.violated(&wrong);
        }
        self.check();
    }

    /// `maglevd` says that something happened.
    pub fn heard(&self, event: &Event) {
        self.tell(&format!("event  {}", shown(&event.kind)));
        let wrong = self.with(|world| {
            let refused = world.told(&event.kind);
            refused.or_else(|| world.oracle.heard(&event.kind, &world.shape))
        });
        if let Some(wrong) = wrong {
            self.violated(&wrong);
        }
        self.check();
    }

    /// What is wrong, the trace, and its digest.
    pub fn result(&self) -> (Vec<String>, Vec<String>, u64) {
        self.with(|world| (world.violations.clone(), world.trace.iter().cloned().collect(), world.digest))
    }
}

impl World {
    /// Lets go of all that runs.
    pub fn leave(&mut self) {
        (self.vpp, self.prober, self.prober_link, self.controller) = (None, None, None, None);
    }

    fn tell(&mut self, at: Duration, line: &str) {
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

/// The clocks as `maglevd` sees them.
#[derive(Clone, Debug)]
pub struct Clocks(pub Arc<Site>);

impl Clock for Clocks {
    fn now(&self) -> Now {
        let (mono, put) = (self.0.nanos(), self.0.with(|world| world.wall));
        let wall = EPOCH + (mono - UPTIME);
        Now { mono: MonoTime(mono), wall: WallTime(wall.saturating_add_signed(put * 1_000_000_000)) }
    }
}

fn shown(kind: &Kind) -> String {
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
