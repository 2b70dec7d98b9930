//! Weights for VPP's new-flow table.
//!
//! The plugin fills the table in rounds, with one entry per unit of weight. Shares are exact while the sum of the weights is
//! far below the table's length, and smaller weights make each rebuild cheaper.

pub mod table;

/// Shortest table of a created VIP: the plugin's default.
pub const MIN_TABLE: u32 = 1024;
/// Longest table of a created VIP.
pub const MAX_TABLE: u32 = 1 << 20;

/// Returns the greatest common divisor of the nonzero weights; 1 without one.
#[must_use]
pub fn divisor(weights: impl IntoIterator<Item = u8>) -> u8 {
    match weights.into_iter().fold(0, gcd) {
        0 => 1,
        divisor => divisor,
    }
}

/// Returns the table length for a number of servers and a sum of weights. Rounding then changes no share by more than a
/// percent.
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
    fn divisor_ignores_zero_weights() {
        assert_eq!(divisor([100, 50, 0, 25]), 25);
        assert_eq!(divisor([100, 100]), 100);
        assert_eq!(divisor([7, 100]), 1);
        assert_eq!(divisor([0, 0]), 1);
        assert_eq!(divisor([]), 1);
    }

    #[test]
    fn table_length_is_bounded_power_of_two() {
        assert_eq!(table_length(0, 0), 1024);
        assert_eq!(table_length(10, 10), 1024);
        assert_eq!(table_length(11, 11), 2048);
        assert_eq!(table_length(3, 103), 2048);
        assert_eq!(table_length(300, 300), 32_768);
        assert_eq!(table_length(usize::MAX, u32::MAX), MAX_TABLE);
    }
}
