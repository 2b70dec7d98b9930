//! The rise/fall counter: the part of a backend's health that follows from probe verdicts alone.

use super::{Health, Thresholds};

/// The rise/fall counter of one backend, with HAProxy's semantics.
///
/// ```
/// use maglev_core::health::{Health, RiseFall, Thresholds};
///
/// let mut counter = RiseFall::new(Thresholds { rise: 2, fall: 3 });
/// // The first verdict decides for a backend that VPP does not serve.
/// let mut health = counter.next_state(Health::Unknown, true, false);
/// assert_eq!((health, counter.value()), (Health::Up, 4));
/// // Up to down takes `fall` failures in a row.
/// for _ in 0..2 {
///     health = counter.next_state(health, false, false);
///     assert_eq!(health, Health::Up);
/// }
/// health = counter.next_state(health, false, false);
/// assert_eq!((health, counter.value()), (Health::Down, 0));
/// // Down to up takes `rise` passes in a row.
/// health = counter.next_state(health, true, false);
/// health = counter.next_state(health, true, false);
/// assert_eq!((health, counter.value()), (Health::Up, 4));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RiseFall {
    thresholds: Thresholds,
    value: u32,
    failures_while_unknown: u32,
}

impl RiseFall {
    /// Creates an empty counter.
    #[must_use]
    pub const fn new(thresholds: Thresholds) -> Self {
        Self { thresholds, value: 0, failures_while_unknown: 0 }
    }

    /// Returns the counter, `0 ..= rise + fall - 1`; 0 while the backend is unknown.
    #[must_use]
    pub const fn value(&self) -> u32 {
        self.value
    }

    /// Returns the thresholds.
    #[must_use]
    pub const fn thresholds(&self) -> Thresholds {
        self.thresholds
    }

    /// Returns the number of failures counted while the backend was unknown.
    #[must_use]
    pub const fn failures_while_unknown(&self) -> u32 {
        self.failures_while_unknown
    }

    /// Reports whether the counter of a backend that is up has its largest value: no recent failure.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.value == self.thresholds.max_counter()
    }

    /// Reports whether the next failure takes a backend that is up down.
    #[must_use]
    pub const fn is_at_last_failure(&self) -> bool {
        self.value <= self.thresholds.rise
    }

    /// Replaces the thresholds of a backend with that `health`, which stays. The failures of a backend that is up, and the
    /// passes of one that is down, stay counted, as far as they leave at least one more to be counted.
    pub fn set_thresholds(&mut self, thresholds: Thresholds, health: Health) {
        let failures = self.thresholds.max_counter().saturating_sub(self.value);
        self.value = match health {
            Health::Up => thresholds.max_counter().saturating_sub(failures).max(thresholds.rise),
            Health::Down => self.value.min(thresholds.rise.saturating_sub(1)),
            Health::Unknown | Health::Paused | Health::Disabled | Health::Removed => self.value,
        };
        self.thresholds = thresholds;
    }

    /// Empties the counter.
    pub const fn clear(&mut self) {
        self.value = 0;
        self.failures_while_unknown = 0;
    }

    /// Moves the counter to the lower end, as for a backend that has just gone down.
    pub const fn set_empty(&mut self) {
        self.value = 0;
    }

    /// Counts one verdict and returns the state that follows from `health`.
    ///
    /// `in_service` reports that VPP may give an unknown backend weight. It then takes `fall` failures to go down, so that
    /// one lost packet after a restart of `maglevd` does not drain a serving backend.
    ///
    /// ```text
    ///  state     counter            pass                          failure
    ///  ────────  ─────────────────  ────────────────────────────  ──────────────────────────────────────────
    ///  unknown   0                  up, rise+fall-1               not in service: down, 0
    ///                                                             in service: down, 0 after `fall` failures
    ///  down      0 ..= rise-1       counter+1;                    counter-1 (at least 0)
    ///                               at rise: up, rise+fall-1
    ///  up        rise ..=           counter+1                     counter-1;
    ///            rise+fall-1        (at most rise+fall-1)         below rise: down, 0
    ///  paused, disabled, removed    unchanged                     unchanged
    /// ```
    ///
    /// Each crossing moves the counter to the end of the scale, as in HAProxy: the way back is always a whole rise or fall.
    pub fn next_state(&mut self, health: Health, passed: bool, in_service: bool) -> Health {
        let Thresholds { rise, fall } = self.thresholds;
        let next = match (health, passed) {
            (Health::Unknown, true) => Health::Up,
            (Health::Unknown, false) => {
                self.failures_while_unknown += 1;
                let needed = if in_service { fall } else { 1 };
                if self.failures_while_unknown >= needed { Health::Down } else { Health::Unknown }
            }
            (Health::Up, true) => {
                self.value = (self.value + 1).min(self.thresholds.max_counter());
                Health::Up
            }
            (Health::Up, false) => {
                self.value = self.value.saturating_sub(1);
                if self.value < rise { Health::Down } else { Health::Up }
            }
            (Health::Down, true) => {
                self.value += 1;
                if self.value >= rise { Health::Up } else { Health::Down }
            }
            (Health::Down, false) => {
                self.value = self.value.saturating_sub(1);
                Health::Down
            }
            (Health::Paused | Health::Disabled | Health::Removed, _) => health,
        };
        if next != health {
            self.value = if next == Health::Up { self.thresholds.max_counter() } else { 0 };
        }
        next
    }

    /// Returns the same counter at `value`.
    #[cfg(test)]
    pub const fn at(self, value: u32) -> Self {
        Self { value, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every health, counter, and pair of old and new thresholds.
    #[test]
    fn new_thresholds_keep_health_and_counted_verdicts() {
        let limits = || (1..5).flat_map(|rise| (1..5).map(move |fall| Thresholds { rise, fall }));
        for (old, new) in limits().flat_map(|old| limits().map(move |new| (old, new))) {
            for value in old.rise..=old.max_counter() {
                let mut up = RiseFall::new(old).at(value);
                let failures = old.max_counter() - value;
                up.set_thresholds(new, Health::Up);
                assert_eq!(new.max_counter() - up.value(), failures.min(new.fall - 1), "{old:?} {new:?}");
                assert_eq!(up.next_state(Health::Up, true, false), Health::Up);
            }
            for value in 0..old.rise {
                let mut down = RiseFall::new(old).at(value);
                down.set_thresholds(new, Health::Down);
                assert_eq!(down.value(), value.min(new.rise - 1), "{old:?} {new:?}");
                assert_eq!(down.next_state(Health::Down, false, false), Health::Down);
            }
        }
    }
}
