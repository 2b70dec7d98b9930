//! Times and durations for people.

use std::time::{Duration, SystemTime};

use maglev_proto::{Duration as ProtoDuration, Timestamp};
use maglev_time::TextDuration;

/// Returns the age of `then` in its two largest units, such as `10m30s`; `0s` if the server's clock is ahead.
pub fn age(then: Option<&Timestamp>, now: SystemTime) -> String {
    let Some(then) = then.and_then(|then| SystemTime::try_from(*then).ok()) else { return "-".into() };
    short(now.duration_since(then).unwrap_or_default())
}

/// Returns the time until `then`, in the same form.
pub fn left(then: Option<&Timestamp>, now: SystemTime) -> String {
    let Some(then) = then.and_then(|then| SystemTime::try_from(*then).ok()) else { return "-".into() };
    short(then.duration_since(now).unwrap_or_default())
}

fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes, seconds % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m{s}s"),
        (0, h, m, _) => format!("{h}h{m}m"),
        (d, h, _, _) => format!("{d}d{h}h"),
    }
}

/// Formats a time in UTC, to the second.
pub fn second(at: Option<&Timestamp>) -> String {
    at.map_or_else(|| "-".into(), |at| Timestamp { nanos: 0, ..*at }.to_string())
}

/// Formats a time in UTC, to the millisecond.
pub fn millisecond(at: Option<&Timestamp>) -> String {
    let Some(at) = at else { return "-".into() };
    let second = Timestamp { nanos: 0, ..*at }.to_string();
    format!("{}.{:03}Z", second.trim_end_matches('Z'), at.nanos / 1_000_000)
}

/// Formats a duration, such as `500ms` or `1.2ms`.
pub fn duration(duration: Option<&ProtoDuration>) -> String {
    let Some(duration) = duration.and_then(|duration| Duration::try_from(*duration).ok()) else {
        return "-".into();
    };
    let nanos = duration.as_nanos();
    match nanos {
        0 => "0s".into(),
        _ if nanos % 60_000_000_000 == 0 => format!("{}m", nanos / 60_000_000_000),
        _ if nanos % 1_000_000_000 == 0 => format!("{}s", nanos / 1_000_000_000),
        _ if nanos % 1_000_000 == 0 => format!("{}ms", nanos / 1_000_000),
        1_000_000.. => format!("{:.1}ms", duration.as_secs_f64() * 1e3),
        _ => format!("{}us", nanos / 1_000),
    }
}

/// Parses a duration that a user wrote, such as `30s` or `1h30m`. Zero is invalid.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let TextDuration(duration) = TextDuration::parse(text).ok()?;
    (!duration.is_zero()).then_some(duration)
}

/// Formats a duration in the notation of [`parse_duration`].
pub fn written(duration: Duration) -> String {
    TextDuration(duration).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_two_units() {
        let age = |seconds| {
            let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
            age(Some(&then.into()), then + Duration::from_secs(seconds))
        };
        assert_eq!([0, 59, 60, 630, 3_661, 90_000].map(age), ["0s", "59s", "1m0s", "10m30s", "1h1m", "1d1h"]);
    }

    #[test]
    fn remaining_time_has_two_units() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let left = |seconds| left(Some(&(now + Duration::from_secs(seconds)).into()), now);
        assert_eq!([0, 7_199, 180_000].map(left), ["0s", "1h59m", "2d2h"]);
    }

    #[test]
    fn duration_parses() {
        let cases = [
            ("30s", Some(30)),
            ("10m", Some(600)),
            ("2h", Some(7_200)),
            ("1d", Some(86_400)),
            ("1h30m", Some(5_400)),
            ("1d2h3m4s", Some(93_784)),
            ("90m", Some(5_400)),
            ("", None),
            ("0s", None),
            ("10", None),
            ("s", None),
            ("-1s", None),
            ("+1s", None),
            ("1.5h", Some(5_400)),
            ("1m1h", None),
            ("1h1h", None),
            ("1h 2m", None),
            ("99999999999999999999d", None),
            ("999999999999999999d", None),
        ];
        for (text, seconds) in cases {
            assert_eq!(parse_duration(text), seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn formatted_duration_parses_back() {
        for seconds in [1, 59, 60, 3_600, 5_400, 86_400, 93_784] {
            let duration = Duration::from_secs(seconds);
            assert_eq!(parse_duration(&written(duration)), Some(duration));
        }
        assert_eq!(written(Duration::from_secs(5_400)), "1h30m");
    }

    #[test]
    fn future_time_has_age_zero() {
        let ahead = Timestamp { seconds: 10, nanos: 0 };
        assert_eq!(age(Some(&ahead), SystemTime::UNIX_EPOCH), "0s");
        assert_eq!(age(None, SystemTime::UNIX_EPOCH), "-");
    }

    #[test]
    fn times_are_utc() {
        let at = Timestamp { seconds: 1_795_349_400, nanos: 45_600_000 };
        assert_eq!(second(Some(&at)), "2026-11-22T12:10:00Z");
        assert_eq!(millisecond(Some(&at)), "2026-11-22T12:10:00.045Z");
    }

    #[test]
    fn duration_format_is_short() {
        let duration = |nanos| duration(Some(&Duration::from_nanos(nanos).try_into().unwrap()));
        let nanos = [0, 120_000, 1_234_567, 500_000_000, 2_000_000_000, 60_000_000_000, 1_500_000_000];
        assert_eq!(nanos.map(duration), ["0s", "120us", "1.2ms", "500ms", "2s", "1m", "1500ms"]);
    }
}
