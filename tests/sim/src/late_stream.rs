//! Faults that were added later. They are drawn from streams of their own, so that the earlier faults of a seed stay the same,
//! and recorded seeds still give the same run.
//!
//! Append new streams: the file of seeds refers to faults by index.

use std::time::Duration;

use fastrand::Rng;
use maglev_core::health::BackendAction;

use super::config_model::{ConfigEdit, ConfigModel};
use super::fault::{ExternalChange, Fault, InitialSetting, REQUESTS};
use super::servers::ServerState;

/// Faults with their times.
type TimedFaults = Vec<(Duration, Fault)>;

/// A stream: appends faults to a run of this length.
type Stream = fn(&mut Rng, &ConfigModel, Duration, &mut TimedFaults);

/// All streams, with a tag that separates their random numbers.
const STREAMS: [(u64, Stream); 7] = [
    (0x7715_0000_0000_0000, shared_servers),
    (0x1137_0000_0000_0000, check_limits),
    (0x57a7_0000_0000_0000, stats_failures),
    (0x5ec0_0000_0000_0000, sync_intervals),
    (0xb11d_0000_0000_0000, blind_starts),
    (0x3e9a_0000_0000_0000, replaced_servers),
    (0x40f7_0000_0000_0000, withdrawn_routes),
];

/// Draws the faults of all streams for a run of this length.
pub fn draw(seed: u64, model: &ConfigModel, span: Duration) -> TimedFaults {
    let mut faults = Vec::new();
    for (tag, stream) in STREAMS {
        stream(&mut Rng::with_seed(seed ^ tag), model, span, &mut faults);
    }
    faults
}

/// Draws a time in the run.
fn draw_time(rng: &mut Rng, span: Duration) -> Duration {
    Duration::from_millis(rng.u64(..=span.as_millis() as u64))
}

/// Gives two backends one server and equal checks. One of them is requested again at times, and so is younger.
fn shared_servers(rng: &mut Rng, model: &ConfigModel, span: Duration, faults: &mut TimedFaults) {
    let backends = model.backends.len();
    if rng.bool() {
        return;
    }
    let (one, other) = (rng.usize(..backends), rng.usize(..backends));
    faults.push((Duration::ZERO, Fault::Initial(InitialSetting::File(ConfigEdit::SharedServer(one, other)))));
    for _ in 0..rng.usize(..4) {
        let mut at = draw_time(rng, span);
        let renewed = match rng.u8(..3) {
            0..=1 => {
                [Fault::Operate(other, BackendAction::Pause), Fault::Operate(other, BackendAction::Resume)]
            }
            _ => [
                Fault::Reload(ConfigEdit::OwnServer(other)),
                Fault::Reload(ConfigEdit::SharedServer(one, other)),
            ],
        };
        for fault in renewed {
            faults.push((at, fault));
            at += Duration::from_secs(rng.u64(1..6));
        }
        at += Duration::from_secs(rng.u64(10..60));
        change_then_fail(rng, one, backends, at, faults);
    }
}

/// Removes or adds an unrelated check, then makes a server fail for some time.
fn change_then_fail(rng: &mut Rng, server: usize, backends: usize, at: Duration, faults: &mut TimedFaults) {
    let action = [BackendAction::Pause, BackendAction::Resume][rng.usize(..2)];
    faults.push((at, Fault::Operate(rng.usize(..backends), action)));
    let at = at + Duration::from_secs(rng.u64(5..30));
    faults.push((at, Fault::Server(server, ServerState::Refuses)));
    let well = ServerState::Healthy(Duration::from_millis(20));
    faults.push((at + Duration::from_secs(rng.u64(20..60)), Fault::Server(server, well)));
}

/// Limits the prober to fewer checks than there are, and changes the number of checks.
fn check_limits(rng: &mut Rng, model: &ConfigModel, span: Duration, faults: &mut TimedFaults) {
    let backends = model.backends.len();
    if rng.bool() {
        return;
    }
    let checks = rng.u32(1..=backends as u32);
    faults.push((Duration::ZERO, Fault::Initial(InitialSetting::MaxChecks(checks))));
    for _ in 0..rng.usize(..4) {
        // The change frees check_limits, then takes it back.
        let (backend, mut at) = (rng.usize(..backends), draw_time(rng, span));
        let turns = match rng.u8(..3) {
            0 => [Fault::Reload(ConfigEdit::Static(backend)), Fault::Reload(ConfigEdit::Static(backend))],
            _ => [
                Fault::Operate(backend, BackendAction::Pause),
                Fault::Operate(backend, BackendAction::Resume),
            ],
        };
        for fault in turns {
            faults.push((at, fault));
            at += Duration::from_secs(rng.u64(10..60));
        }
        let server = rng.usize(..backends);
        change_then_fail(rng, server, backends, at, faults);
    }
    if rng.bool() {
        faults.push((draw_time(rng, span), Fault::CutProber));
    }
}

/// Makes VPP's stats readable, except at times at which VPP is lost and found again.
fn stats_failures(rng: &mut Rng, _: &ConfigModel, span: Duration, faults: &mut TimedFaults) {
    if rng.u8(..4) == 0 {
        return;
    }
    faults.push((Duration::ZERO, Fault::Initial(InitialSetting::Stats)));
    if rng.u8(..4) == 0 {
        faults.push((Duration::ZERO, Fault::Initial(InitialSetting::Contained)));
    }
    for _ in 0..rng.usize(1..4) {
        let at = draw_time(rng, span);
        let seconds = Duration::from_secs;
        let (dark, delay) = ([2, 20, 60][rng.usize(..3)], [0, 100, 3000][rng.usize(..3)]);
        faults.push((at, Fault::FailStats(seconds(dark), Duration::from_millis(delay))));
        let lost = match rng.u8(..4) {
            0 => Fault::CutVpp,
            1 => Fault::HangVpp(seconds([4, 7][rng.usize(..2)])),
            _ => Fault::RestartVpp(None, seconds(rng.u64(..8))),
        };
        let lost_at = at + Duration::from_millis(rng.u64(..2000));
        faults.push((lost_at, lost));
        if rng.bool() {
            let fault = Fault::Reload(ConfigEdit::Frontend(rng.usize(..3)));
            faults.push((lost_at + Duration::from_millis(rng.u64(..8000)), fault));
        }
        if rng.bool() {
            faults.push((lost_at + seconds(rng.u64(30..90)), Fault::CutVpp));
        }
    }
}

/// Sets other intervals between comparisons with VPP, and makes VPP reject requests for longer.
fn sync_intervals(rng: &mut Rng, model: &ConfigModel, span: Duration, faults: &mut TimedFaults) {
    if rng.bool() {
        return;
    }
    let another = |rng: &mut Rng| ConfigEdit::SyncInterval([1, 60, 300, 300][rng.usize(..4)]);
    faults.push((Duration::ZERO, Fault::Initial(InitialSetting::File(another(rng)))));
    for _ in 0..rng.usize(..4) {
        let at = draw_time(rng, span);
        faults.push((at, Fault::Reload(another(rng))));
        if rng.bool() {
            faults.push((draw_time(rng, span), Fault::ChangeVppExternally(ExternalChange::draw(rng))));
        }
        if rng.bool() {
            let fault = Fault::Reload(ConfigEdit::SyncInterval(1));
            faults.push((at + Duration::from_secs(rng.u64(..60)), fault));
        }
    }
    for _ in 0..rng.usize(..3) {
        let (mut at, server) = (draw_time(rng, span), rng.usize(..model.backends.len()));
        let request = REQUESTS[rng.usize(..REQUESTS.len()).saturating_sub(2)];
        let time = Duration::from_secs([20, 70, 150][rng.usize(..3)]);
        faults.push((at, Fault::RejectVppRequestsFor(request, time)));
        at += Duration::from_secs(rng.u64(..9));
        faults.push((at, Fault::Server(server, ServerState::Refuses)));
        let well = ServerState::Healthy(Duration::from_millis(20));
        faults.push((at + Duration::from_secs(rng.u64(250..400)), Fault::Server(server, well)));
    }
}

/// Blocks all probes over a start of `maglevd`, for longer than its startup delay, beside a backend that needs no probe.
fn blind_starts(rng: &mut Rng, model: &ConfigModel, span: Duration, faults: &mut TimedFaults) {
    if rng.bool() {
        return;
    }
    let backend = rng.usize(..model.backends.len());
    faults.push((Duration::ZERO, Fault::Initial(InitialSetting::File(ConfigEdit::Static(backend)))));
    let seconds = Duration::from_secs;
    for _ in 0..rng.usize(1..4) {
        let at = draw_time(rng, span);
        faults.push((at, Fault::BlockProbes(seconds([10, 30, 90][rng.usize(..3)]))));
        let start = match rng.u8(..3) {
            0 => Fault::StopController(seconds(1)),
            1 => Fault::CrashController(None, seconds(1)),
            _ => Fault::Upgrade(seconds(1)),
        };
        faults.push((at + seconds(rng.u64(..4)), start));
    }
}

/// Moves backends to other servers, all at once or some, also while the prober is blind or `maglevd` does not run.
fn replaced_servers(rng: &mut Rng, model: &ConfigModel, span: Duration, faults: &mut TimedFaults) {
    if rng.bool() {
        return;
    }
    let all = u8::MAX >> (8 - model.backends.len().min(8));
    let seconds = Duration::from_secs;
    for _ in 0..rng.usize(1..4) {
        let mut at = draw_time(rng, span);
        let moved = if rng.bool() { all } else { rng.u8(1..=all) };
        match rng.u8(..6) {
            0 => faults.push((at, Fault::BlockProbes(seconds(rng.u64(2..20))))),
            1 => faults.push((at, Fault::CrashProber(None, seconds(rng.u64(1..20))))),
            2 => faults.push((at, Fault::StopController(seconds(rng.u64(2..20))))),
            3 => faults.push((at, Fault::CrashController(Some(rng.u64(..40)), seconds(1)))),
            _ => {}
        }
        at += Duration::from_millis(rng.u64(..1500));
        faults.push((at, Fault::Reload(ConfigEdit::Move(moved))));
        if rng.bool() {
            at += Duration::from_millis(rng.u64(..9000));
            let backend = rng.usize(..model.backends.len());
            let next = match rng.u8(..4) {
                0 => Fault::Server(backend, ServerState::Refuses),
                1 => Fault::RestartVpp(None, seconds(rng.u64(..4))),
                2 => Fault::StopController(seconds(1)),
                _ => Fault::Reload(ConfigEdit::Move(rng.u8(1..=all))),
            };
            faults.push((at, next));
            let well = ServerState::Healthy(Duration::from_millis(20));
            faults.push((at + seconds(rng.u64(20..60)), Fault::Server(backend, well)));
        }
    }
}

/// Withdraws the routes to servers, one by one or together, also over a start of a daemon.
fn withdrawn_routes(rng: &mut Rng, model: &ConfigModel, span: Duration, faults: &mut TimedFaults) {
    if rng.bool() {
        return;
    }
    let seconds = Duration::from_secs;
    for _ in 0..rng.usize(1..4) {
        let mut at = draw_time(rng, span);
        let time = seconds([5, 60, 120][rng.usize(..3)]);
        for _ in 0..rng.usize(1..3) {
            faults.push((at, Fault::WithdrawRoute(rng.usize(..model.backends.len()), time)));
            at += Duration::from_millis(rng.u64(..300));
        }
        at += seconds(rng.u64(..90));
        match rng.u8(..6) {
            0 => faults.push((at, Fault::StopController(seconds(1)))),
            1 => faults.push((at, Fault::CrashController(None, seconds(1)))),
            2 => faults.push((at, Fault::CrashProber(None, seconds(1)))),
            3 => faults.push((at, Fault::BlockProbes(seconds(10)))),
            _ => {}
        }
    }
}
