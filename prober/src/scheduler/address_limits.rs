//! The limit on probes of one address.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::clock::Nanos;

/// Time whose probes of one address may start at once after a pause.
const BURST: Nanos = 1_000_000_000;
/// Longest delay of a reservation. Beyond it a check asks again, so that reservations of removed checks are bounded.
const MAX_DELAY: Nanos = 10_000_000_000;
/// Smallest number of entries before the first clean-up.
const MIN_ENTRIES: usize = 512;

/// A token bucket for each target address, as the time at which it is full (the theoretical arrival time of the GCRA).
///
/// A full bucket has no entry, so an address costs memory for as long after a probe as its token takes to come back. The
/// entries depend on no set of checks: a controller that replaces its set gains nothing.
#[derive(Debug)]
pub struct AddressLimits {
    /// Time that a token takes.
    spacing: Nanos,
    full_at: HashMap<IpAddr, Nanos>,
    /// Number of entries at which full buckets are removed.
    clean_at: usize,
}

/// Answer to a request for a start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Admission {
    /// The probe may start at this time. It has its token.
    At(Nanos),
    /// Too many wait already: ask again at this time.
    Retry(Nanos),
}

impl AddressLimits {
    /// Returns full buckets of `rate` tokens a second.
    pub fn new(rate: u32) -> Self {
        Self {
            spacing: 1_000_000_000_u64.div_ceil(rate.max(1).into()),
            full_at: HashMap::with_capacity(2 * MIN_ENTRIES),
            clean_at: MIN_ENTRIES,
        }
    }

    /// Takes a token for a probe of `address`, which may not be there yet.
    pub fn reserve(&mut self, address: IpAddr, now: Nanos) -> Admission {
        if self.full_at.len() >= self.clean_at {
            self.full_at.retain(|_, at| *at > now);
            self.clean_at = MIN_ENTRIES.max(2 * self.full_at.len());
        }
        let full_at = self.full_at.entry(address).or_insert(now);
        let next = (*full_at).max(now) + self.spacing;
        let start = next.saturating_sub(BURST.max(self.spacing)).max(now);
        if start > now + MAX_DELAY {
            return Admission::Retry(now + MAX_DELAY);
        }
        *full_at = next;
        Admission::At(start)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(0xc000_0200 + number).into()
    }

    #[test]
    fn burst_starts_at_once_before_rate_applies() {
        let mut limits = AddressLimits::new(4);
        let starts: Vec<_> = (0..6).map(|_| limits.reserve(address(1), SECOND)).collect();
        let at = |quarters: u64| Admission::At(SECOND + quarters * SECOND / 4);
        assert_eq!(starts, [at(0), at(0), at(0), at(0), at(1), at(2)]);
        assert_eq!(limits.reserve(address(2), SECOND), at(0), "another address");
        assert_eq!(limits.reserve(address(1), 4 * SECOND), Admission::At(4 * SECOND));
    }

    #[test]
    fn reservations_end_at_longest_delay() {
        let mut limits = AddressLimits::new(1);
        let starts: Vec<_> = (0..100).map(|_| limits.reserve(address(1), 0)).collect();
        assert_eq!(starts[10], Admission::At(10 * SECOND));
        assert!(starts[11..].iter().all(|start| *start == Admission::Retry(10 * SECOND)));
        assert_eq!(limits.reserve(address(1), 10 * SECOND), Admission::At(11 * SECOND));
    }

    /// Addresses that are probed once a second are at rest for most of it.
    #[test]
    fn full_buckets_take_no_memory() {
        let mut limits = AddressLimits::new(200);
        for second in 0..3 {
            for number in 0..100_000_u32 {
                limits.reserve(address(number), second * SECOND + u64::from(number) * 10_000);
            }
            // A token takes 5 ms to come back, in which 500 addresses are probed. Clean-ups wait for twice as many.
            assert!(limits.full_at.len() <= 2 * 500, "{}", limits.full_at.len());
        }
    }

    proptest! {
        #[test]
        fn no_window_exceeds_burst_and_rate(
            rate in 1_u32..1000,
            steps in proptest::collection::vec((0_u64..500, 1_u32..20), 1..30),
        ) {
            let (mut limits, mut now, mut starts) = (AddressLimits::new(rate), 0, Vec::new());
            for (step, probes) in steps {
                now += step * 1_000_000;
                starts.extend((0..probes).filter_map(|_| match limits.reserve(address(1), now) {
                    Admission::At(at) => Some(at),
                    Admission::Retry(_) => None,
                }));
            }
            prop_assert!(starts.is_sorted());
            for (first, from) in starts.iter().enumerate() {
                for (last, to) in starts.iter().enumerate().skip(first) {
                    let most = f64::from(rate) * ((to - from) as f64 / 1e9 + 1.0);
                    prop_assert!((last - first + 1) as f64 <= most.max(1.0) + 1e-3);
                }
            }
        }
    }
}
