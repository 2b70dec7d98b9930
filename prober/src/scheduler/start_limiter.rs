//! The limits on starts: of all probes, and of the probes of one address.

use std::net::IpAddr;
use std::time::Duration;

use maglev_time::TokenBucket;

use super::address_limits::{AddressLimits, Admission};
use super::scheduled_check::ScheduledCheck;
use crate::clock::Nanos;

/// Time whose probes may start at once after a pause, of all addresses together.
const BURST: Duration = Duration::from_millis(50);

/// Maximum numbers of starts a second.
#[derive(Clone, Copy, Debug)]
pub struct StartLimits {
    /// Of all probes.
    pub rate: u32,
    /// Of the probes of one address.
    pub rate_per_address: u32,
}

/// Both limits.
#[derive(Debug)]
pub struct StartLimiter {
    all: TokenBucket,
    addresses: AddressLimits,
    /// Address whose limit delayed a check last.
    delayed_address: Option<IpAddr>,
}

impl StartLimiter {
    /// Returns a limiter with one token for all addresses together, and full buckets for each.
    pub fn new(limits: StartLimits, now: Nanos) -> Self {
        Self {
            all: TokenBucket::new(limits.rate, BURST, Duration::from_nanos(now)).with_tokens(1),
            addresses: AddressLimits::new(limits.rate_per_address),
            delayed_address: None,
        }
    }

    /// Begins an iteration.
    pub fn refill(&mut self, now: Nanos) {
        self.all.refill(Duration::from_nanos(now));
    }

    /// Takes a token of all probes. Returns false if there is none.
    pub const fn take(&mut self) -> bool {
        self.all.take()
    }

    /// Puts back a token of all probes: none has started.
    pub fn refund(&mut self) {
        self.all.refund();
    }

    /// Takes a token of the check's address, unless the check has one. If it is not there yet, delays the check and returns
    /// false.
    pub fn admit<P, F>(&mut self, entry: &mut ScheduledCheck<P, F>, now: Nanos) -> bool {
        if entry.not_before > 0 {
            return true;
        }
        let start = match self.addresses.reserve(entry.check.target, now) {
            Admission::At(start) => {
                entry.not_before = start;
                start
            }
            Admission::Retry(at) => {
                (entry.due, entry.due_fast) = (at, at);
                at
            }
        };
        if start <= now {
            return true;
        }
        entry.is_ready = false;
        self.delayed_address = Some(entry.check.target);
        false
    }

    /// Returns an address whose limit delayed a check since the last call.
    pub const fn take_delayed_address(&mut self) -> Option<IpAddr> {
        self.delayed_address.take()
    }
}
