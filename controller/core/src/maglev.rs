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
/// Most servers of a pool whose weights the table of [`STABLE_TABLE`] holds as they are, with 5 entries per unit.
const EXACT_SERVERS: usize = 32;

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

    /// Returns the scale of a pool with these configured weights. They are divided by 5, unless none is above
    /// [`FULL_UNITS`], or one of up to [`EXACT_SERVERS`] would change by more than a fifth: then they are units.
    ///
    /// Of the divisors from 1 to 25, 5 moves the fewest flows while multiples of 5 stay exact. Pools never share a
    /// table, so each has a scale of its own, and another pool does not change it.
    #[must_use]
    pub fn of_pool(weights: impl IntoIterator<Item = u8>) -> Self {
        let coarse = Self::new(FULL_WEIGHT / FULL_UNITS);
        let (mut greatest, mut count, mut is_distorted) = (0, 0, false);
        for weight in weights {
            greatest = weight.max(greatest);
            count += 1;
            is_distorted |= coarse.distorts(weight);
        }
        let is_exact = greatest <= FULL_UNITS || is_distorted && count <= EXACT_SERVERS;
        if is_exact { Self::new(1) } else { coarse }
    }

    /// Reports whether rounding changes a weight by more than a fifth.
    const fn distorts(self, weight: u8) -> bool {
        self.rounded(weight).abs_diff(weight) as u16 * 5 > weight as u16
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

    /// Returns the weight with exactly the units of this one, at most 150.
    #[must_use]
    pub const fn rounded(self, weight: u8) -> u8 {
        self.units(weight).saturating_mul(self.step)
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
    fn scale_is_coarse_unless_weights_are_small() {
        let step = |weights: &[u8]| WeightScale::of_pool(weights.iter().copied()).step();
        assert_eq!(step(&[100, 50, 0, 25]), step(&[99, 50, 6]));
        assert_eq!(step(&[100; 3]), 5);
        assert_eq!(step(&[21]), 5);
        assert_eq!(step(&[20, 1]), 1);
        assert_eq!(step(&[]), 1);
    }

    #[test]
    fn small_weight_beside_great_one_stays_exact() {
        let is_exact = |small: &u8| WeightScale::of_pool([100, *small]).step() == 1;
        let exact: alloc::vec::Vec<_> = (0..=FULL_WEIGHT).filter(is_exact).collect();
        assert_eq!(exact, [1, 2, 3, 4, 7, 8]);
        let canary = |others: usize| WeightScale::of_pool(core::iter::repeat_n(100, others).chain([1]));
        assert_eq!([canary(31).step(), canary(32).step()], [1, 5]);
    }

    #[test]
    fn exact_weights_have_five_entries_each() {
        for servers in 1..=EXACT_SERVERS {
            let units = u32::try_from(servers).unwrap() * u32::from(FULL_WEIGHT);
            assert!(table_length(servers, None) >= 5 * units, "{servers}");
        }
    }

    #[test]
    fn units_round_and_never_vanish() {
        let scale = WeightScale::new(5);
        let units = [0, 1, 2, 3, 7, 8, 50, 97, 98, 99, 100].map(|weight| scale.units(weight));
        assert_eq!(units, [0, 1, 1, 1, 1, 2, 10, 19, 20, 20, 20]);
        assert_eq!([0, 1, 57, 100].map(|weight| scale.rounded(weight)), [0, 5, 55, 100]);
        assert_eq!(WeightScale::new(40).rounded(100), 120);
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
