//! The real prober, as an ordinary user with `CAP_NET_RAW`, against real servers on another host.

#![cfg(test)]

mod half_open;
mod http;
mod icmp;
mod keep_alive;
mod local_faults;
mod tcp;
mod tls;

use maglev_lab::controller::TestController;
use maglev_lab::process::Process;
use maglev_lab::test_dir::TestDir;
use maglev_lab::topology::Lab;

/// A lab with a prober, and a controller of that prober.
struct ProberFixture {
    controller: TestController,
    prober: Process,
    dir: TestDir,
    lab: Lab,
}

impl ProberFixture {
    fn new() -> Self {
        Self::with_wrapped_prober(&[])
    }

    /// Starts the prober through `wrapper`.
    fn with_wrapped_prober(wrapper: &[&str]) -> Self {
        let (lab, dir) = (Lab::new(), TestDir::new());
        let prober = dir.unprivileged_prober(&lab.prober, wrapper);
        let controller = TestController::connect(&dir.path("prober.sock"));
        Self { controller, prober, dir, lab }
    }
}
