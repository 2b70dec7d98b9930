//! Weights for VPP's new-flow table.
//!
//! The plugin fills the table in rounds, with one entry per unit of weight. A change of one server also moves flows between
//! the others: the more, the more units there are for the table's length. Other units for the same shares move nearly all
//! flows. So the scale of weights and the length of the table follow from the configuration alone: overrides and health
//! change neither, and two load balancers with the same configuration have the same ones.

pub mod table;

/// Shortest table of a created VIP: the plugin's default.
pub const MIN_TABLE: u32 = 1024;
/// Longest table of a created VIP.
pub const MAX_TABLE: u32 = 1 << 20;

/// Length beyond which a table only grows for the precision of shares. VPP rebuilds it in about 0.2 ms.
const STABLE_TABLE: u32 = 1 << 14;
/// Units of a server of full weight, unless the configuration has a step of its own.
const FULL_UNITS: u8 = 20;
/// Greatest weight that VPP can get as it is.
const FULL_WEIGHT: u8 = 100;

/// Scale of a pool's weights: the weight that is one unit in VPP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WeightScale {
    step: u8,
}

impl WeightScale {
    /// Returns the scale with that step, 1 to 100.
    #[must_use]
    pub fn new(step: u8) -> Self {
        Self { step: step.clamp(1, FULL_WEIGHT) }
    }

    /// Returns the scale of a pool with these configured weights. Up to [`FULL_UNITS`] they are units; greater ones are
    /// divided by 5, which keeps multiples of 5 exact.
    ///
    /// Of the divisors from 1 to 25, this one moves the fewest flows while multiples of 5 stay exact. Pools never share a
    /// table, so each has a scale of its own, and another pool does not change it.
    #[must_use]
    pub fn of_pool(weights: impl IntoIterator<Item = u8>) -> Self {
        let greatest = weights.into_iter().max().unwrap_or(0);
        Self::new(if greatest <= FULL_UNITS { 1 } else { FULL_WEIGHT / FULL_UNITS })
    }

    /// Returns the weight that is one unit in VPP.
    #[must_use]
    pub const fn step(self) -> u8 {
        self.step
    }

    /// Returns the units of a weight: rounded, and at least 1 for a weight above 0.
    #[must_use]
    pub const fn units(self, weight: u8) -> u8 {
        let whole = weight / self.step;
        let rest = weight % self.step;
        let rounded = if rest >= self.step.div_ceil(2) { whole + 1 } else { whole };
        if rounded == 0 && weight > 0 { 1 } else { rounded }
    }
}

/// Returns the table length for a pool with that number of servers. `step` is the configured one.
///
/// It does not depend on the weights: an edit of one must not ask for another table. Two bounds make it long enough:
/// * 5 entries per unit, and 100 per server: rounding then changes no share by more than a percent;
/// * 8 entries per unit and server, up to [`STABLE_TABLE`]: if a server leaves a pool of up to 10, at most a third more flows
///   move than the server had.
#[must_use]
pub fn table_length(servers: usize, step: Option<u8>) -> u32 {
    let servers = u32::try_from(servers).unwrap_or(u32::MAX);
    let full = step.map_or(FULL_UNITS, |step| WeightScale::new(step).units(FULL_WEIGHT));
    let units = servers.saturating_mul(u32::from(full));
    let precise = units.saturating_mul(5).max(servers.saturating_mul(100));
    let stable = units.saturating_mul(servers).saturating_mul(8).min(STABLE_TABLE);
    let wanted = MIN_TABLE.max(precise).max(stable);
    wanted.checked_next_power_of_two().unwrap_or(MAX_TABLE).min(MAX_TABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scale_depends_on_greatest_weight_only() {
        let step = |weights: &[u8]| WeightScale::of_pool(weights.iter().copied()).step();
        assert_eq!(step(&[100, 50, 0, 25]), step(&[99, 50, 7]));
        assert_eq!(step(&[100; 3]), 5);
        assert_eq!(step(&[21]), 5);
        assert_eq!(step(&[20, 1]), 1);
        assert_eq!(step(&[]), 1);
    }

    #[test]
    fn units_round_and_never_vanish() {
        let scale = WeightScale::new(5);
        let units = [0, 1, 2, 3, 7, 8, 50, 97, 98, 99, 100].map(|weight| scale.units(weight));
        assert_eq!(units, [0, 1, 1, 1, 1, 2, 10, 19, 20, 20, 20]);
        assert_eq!(WeightScale::new(10).units(25), 3);
        assert_eq!(WeightScale::new(10).units(24), 2);
        assert_eq!(WeightScale::new(100).units(1), 1);
        for weight in 0..=FULL_WEIGHT {
            assert_eq!(WeightScale::new(1).units(weight), weight);
        }
    }

    #[test]
    fn units_are_monotonic_for_every_step() {
        for scale in (0..=u8::MAX).map(WeightScale::new) {
            for weight in 0..u8::MAX {
                assert!(scale.units(weight) <= scale.units(weight + 1), "{scale:?} {weight}");
            }
        }
    }

    #[test]
    fn table_length_is_bounded_power_of_two() {
        let lengths = [0, 1, 2, 3, 5, 8, 10, 100, 163, 164, 1000].map(|servers| table_length(servers, None));
        assert_eq!(lengths, [1024, 1024, 1024, 2048, 4096, 16_384, 16_384, 16_384, 16_384, 32_768, 131_072]);
        assert_eq!(table_length(10, Some(100)), 1024);
        assert_eq!(table_length(3, Some(1)), 8192);
        assert_eq!(table_length(100, Some(1)), 65_536);
        assert_eq!(table_length(usize::MAX, Some(1)), MAX_TABLE);
    }
}
