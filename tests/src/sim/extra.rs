//! What the simulation learnt to draw later: from streams of their own, so that what a seed drew before stays what it was, and
//! a seed that has failed once is still the same run.
//!
//! A new stream comes last: the deeds of a seed are known by their place.

use std::time::Duration;

use fastrand::Rng;
use maglev_core::health::Action;

use super::script::{Deed, Setting};
use super::shape::Edit;

/// What happens, and when.
type Deeds = Vec<(Duration, Deed)>;

/// A stream: what it adds to a run of this length.
type Stream = fn(&mut Rng, Duration, &mut Deeds);

/// All streams, and what tells each from the others.
const STREAMS: [(u64, Stream); 3] =
    [(0x7715_0000_0000_0000, twins), (0x1137_0000_0000_0000, room), (0x57a7_0000_0000_0000, stats)];

/// All that is added to the deeds of a seed, the last of which is so far from the beginning.
pub fn draw(seed: u64, span: Duration) -> Deeds {
    let mut deeds = Vec::new();
    for (tag, stream) in STREAMS {
        stream(&mut Rng::with_seed(seed ^ tag), span, &mut deeds);
    }
    deeds
}

/// A time of the run.
fn sometime(rng: &mut Rng, span: Duration) -> Duration {
    Duration::from_millis(rng.u64(..=span.as_millis() as u64))
}

/// Two backends of one server, with equal checks.
fn twins(rng: &mut Rng, span: Duration, deeds: &mut Deeds) {
    if rng.bool() {
        return;
    }
    let (one, other) = (rng.usize(..6), rng.usize(..6));
    deeds.push((Duration::ZERO, Deed::Begin(Setting::File(Edit::Twins(one, other)))));
    for _ in 0..rng.usize(..4) {
        let deed = match rng.u8(..4) {
            // One of them gets a new check, and the other goes on.
            0..=1 => Deed::Operate(other, [Action::Pause, Action::Resume][rng.usize(..2)]),
            2 => Deed::Reload(Edit::Alone(other)),
            _ => Deed::Reload(Edit::Twins(one, other)),
        };
        deeds.push((sometime(rng, span), deed));
    }
}

/// A prober that takes fewer checks than there are, and changes of how many there are to take.
fn room(rng: &mut Rng, span: Duration, deeds: &mut Deeds) {
    if rng.bool() {
        return;
    }
    deeds.push((Duration::ZERO, Deed::Begin(Setting::MaxChecks(rng.u32(1..6)))));
    for _ in 0..rng.usize(1..8) {
        let backend = rng.usize(..6);
        let deed = match rng.u8(..4) {
            0 => Deed::Operate(backend, [Action::Pause, Action::Resume][rng.usize(..2)]),
            1 => Deed::CutProber,
            _ => Deed::Reload(Edit::Static(backend)),
        };
        deeds.push((sometime(rng, span), deed));
    }
}

/// A VPP whose stats tell since when it runs, but for some times, in which it is lost and found again.
fn stats(rng: &mut Rng, span: Duration, deeds: &mut Deeds) {
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
