//! The notation of durations.

use alloc::format;
use alloc::string::String;
use core::fmt;
use core::time::Duration;

/// A duration in the notation of the configuration, the command lines and `maglevc`, such as `1m30s`.
///
/// The notation is numbers with the units `d`, `h`, `m`, `s` and `ms`. Each unit stands at most once, the largest
/// first, and the last number may have a fraction: `1.5s` is `1s500ms`. [`Display`](fmt::Display) writes the shortest form and drops fractions of a millisecond.
///
/// ```
/// use core::time::Duration;
/// use maglev_time::TextDuration;
///
/// assert_eq!(TextDuration::parse("90s")?.to_string(), "1m30s");
/// assert_eq!(TextDuration::parse("1d500ms")?, TextDuration(Duration::from_millis(86_400_500)));
/// assert!(TextDuration::parse("30").unwrap_err().contains("write 30s"));
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct TextDuration(pub Duration);

/// The units in milliseconds, the largest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl TextDuration {
    /// Parses the output of [`Display`](fmt::Display) and its longer equivalents, such as `90s` or `0m5s`.
    ///
    /// # Errors
    /// A description of the mistake in `text`, for its author.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("{text:?} is a duration without a unit: write {text}s for seconds"));
        }
        let malformed = || format!("{text:?} is not a duration: write it like 500ms, 2s, 1m30s or 1h");
        let too_long = || format!("{text:?} is too long a duration");

        let mut rest = text;
        let mut units = UNITS.iter();
        let mut total = 0_u64;
        while !rest.is_empty() || text.is_empty() {
            let (number, after) = split(rest, |b| b.is_ascii_digit());
            let (fraction, after) = match after.strip_prefix('.') {
                Some(after) => split(after, |b| b.is_ascii_digit()),
                None => ("0", after),
            };
            let (unit, after) = split(after, |b| b.is_ascii_alphabetic());
            // The iterator continues after the last unit found, so a unit can neither repeat nor follow a smaller one.
            let (_, scale) = units.find(|(name, _)| *name == unit).ok_or_else(malformed)?;
            let is_last = after.is_empty() || fraction == "0";
            if number.is_empty() || fraction.is_empty() || !is_last {
                return Err(malformed());
            }
            // The text is all digits, so overflow is the only possible error.
            let number: u64 = number.parse().map_err(|_| too_long())?;
            let part = part_of(*scale, fraction)
                .ok_or_else(|| format!("{text:?} is not a whole number of milliseconds"))?;
            let whole = number.checked_mul(*scale).and_then(|ms| total.checked_add(ms));
            total = whole.and_then(|ms| ms.checked_add(part)).ok_or_else(too_long)?;
            rest = after;
        }
        Ok(Self(Duration::from_millis(total)))
    }
}

impl fmt::Display for TextDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_millis();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (name, scale) in UNITS {
            let scale = u128::from(scale);
            if rest >= scale {
                write!(f, "{}{name}", rest / scale)?;
                rest %= scale;
            }
        }
        Ok(())
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for TextDuration {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DurationVisitor;
        impl serde::de::Visitor<'_> for DurationVisitor {
            type Value = TextDuration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as 500ms or 1m30s")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<TextDuration, E> {
                TextDuration::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(DurationVisitor)
    }
}

/// Returns the decimal fraction `digits` of `scale`; `None` if that is not a whole number.
fn part_of(scale: u64, digits: &str) -> Option<u64> {
    let digits = digits.trim_end_matches('0');
    let denominator = 10_u64.checked_pow(u32::try_from(digits.len()).ok()?)?;
    let numerator = if digits.is_empty() { 0 } else { digits.parse::<u64>().ok()? };
    let product = numerator.checked_mul(scale)?;
    product.is_multiple_of(denominator).then(|| product / denominator)
}

/// Splits `text` after its longest prefix of bytes that match `predicate`.
fn split(text: &str, predicate: fn(u8) -> bool) -> (&str, &str) {
    let end = text.bytes().position(|b| !predicate(b)).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parse_sums_the_units() {
        for (text, ms) in [
            ("0s", 0),
            ("0ms", 0),
            ("500ms", 500),
            ("2s", 2000),
            ("90s", 90_000),
            ("1m30s", 90_000),
            ("0m5s", 5000),
            ("1h", 3_600_000),
            ("1h1ms", 3_600_001),
            ("1d", 86_400_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("18446744073709551615ms", u64::MAX),
            ("1.5s", 1500),
            ("1.50s", 1500),
            ("0.001s", 1),
            ("1.5h", 5_400_000),
            ("1h0.25m", 3_615_000),
            ("2.0ms", 2),
        ] {
            assert_eq!(TextDuration::parse(text), Ok(TextDuration(Duration::from_millis(ms))), "{text}");
        }
    }

    #[test]
    fn number_without_unit_suggests_seconds() {
        let error = TextDuration::parse("30").unwrap_err();
        assert_eq!(error, "\"30\" is a duration without a unit: write 30s for seconds");
    }

    #[test]
    fn malformed_text_is_rejected() {
        for text in [
            "", " ", "s", "-1s", "+1s", ".5s", "1.s", "1.5m1s", "1.5", "1..5s", "1 s", "2s ", "1w", "1s1s",
            "1s1m", "1ms1s", "1h1d", "2S", "1h\u{b5}",
        ] {
            let error = TextDuration::parse(text).unwrap_err();
            assert!(error.ends_with("is not a duration: write it like 500ms, 2s, 1m30s or 1h"), "{error}");
        }
    }

    #[test]
    fn fraction_finer_than_a_millisecond_is_rejected() {
        for text in ["0.0001s", "1.5ms", "0.3333333333333333333333h", "1.00000000000000000000000001s"] {
            let error = TextDuration::parse(text).unwrap_err();
            assert!(error.ends_with("is not a whole number of milliseconds"), "{error}");
        }
    }

    #[test]
    fn overflow_is_rejected() {
        for text in
            ["18446744073709551616ms", "18446744073709551615s", "5124095576030h18446744073709551615ms"]
        {
            assert_eq!(TextDuration::parse(text), Err(format!("{text:?} is too long a duration")));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC*|[0-9dhms.]{0,30}") {
            let _ = TextDuration::parse(&text);
        }

        #[test]
        fn parse_reverses_display(ms: u64) {
            let duration = TextDuration(Duration::from_millis(ms));
            prop_assert_eq!(TextDuration::parse(&duration.to_string()), Ok(duration));
        }
    }
}
