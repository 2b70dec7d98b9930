//! Durations as users write them: `500ms`, `2s`, `1m30s`, `1h`.

use alloc::format;
use alloc::string::String;
use core::fmt;
use core::time::Duration;

/// A duration with the notation of the file: whole numbers with units, each unit at most once, the largest first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Span(pub Duration);

/// The units in milliseconds, the largest first.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl Span {
    /// Reads what [`Display`](fmt::Display) writes, and what else means the same (`90s`, `0m5s`).
    ///
    /// # Errors
    /// What is wrong with `text`, in words for the person who wrote it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("{text:?} is a duration without a unit: write {text}s for seconds"));
        }
        let malformed = || format!("{text:?} is no duration: write it like 500ms, 2s, 1m30s or 1h");
        let too_long = || format!("{text:?} is too long a duration");

        let mut rest = text;
        let mut units = UNITS.iter();
        let mut total = 0_u64;
        while !rest.is_empty() || text.is_empty() {
            let (number, after) = split(rest, |b| b.is_ascii_digit());
            let (unit, after) = split(after, |b| b.is_ascii_alphabetic());
            // Going on from the last unit found: a unit cannot come twice, nor after a smaller one.
            let (_, scale) = units.find(|(name, _)| *name == unit).ok_or_else(malformed)?;
            if number.is_empty() {
                return Err(malformed());
            }
            // Only digits are left to it, so that the one thing that can fail is the size.
            let number: u64 = number.parse().map_err(|_| too_long())?;
            total = number.checked_mul(*scale).and_then(|ms| total.checked_add(ms)).ok_or_else(too_long)?;
            rest = after;
        }
        Ok(Self(Duration::from_millis(total)))
    }
}

impl fmt::Display for Span {
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

/// The longest prefix whose bytes are all `wanted`, and the rest.
fn split(text: &str, wanted: fn(u8) -> bool) -> (&str, &str) {
    let end = text.bytes().position(|b| !wanted(b)).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_meant() {
        for (text, ms) in [
            ("0s", 0),
            ("0ms", 0),
            ("500ms", 500),
            ("2s", 2000),
            ("90s", 90_000),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
            ("1h1ms", 3_600_001),
            ("18446744073709551615ms", u64::MAX),
        ] {
            assert_eq!(Span::parse(text), Ok(Span(Duration::from_millis(ms))), "{text}");
        }
    }

    #[test]
    fn a_number_needs_its_unit() {
        let error = Span::parse("30").unwrap_err();
        assert_eq!(error, "\"30\" is a duration without a unit: write 30s for seconds");
    }

    #[test]
    fn nothing_else_is_a_duration() {
        for text in [
            "", " ", "s", "-1s", "+1s", "1.5s", "1 s", "2s ", "1d", "1s1s", "1s1m", "1ms1s", "2S", "1h\u{b5}",
        ] {
            let error = Span::parse(text).unwrap_err();
            assert!(error.ends_with("is no duration: write it like 500ms, 2s, 1m30s or 1h"), "{error}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for text in
            ["18446744073709551616ms", "18446744073709551615s", "5124095576030h18446744073709551615ms"]
        {
            assert_eq!(Span::parse(text), Err(format!("{text:?} is too long a duration")));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*|[0-9hms]{0,30}") {
            let _ = Span::parse(&text);
        }

        #[test]
        fn reading_undoes_writing(ms: u64) {
            let span = Span(Duration::from_millis(ms));
            prop_assert_eq!(Span::parse(&span.to_string()), Ok(span));
        }
    }
}
