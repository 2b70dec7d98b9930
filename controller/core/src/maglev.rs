//! Weights as VPP's new-flow table wants them.
//!
//! The plugin spends one entry of the table per unit of weight, then deals the rest out in turn. So shares are exact
//! as long as the sum of the weights stays well below the table's length, and the smaller the weights, the cheaper
//! each rebuild.

pub mod table;

/// The shortest table that a VIP is created with: the plugin's own default.
pub const MIN_TABLE: u32 = 1024;
/// The longest table that a VIP is created with.
pub const MAX_TABLE: u32 = 1 << 20;

/// The greatest common divisor of the weights that are not 0; 1 if all are.
#[must_use]
pub fn divisor(weights: impl IntoIterator<Item = u8>) -> u8 {
    match weights.into_iter().fold(0, gcd) {
        0 => 1,
        divisor => divisor,
    }
}

/// The length of the table for so many servers and so large a sum of weights: enough that rounding moves no share by
/// more than a percent.
#[must_use]
pub fn table_length(servers: usize, sum: u32) -> u32 {
    let servers = u32::try_from(servers).unwrap_or(u32::MAX);
    let wanted = MIN_TABLE.max(servers.saturating_mul(100)).max(sum.saturating_mul(10));
    wanted.checked_next_power_of_two().unwrap_or(MAX_TABLE).min(MAX_TABLE)
}

const fn gcd(a: u8, b: u8) -> u8 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_divisor_passes_over_zeroes() {
        assert_eq!(divisor([100, 50, 0, 25]), 25);
        assert_eq!(divisor([100, 100]), 100);
        assert_eq!(divisor([7, 100]), 1);
        assert_eq!(divisor([0, 0]), 1);
        assert_eq!(divisor([]), 1);
    }

    #[test]
    fn the_table_is_a_power_of_two_within_its_bounds() {
        assert_eq!(table_length(0, 0), 1024);
        assert_eq!(table_length(10, 10), 1024);
        assert_eq!(table_length(11, 11), 2048);
        assert_eq!(table_length(3, 103), 2048);
        assert_eq!(table_length(300, 300), 32_768);
        assert_eq!(table_length(usize::MAX, u32::MAX), MAX_TABLE);
    }
}
