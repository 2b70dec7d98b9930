//! Lost packets.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use maglev_lab::faulty_link::FaultyLink;
use maglev_lab::packets::until;
use maglev_lab::skip;
use maglev_lab::topology::Lab;
use maglev_proto::v1::BackendState;

use crate::{FaultFixture, add_servers, recovery, uniform_backends};

const RISE: u32 = 2;
const FALL: u32 = 3;
/// Counter of a backend without failures.
const TOP: u32 = RISE + FALL - 1;
/// The timeout is generous, so only lost packets fail.
const PING: &str =
    "    ping: { type: icmp, interval: 50ms, fast-interval: 20ms, timeout: 2s, rise: 2, fall: 3 }\n";

/// Drops a request with probability `first`, and after a drop with `next`, unless that would take a backend down. Counts the
/// drops.
fn lose(link: &FaultyLink, first: f64, next: f64) -> Arc<AtomicUsize> {
    let lost = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&lost);
    let mut counters: BTreeMap<IpAddr, (u32, bool)> = BTreeMap::new();
    link.set_rule(move |packet, random| {
        if !packet.is_echo() {
            return vec![packet.forward()];
        }
        let (counter, is_lost) = counters.entry(packet.to).or_insert((TOP, false));
        *is_lost = random.f64() < if *is_lost { next } else { first } && *counter > RISE;
        if *is_lost {
            *counter -= 1;
            count.fetch_add(1, Ordering::Relaxed);
            return Vec::new();
        }
        *counter = TOP.min(*counter + 1);
        vec![packet.forward()]
    });
    lost
}

#[test]
fn loss_below_fall_changes_nothing() {
    if skip("loss_below_fall_changes_nothing", &[]) {
        return;
    }
    let lab = Lab::new();
    let link = FaultyLink::install(&lab, 1);
    let backends = uniform_backends(&add_servers(&lab, 25), "ping");
    // Threshold 0 disables mass-failure detection.
    let mut fixture = FaultFixture::new(lab, 0, PING, backends);
    fixture.settle();
    for (first, next, enough) in [(0.01, 0.01, 15), (0.1, 0.1, 60), (0.3, 0.3, 120), (0.05, 0.9, 120)] {
        // A timeout while this host had stopped the prober is a local fault.
        let failed = |fixture: &FaultFixture| fixture.probes(None, &["L4TOUT", "LOCAL"]);
        let before = failed(&fixture);
        let lost = lose(&link, first, next);
        let count = || lost.load(Ordering::Relaxed);
        until(|| count() >= enough, || format!("{} are lost, not {enough}", count()));
        link.clear_rule();
        // The last drops also time out. Until then a backend still looks well.
        until(
            || failed(&fixture) - before >= count() as f64,
            || "a lost packet did not fail its probe".to_owned(),
        );
        fixture.flush_outcomes();
        fixture.assert_unchanged_except(&[]);
        // Passes raise all counters to the maximum again.
        let below = |name: &String| fixture.maglevd.backend(name).counter < TOP;
        until(
            || !fixture.backends.iter().any(|(name, ..)| below(name)),
            || "counters do not recover".to_owned(),
        );
    }

    let victim = fixture.backends[0].1;
    link.set_rule(
        move |packet, _| if packet.server() == victim { Vec::new() } else { vec![packet.forward()] },
    );
    fixture.maglevd.until_backend("b0", BackendState::Down);
    fixture.until_weights(|name| 20 * u8::from(name != "b0"));
    fixture.until_outcome("b0", "L4TOUT");
    link.clear_rule();
    recovery("all packets of one backend are lost", || fixture.until_weights(|_| 20));
    fixture.assert_unchanged_except(&["b0"]);
}
