//! The faults that the simulation injects.

use std::time::Duration;

use fastrand::Rng;
use maglev_core::health::BackendAction;
use nix::errno::Errno;

use super::config_model::ConfigEdit;
use super::servers::ServerState;

/// Something that happens.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is so from the beginning on.
    Initial(InitialSetting),
    /// A server is another than it was.
    Server(usize, ServerState),
    /// The next probes of a server are lost on their way.
    Lose(usize, u32),
    /// Probes are lost on their way, so many in a hundred of them, for so long.
    Lossy(usize, u8, Duration),
    /// The prober's host is cut off: every probe is lost.
    Blackout(Duration),
    /// The prober's host can start no probe.
    BlockProbes(Duration),
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
    FailStats(Duration, Duration),
    /// VPP refuses the next requests of this kind.
    RejectVppRequests(&'static str, usize),
    /// VPP refuses all requests of this kind for so long.
    RejectVppRequestsFor(&'static str, Duration),
    /// VPP's next answer is wrong.
    CorruptVppReply(u8),
    /// Somebody else changes something in VPP.
    ChangeVppExternally(ExternalChange),
    /// An operator does this to a backend.
    Operate(usize, BackendAction),
    /// An operator's script does this to each of these backends at once, by bits.
    OperateAll(u8, BackendAction),
    /// An operator gives a member of a frontend another weight, or takes that back.
    SetWeight(usize, usize, Option<u8>),
    /// An operator asks for a comparison.
    Resync,
    /// The file is changed, and read again.
    Reload(ConfigEdit),
    /// The clock of the wall is put forward or back, in seconds.
    Clock(i64),
    /// The disk fails so many calls.
    Disk(Errno, u32),
}

/// What may be otherwise in a run than in most.
#[derive(Clone, Debug)]
pub enum InitialSetting {
    /// The file.
    File(ConfigEdit),
    /// What the prober is started with: how many checks it takes at most.
    MaxChecks(u32),
    /// VPP's stats can be read.
    Stats,
    /// Each VPP has the same process number, as in a container.
    Contained,
}

/// What all runs on, but for the file.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// The prober takes so many checks at most.
    pub max_checks: u32,
    /// VPP's stats can be read, but for when they cannot.
    pub stats: bool,
    /// Each VPP has the same process number.
    pub contained: bool,
}

impl Default for HostConfig {
    fn default() -> Self {
        // What the package's unit allows.
        Self { max_checks: 100_000, stats: false, contained: false }
    }
}

/// What somebody else does in VPP.
#[derive(Clone, Copy, Debug)]
pub enum ExternalChange {
    /// A server's weight.
    Weight(usize, usize, u8),
    /// A server goes.
    Remove(usize, usize),
    /// A VIP that is not ours comes.
    ForeignVip,
    /// The global settings.
    Parameters,
}

impl Fault {
    /// Draws any fault.
    pub fn draw(rng: &mut Rng) -> Self {
        let backend = rng.usize(..6);
        let while_away = Duration::from_millis([0, 50, 1000, 8000, 20_000][rng.usize(..5)]);
        let while_ill = Duration::from_millis([100, 1500, 4000, 7000, 15_000][rng.usize(..5)]);
        let late = Duration::from_millis([20, 300, 1500][rng.usize(..3)]);
        let crash_after = rng.bool().then(|| rng.u64(..40));
        match rng.u8(..64) {
            0..=11 => Self::Server(backend, ServerState::draw(rng)),
            12..=15 => Self::Lose(backend, rng.u32(1..6)),
            16 => Self::Lossy(backend, [10, 30, 60][rng.usize(..3)], while_ill),
            17 => Self::Blackout(while_ill),
            18..=19 => Self::BlockProbes(while_ill),
            20..=22 => Self::CrashController(crash_after, while_away),
            23 => Self::StopController(while_away),
            24..=25 => Self::Upgrade(while_away),
            26 => Self::CutPower(while_away),
            27..=29 => Self::CrashProber(crash_after, while_away),
            30..=31 => Self::StallProber(rng.bool(), while_ill),
            32 => Self::SlowProber(late, while_ill),
            63 => Self::FreezeProber(while_ill),
            33 => Self::CutProber,
            34..=36 => Self::RestartVpp(crash_after, while_away),
            37..=38 => Self::HangVpp(while_ill),
            39 => Self::SlowVpp(late, while_ill),
            40 => Self::CutVpp,
            41..=42 => Self::RejectVppRequests(REQUESTS[rng.usize(..REQUESTS.len())], rng.usize(1..5)),
            43 => Self::CorruptVppReply(rng.u8(..6)),
            44..=46 => Self::ChangeVppExternally(ExternalChange::draw(rng)),
            47..=48 => Self::Operate(backend, ACTIONS[rng.usize(..4)]),
            49..=52 => Self::OperateAll(rng.u8(..64), ACTIONS[rng.usize(..4)]),
            53..=55 => {
                Self::SetWeight(rng.usize(..3), backend, rng.bool().then(|| [0, 1, 50, 100][rng.usize(..4)]))
            }
            56 => Self::Resync,
            57..=60 => Self::Reload(ConfigEdit::draw(rng)),
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

impl ExternalChange {
    /// Anything that may be done.
    pub fn draw(rng: &mut Rng) -> Self {
        let (frontend, backend) = (rng.usize(..3), rng.usize(..6));
        match rng.u8(..5) {
            0..=1 => Self::Weight(frontend, backend, [0, 1, 77][rng.usize(..3)]),
            2 => Self::Remove(frontend, backend),
            3 => Self::ForeignVip,
            _ => Self::Parameters,
        }
    }
}
