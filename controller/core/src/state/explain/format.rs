//! Formatting of explanations.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;
use core::time::Duration;

use maglev_time::TextDuration;

use crate::time::{Now, WallTime};

/// An age in its two largest units, such as `10m30s`.
#[derive(Clone, Copy, Debug)]
pub struct Age(pub Duration);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
        match (days, hours, minutes, seconds % 60) {
            (0, 0, 0, 0) => write!(f, "{}ms", self.0.as_millis()),
            (0, 0, 0, s) => write!(f, "{s}s"),
            (0, 0, m, s) => write!(f, "{m}m{s}s"),
            (0, h, m, _) => write!(f, "{h}h{m}m"),
            (d, h, ..) => write!(f, "{d}d{h}h"),
        }
    }
}

/// Returns the time since `since`; zero if the clock was set back.
pub fn age(since: WallTime, now: Now) -> Age {
    Age(now.wall - since)
}

/// Returns a reason in brackets, if there is one.
pub fn in_brackets(reason: Option<&str>) -> String {
    reason.map_or_else(String::new, |reason| format!(" ({reason})"))
}

/// Returns a waiting time, rounded up so that it never ends too early.
pub fn until(wait: Duration) -> TextDuration {
    let rounded = if wait < Duration::from_secs(1) {
        Duration::from_millis(u64::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(u64::MAX))
    } else {
        Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
    };
    TextDuration(rounded)
}

/// Returns the first few items, and the number of the others.
pub fn list<T: fmt::Display>(things: impl IntoIterator<Item = T>) -> String {
    const SHOWN: usize = 4;
    let mut text = String::new();
    let mut more = 0;
    for (index, thing) in things.into_iter().enumerate() {
        match index {
            0 => text = thing.to_string(),
            1..SHOWN => text = alloc::format!("{text}, {thing}"),
            _ => more += 1,
        }
    }
    if more == 0 { text } else { alloc::format!("{text} and {more} more") }
}

/// `a is known`, `a, b are known`.
pub fn known<T: fmt::Display>(things: impl Iterator<Item = T> + Clone) -> String {
    let verb = if things.clone().nth(1).is_none() { "is" } else { "are" };
    alloc::format!("{} {verb} known", list(things))
}

/// `1 pass`, `2 passes`.
pub fn count(number: u32, one: &str, many: &str) -> String {
    alloc::format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_has_two_units() {
        let age = |ms| Age(Duration::from_millis(ms)).to_string();
        assert_eq!([age(0), age(999), age(59_999)], ["0ms", "999ms", "59s"]);
        assert_eq!([age(630_000), age(11_100_000), age(187_200_000)], ["10m30s", "3h5m", "2d4h"]);
    }

    #[test]
    fn wait_rounds_up() {
        let wait = |us| until(Duration::from_micros(us)).to_string();
        assert_eq!([wait(0), wait(400), wait(999_000), wait(1_000_001)], ["0s", "1ms", "999ms", "2s"]);
    }

    #[test]
    fn list_shows_four_items() {
        assert_eq!(list::<&str>([]), "");
        assert_eq!(list(["a", "b"]), "a, b");
        assert_eq!([known(["a"].iter()), known(["a", "b"].iter())], ["a is known", "a, b are known"]);
        assert_eq!(list(["a", "b", "c", "d", "e", "f"]), "a, b, c, d and 2 more");
    }
}
