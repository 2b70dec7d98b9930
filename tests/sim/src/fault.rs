//! The faults that the simulation injects.

use std::time::Duration;

use fastrand::Rng;
use maglev_core::health::BackendAction;
use nix::errno::Errno;

use super::config_model::ConfigEdit;
use super::servers::ServerState;

/// A fault, or another event that the script injects.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Sets a condition from the start.
    Initial(InitialSetting),
    /// Changes the state of a server.
    Server(usize, ServerState),
    /// Loses the next probes of a server.
    Lose(usize, u32),
    /// Loses a percentage of the probes of a server for a time.
    Lossy(usize, u8, Duration),
    /// Disconnects the prober's host: all probes are lost.
    Blackout(Duration),
    /// Withdraws the route to one server for a time.
    WithdrawRoute(usize, Duration),
    /// Blocks the prober's host from sending probes.
    BlockProbes(Duration),
    /// Kills `maglevd` at once or after a number of effects, and restarts it after a time.
    CrashController(Option<u64>, Duration),
    /// Stops `maglevd`, and restarts it after a time.
    StopController(Duration),
    /// Kills both daemons, and restarts them after a time.
    Upgrade(Duration),
    /// Cuts the power of the host for a time. Unsynced changes are lost.
    CutPower(Duration),
    /// Kills the prober at once or after a number of effects, and restarts it after a time.
    CrashProber(Option<u64>, Duration),
    /// Stops the prober for a time, as a debugger does.
    FreezeProber(Duration),
    /// Stalls the link from the prober (true) or to it (false) for a time.
    StallProber(bool, Duration),
    /// Slows the prober's link.
    SlowProber(Duration, Duration),
    /// Closes the prober's link.
    CutProber,
    /// Kills VPP at once or after a number of messages, and restarts it empty after a time.
    RestartVpp(Option<u64>, Duration),
    /// Hangs VPP for a time.
    HangVpp(Duration),
    /// Slows the link to VPP.
    SlowVpp(Duration, Duration),
    /// Closes the link to VPP.
    CutVpp,
    /// Makes VPP's stats unreadable for a time. Each attempt takes the second time.
    FailStats(Duration, Duration),
    /// Rejects VPP's next requests of this type.
    RejectVppRequests(&'static str, usize),
    /// Rejects all VPP requests of this type for a time.
    RejectVppRequestsFor(&'static str, Duration),
    /// Corrupts VPP's next reply.
    CorruptVppReply(u8),
    /// Changes VPP from outside.
    ChangeVppExternally(ExternalChange),
    /// Applies an operator's action to a backend.
    Operate(usize, BackendAction),
    /// Applies an action to several backends at once, selected by bits.
    OperateAll(u8, BackendAction),
    /// Overrides the weight of a member, or removes the override.
    SetWeight(usize, usize, Option<u8>),
    /// Requests a comparison with VPP.
    Resync,
    /// Changes the file, and reloads it.
    Reload(ConfigEdit),
    /// Adjusts the wall clock, in seconds.
    Clock(i64),
    /// Makes a number of disk calls fail.
    Disk(Errno, u32),
}

/// A condition that differs from the default from the start.
#[derive(Clone, Debug)]
pub enum InitialSetting {
    /// A change of the file.
    File(ConfigEdit),
    /// The prober's limit of checks.
    MaxChecks(u32),
    /// VPP's stats are readable.
    Stats,
    /// Each VPP has the same process id, as in a container.
    Contained,
}

/// The host: all initial conditions besides the file.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// The prober's limit of checks.
    pub max_checks: u32,
    /// VPP's stats are readable, except during [`Fault::FailStats`].
    pub stats: bool,
    /// Each VPP has the same process id.
    pub contained: bool,
}

impl Default for HostConfig {
    fn default() -> Self {
        // The limit in the package's unit.
        Self { max_checks: 100_000, stats: false, contained: false }
    }
}

/// A change of VPP from outside.
#[derive(Clone, Copy, Debug)]
pub enum ExternalChange {
    /// Sets a server's weight.
    Weight(usize, usize, u8),
    /// Removes a server.
    Remove(usize, usize),
    /// Adds a foreign VIP.
    ForeignVip,
    /// Changes the global parameters.
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

/// Operators' actions.
const ACTIONS: [BackendAction; 4] =
    [BackendAction::Pause, BackendAction::Resume, BackendAction::Disable, BackendAction::Enable];

/// Requests that VPP may reject.
pub const REQUESTS: [&str; 5] =
    ["lb_as_set_weight", "lb_add_del_as_v2", "lb_add_del_vip_v2", "lb_conf", "ip_route_lookup_v2"];

impl ExternalChange {
    /// Draws a change.
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
