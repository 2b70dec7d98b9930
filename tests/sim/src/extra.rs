//! What the simulation learnt to draw later: from streams of their own, so that what a seed drew before stays what it was, and
//! a seed that has failed once is still the same run.
//!
//! A new stream comes last: the deeds of a seed are known by their place.

use std::time::Duration;

use fastrand::Rng;
use maglev_core::health::BackendAction;

use super::script::{Deed, Meddling, REQUESTS, Setting};
use super::shape::{Edit, Shape};
use super::truth::Being;

/// What happens, and when.
type Deeds = Vec<(Duration, Deed)>;

/// A stream: what it adds to a run of this length.
type Stream = fn(&mut Rng, &Shape, Duration, &mut Deeds);

/// All streams, and what tells each from the others.
const STREAMS: [(u64, Stream); 4] = [
    (0x7715_0000_0000_0000, twins),
    (0x1137_0000_0000_0000, room),
    (0x57a7_0000_0000_0000, stats),
    (0x5ec0_0000_0000_0000, pauses),
];

/// All that is added to the deeds of a seed, the last of which is so far from the beginning.
pub fn draw(seed: u64, shape: &Shape, span: Duration) -> Deeds {
    let mut deeds = Vec::new();
    for (tag, stream) in STREAMS {
        stream(&mut Rng::with_seed(seed ^ tag), shape, span, &mut deeds);
    }
    deeds
}

/// A time of the run.
fn sometime(rng: &mut Rng, span: Duration) -> Duration {
    Duration::from_millis(rng.u64(..=span.as_millis() as u64))
}

/// Two backends of one server, with equal checks, one of which is asked for anew now and then, and so is younger.
fn twins(rng: &mut Rng, shape: &Shape, span: Duration, deeds: &mut Deeds) {
    let backends = shape.backends.len();
    if rng.bool() {
        return;
    }
    let (one, other) = (rng.usize(..backends), rng.usize(..backends));
    deeds.push((Duration::ZERO, Deed::Begin(Setting::File(Edit::Twins(one, other)))));
    for _ in 0..rng.usize(..4) {
        let mut at = sometime(rng, span);
        let renewed = match rng.u8(..3) {
            0..=1 => {
                [Deed::Operate(other, BackendAction::Pause), Deed::Operate(other, BackendAction::Resume)]
            }
            _ => [Deed::Reload(Edit::Alone(other)), Deed::Reload(Edit::Twins(one, other))],
        };
        for deed in renewed {
            deeds.push((at, deed));
            at += Duration::from_secs(rng.u64(1..6));
        }
        at += Duration::from_secs(rng.u64(10..60));
        dies_after_a_change(rng, one, backends, at, deeds);
    }
}

/// Somebody else's check leaves or comes, and not long after that a server is not well for some time.
fn dies_after_a_change(rng: &mut Rng, server: usize, backends: usize, at: Duration, deeds: &mut Deeds) {
    let action = [BackendAction::Pause, BackendAction::Resume][rng.usize(..2)];
    deeds.push((at, Deed::Operate(rng.usize(..backends), action)));
    let at = at + Duration::from_secs(rng.u64(5..30));
    deeds.push((at, Deed::Server(server, Being::Refuses)));
    let well = Being::Well(Duration::from_millis(20));
    deeds.push((at + Duration::from_secs(rng.u64(20..60)), Deed::Server(server, well)));
}

/// A prober that takes fewer checks than there are, and changes of how many there are to take.
fn room(rng: &mut Rng, shape: &Shape, span: Duration, deeds: &mut Deeds) {
    let backends = shape.backends.len();
    if rng.bool() {
        return;
    }
    let checks = rng.u32(1..=backends as u32);
    deeds.push((Duration::ZERO, Deed::Begin(Setting::MaxChecks(checks))));
    for _ in 0..rng.usize(..4) {
        // It makes room, and takes it back.
        let (backend, mut at) = (rng.usize(..backends), sometime(rng, span));
        let turns = match rng.u8(..3) {
            0 => [Deed::Reload(Edit::Static(backend)), Deed::Reload(Edit::Static(backend))],
            _ => {
                [Deed::Operate(backend, BackendAction::Pause), Deed::Operate(backend, BackendAction::Resume)]
            }
        };
        for deed in turns {
            deeds.push((at, deed));
            at += Duration::from_secs(rng.u64(10..60));
        }
        let server = rng.usize(..backends);
        dies_after_a_change(rng, server, backends, at, deeds);
    }
    if rng.bool() {
        deeds.push((sometime(rng, span), Deed::CutProber));
    }
}

/// A VPP whose stats tell since when it runs, but for some times, in which it is lost and found again.
fn stats(rng: &mut Rng, _: &Shape, span: Duration, deeds: &mut Deeds) {
    if rng.u8(..4) == 0 {
        return;
    }
    deeds.push((Duration::ZERO, Deed::Begin(Setting::Stats)));
    if rng.u8(..4) == 0 {
        deeds.push((Duration::ZERO, Deed::Begin(Setting::Contained)));
    }
    for _ in 0..rng.usize(1..4) {
        let at = sometime(rng, span);
        let seconds = Duration::from_secs;
        let (dark, delay) = ([2, 20, 60][rng.usize(..3)], [0, 100, 3000][rng.usize(..3)]);
        deeds.push((at, Deed::DarkenStats(seconds(dark), Duration::from_millis(delay))));
        let lost = match rng.u8(..4) {
            0 => Deed::CutVpp,
            1 => Deed::HangVpp(seconds([4, 7][rng.usize(..2)])),
            _ => Deed::RestartVpp(None, seconds(rng.u64(..8))),
        };
        let lost_at = at + Duration::from_millis(rng.u64(..2000));
        deeds.push((lost_at, lost));
        if rng.bool() {
            let deed = Deed::Reload(Edit::Frontend(rng.usize(..3)));
            deeds.push((lost_at + Duration::from_millis(rng.u64(..8000)), deed));
        }
        if rng.bool() {
            deeds.push((lost_at + seconds(rng.u64(30..90)), Deed::CutVpp));
        }
    }
}

/// Other pauses between two comparisons with VPP, and a VPP that goes on refusing.
fn pauses(rng: &mut Rng, shape: &Shape, span: Duration, deeds: &mut Deeds) {
    if rng.bool() {
        return;
    }
    let another = |rng: &mut Rng| Edit::SyncInterval([1, 60, 300, 300][rng.usize(..4)]);
    deeds.push((Duration::ZERO, Deed::Begin(Setting::File(another(rng)))));
    for _ in 0..rng.usize(..4) {
        let at = sometime(rng, span);
        deeds.push((at, Deed::Reload(another(rng))));
        if rng.bool() {
            deeds.push((sometime(rng, span), Deed::MeddleVpp(Meddling::draw(rng))));
        }
        if rng.bool() {
            let deed = Deed::Reload(Edit::SyncInterval(1));
            deeds.push((at + Duration::from_secs(rng.u64(..60)), deed));
        }
    }
    for _ in 0..rng.usize(..3) {
        let (mut at, server) = (sometime(rng, span), rng.usize(..shape.backends.len()));
        let request = REQUESTS[rng.usize(..REQUESTS.len()).saturating_sub(2)];
        let time = Duration::from_secs([20, 70, 150][rng.usize(..3)]);
        deeds.push((at, Deed::RefuseVppFor(request, time)));
        at += Duration::from_secs(rng.u64(..9));
        deeds.push((at, Deed::Server(server, Being::Refuses)));
        let well = Being::Well(Duration::from_millis(20));
        deeds.push((at + Duration::from_secs(rng.u64(250..400)), Deed::Server(server, well)));
    }
}
