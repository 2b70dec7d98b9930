//! What happens in a run, and when: all of it drawn from the seed before the run begins, so that it can be shortened.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use maglev_core::health::BackendAction;
use nix::errno::Errno;

use super::extra;
use super::shape::{Edit, Shape};
use super::truth::Being;

/// Something that happens.
#[derive(Clone, Debug)]
pub enum Deed {
    /// It is so from the beginning on.
    Begin(Setting),
    /// A server is another than it was.
    Server(usize, Being),
    /// The next probes of a server are lost on their way.
    Lose(usize, u32),
    /// Probes are lost on their way, so many in a hundred of them, for so long.
    Lossy(usize, u8, Duration),
    /// The prober's host is cut off: every probe is lost.
    Blackout(Duration),
    /// The prober's host can start no probe.
    Local(Duration),
    /// `maglevd` is killed, or dies when it has had so many more effects, and is started again after a while.
    CrashController(Option<u64>, Duration),
    /// `maglevd` is told to end, and is started again after a while.
    StopController(Duration),
    /// Both daemons are killed, and started again after a while.
    Upgrade(Duration),
    /// The whole host loses its power for a while; what was not made to last is gone.
    CutPower(Duration),
    /// The prober is killed, or dies when it has had so many more effects, and is started again after a while.
    CrashProber(Option<u64>, Duration),
    /// The prober is stopped for so long, as by a debugger.
    FreezeProber(Duration),
    /// The prober does not hear `maglevd`, or is not heard, for so long.
    StallProber(bool, Duration),
    /// The prober's link is slow.
    SlowProber(Duration, Duration),
    /// The prober's link ends.
    CutProber,
    /// VPP ends, or when it has answered so many more messages, and is started again, empty, after a while.
    RestartVpp(Option<u64>, Duration),
    /// VPP answers nothing for so long.
    HangVpp(Duration),
    /// The link to VPP is slow.
    SlowVpp(Duration, Duration),
    /// The link to VPP ends.
    CutVpp,
    /// VPP's stats cannot be read for so long, which takes so long to see each time.
    DarkenStats(Duration, Duration),
    /// VPP refuses the next requests of this kind.
    RefuseVpp(&'static str, usize),
    /// VPP refuses all requests of this kind for so long.
    RefuseVppFor(&'static str, Duration),
    /// VPP's next answer is wrong.
    SpoilVpp(u8),
    /// Somebody else changes something in VPP.
    MeddleVpp(Meddling),
    /// An operator does this to a backend.
    Operate(usize, BackendAction),
    /// An operator's script does this to each of these backends at once, by bits.
    OperateAll(u8, BackendAction),
    /// An operator gives a member of a frontend another weight, or takes that back.
    Weigh(usize, usize, Option<u8>),
    /// An operator asks for a comparison.
    Resync,
    /// The file is changed, and read again.
    Reload(Edit),
    /// The clock of the wall is put forward or back, in seconds.
    Clock(i64),
    /// The disk fails so many calls.
    Disk(Errno, u32),
}

/// What may be otherwise in a run than in most.
#[derive(Clone, Debug)]
pub enum Setting {
    /// The file.
    File(Edit),
    /// What the prober is started with: how many checks it takes at most.
    MaxChecks(u32),
    /// VPP's stats can be read.
    Stats,
    /// Each VPP has the same process number, as in a container.
    Contained,
}

/// What all runs on, but for the file.
#[derive(Clone, Debug)]
pub struct Host {
    /// The prober takes so many checks at most.
    pub max_checks: u32,
    /// VPP's stats can be read, but for when they cannot.
    pub stats: bool,
    /// Each VPP has the same process number.
    pub contained: bool,
}

impl Default for Host {
    fn default() -> Self {
        // What the package's unit allows.
        Self { max_checks: 100_000, stats: false, contained: false }
    }
}

/// What somebody else does in VPP.
#[derive(Clone, Copy, Debug)]
pub enum Meddling {
    /// A server's weight.
    Weight(usize, usize, u8),
    /// A server goes.
    Remove(usize, usize),
    /// A VIP that is not ours comes.
    Stranger,
    /// The global settings.
    Conf,
}

/// A run.
#[derive(Clone, Debug)]
pub struct Script {
    /// What everything is drawn from.
    pub seed: u64,
    /// The configuration at the start.
    pub shape: Shape,
    /// What else is otherwise than in most runs.
    pub host: Host,
    /// What happens, and when; in the order in which it was drawn.
    pub deeds: Vec<(Duration, Deed)>,
    /// Which of the deeds of the seed these are; `None` is all.
    pub kept: Option<Vec<usize>>,
}

impl Script {
    /// The run of this seed, or what is left of it.
    pub fn draw(seed: u64, kept: Option<&[usize]>) -> Self {
        let rng = &mut Rng::with_seed(seed);
        let mut shape = Shape::draw(rng);
        let mut at = Duration::from_secs(rng.u64(..20));
        let mut deeds = Vec::new();
        for _ in 0..rng.usize(3..30) {
            let deed = Deed::draw(rng);
            // A probe that is lost while nothing is known yet.
            if matches!(deed, Deed::CrashController(..) | Deed::StopController(_) | Deed::Upgrade(_))
                && rng.bool()
            {
                deeds.push((at, Deed::Lose(rng.usize(..6), rng.u32(1..3))));
            }
            deeds.push((at, deed));
            at += match rng.u8(..10) {
                0..=1 => Duration::ZERO,
                2..=3 => Duration::from_millis(rng.u64(..2000)),
                4 => Duration::from_millis(rng.u64(..15_000)),
                // Enough for all to be well again, most times.
                _ => Duration::from_secs(rng.u64(40..120)),
            };
        }
        deeds.extend(extra::draw(seed, &shape, at));
        let kept = kept.map(<[usize]>::to_vec);
        if let Some(kept) = &kept {
            deeds = kept.iter().filter_map(|index| deeds.get(*index).cloned()).collect();
        }
        let mut host = Host::default();
        for (_, deed) in &deeds {
            match deed {
                Deed::Begin(Setting::File(edit)) => shape.edit(edit),
                Deed::Begin(Setting::MaxChecks(checks)) => host.max_checks = *checks,
                Deed::Begin(Setting::Stats) => host.stats = true,
                Deed::Begin(Setting::Contained) => host.contained = true,
                _ => {}
            }
        }
        Self { seed, shape, host, deeds, kept }
    }

    /// The same without some of its deeds; `kept` are those that stay, counted from 0 in this one.
    pub fn only(&self, kept: &[usize]) -> Self {
        let all: Vec<usize> = self.kept.clone().unwrap_or_else(|| (0..self.deeds.len()).collect());
        let kept: Vec<usize> = kept.iter().map(|index| all[*index]).collect();
        Self::draw(self.seed, Some(&kept))
    }
}

/// As a line of the file of seeds.
impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.seed)?;
        self.kept.iter().flatten().try_for_each(|index| write!(f, " {index}"))
    }
}

impl Deed {
    fn draw(rng: &mut Rng) -> Self {
        let backend = rng.usize(..6);
        let while_away = Duration::from_millis([0, 50, 1000, 8000, 20_000][rng.usize(..5)]);
        let while_ill = Duration::from_millis([100, 1500, 4000, 7000, 15_000][rng.usize(..5)]);
        let late = Duration::from_millis([20, 300, 1500][rng.usize(..3)]);
        let fuse = rng.bool().then(|| rng.u64(..40));
        match rng.u8(..64) {
            0..=11 => Self::Server(backend, Being::draw(rng)),
            12..=15 => Self::Lose(backend, rng.u32(1..6)),
            16 => Self::Lossy(backend, [10, 30, 60][rng.usize(..3)], while_ill),
            17 => Self::Blackout(while_ill),
            18..=19 => Self::Local(while_ill),
            20..=22 => Self::CrashController(fuse, while_away),
            23 => Self::StopController(while_away),
            24..=25 => Self::Upgrade(while_away),
            26 => Self::CutPower(while_away),
            27..=29 => Self::CrashProber(fuse, while_away),
            30..=31 => Self::StallProber(rng.bool(), while_ill),
            32 => Self::SlowProber(late, while_ill),
            63 => Self::FreezeProber(while_ill),
            33 => Self::CutProber,
            34..=36 => Self::RestartVpp(fuse, while_away),
            37..=38 => Self::HangVpp(while_ill),
            39 => Self::SlowVpp(late, while_ill),
            40 => Self::CutVpp,
            41..=42 => Self::RefuseVpp(REQUESTS[rng.usize(..REQUESTS.len())], rng.usize(1..5)),
            43 => Self::SpoilVpp(rng.u8(..6)),
            44..=46 => Self::MeddleVpp(Meddling::draw(rng)),
            47..=48 => Self::Operate(backend, ACTIONS[rng.usize(..4)]),
            49..=52 => Self::OperateAll(rng.u8(..64), ACTIONS[rng.usize(..4)]),
            53..=55 => {
                Self::Weigh(rng.usize(..3), backend, rng.bool().then(|| [0, 1, 50, 100][rng.usize(..4)]))
            }
            56 => Self::Resync,
            57..=60 => Self::Reload(Edit::draw(rng)),
            61 => Self::Clock([-86_400, -3600, -5, 7, 3600, 1_000_000][rng.usize(..6)]),
            _ => Self::Disk([Errno::ENOSPC, Errno::EIO, Errno::EROFS][rng.usize(..3)], rng.u32(1..8)),
        }
    }
}

/// What operators do.
const ACTIONS: [BackendAction; 4] =
    [BackendAction::Pause, BackendAction::Resume, BackendAction::Disable, BackendAction::Enable];

/// What VPP may be made to refuse.
pub const REQUESTS: [&str; 5] =
    ["lb_as_set_weight", "lb_add_del_as_v2", "lb_add_del_vip_v2", "lb_conf", "ip_route_lookup_v2"];

impl Meddling {
    /// Anything that may be done.
    pub fn draw(rng: &mut Rng) -> Self {
        let (frontend, backend) = (rng.usize(..3), rng.usize(..6));
        match rng.u8(..5) {
            0..=1 => Self::Weight(frontend, backend, [0, 1, 77][rng.usize(..3)]),
            2 => Self::Remove(frontend, backend),
            3 => Self::Stranger,
            _ => Self::Conf,
        }
    }
}
