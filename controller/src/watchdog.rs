//! systemd's watchdog: it ends a `maglevd` that hangs.

use std::future::pending;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::warn;

/// Tells systemd that a loop goes round.
pub struct Watchdog(Option<Interval>);

impl Watchdog {
    /// As systemd asks for it by `WATCHDOG_USEC`; at the start of the loop that is to be watched.
    #[must_use]
    pub fn new() -> Self {
        Self(sd_notify::watchdog_enabled().map(every_half))
    }

    /// Waits until systemd is to hear of us again, and tells it. Forever, if it does not want to.
    pub async fn beat(&mut self) {
        let Some(interval) = &mut self.0 else { return pending().await };
        interval.tick().await;
        if let Err(error) = sd_notify::notify(&[NotifyState::Watchdog]) {
            warn!(%error, "cannot tell systemd");
        }
    }
}

fn every_half(limit: Duration) -> Interval {
    // A limit of nothing is no period to tokio.
    let mut interval = interval((limit / 2).max(Duration::from_millis(1)));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
