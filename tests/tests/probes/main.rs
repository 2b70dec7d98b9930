//! The real prober, as an ordinary user with `CAP_NET_RAW`, against real servers on another host.

#![cfg(test)]

mod half_open;
mod http;
mod icmp;
mod keep_alive;
mod local_faults;
mod tcp;
mod tls;

use maglev_lab::controller::Controller;
use maglev_lab::test_dir::Place;
use maglev_lab::process::Process;
use maglev_lab::topology::Lab;

/// A lab with a prober, and a controller of that prober.
struct Bench {
    controller: Controller,
    prober: Process,
    place: Place,
    lab: Lab,
}

impl Bench {
    fn new() -> Self {
        Self::with_prober_in(&[])
    }

    /// Starts the prober through `wrapper`.
    fn with_prober_in(wrapper: &[&str]) -> Self {
        let (lab, place) = (Lab::new(), Place::new());
        let prober = place.humble_prober(&lab.prober, wrapper);
        let controller = Controller::connect(&place.path("prober.sock"));
        Self { controller, prober, place, lab }
    }
}
