//! What has come of a backend's last probes, in little memory: equal outcomes in a row are one spell.

use maglev_ipc::{OutcomeCode, OutcomeDetail};

use crate::time::WallTime;

/// How many spells are remembered.
const KEEP: usize = 6;

/// Equal outcomes in a row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OutcomeRun {
    /// The verdict of each of them.
    pub code: OutcomeCode,
    /// The HTTP status of each of them, where there was one.
    pub status: Option<u16>,
    /// How many there were.
    pub count: u32,
    /// When the first of them was heard.
    pub since: WallTime,
}

/// The newest spells. Holds no text, so that its size is bounded: a backend that flaps has the same as one that does not.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent([Option<OutcomeRun>; KEEP]);

impl Recent {
    pub fn push(&mut self, code: OutcomeCode, detail: &OutcomeDetail, at: WallTime) {
        let status = match detail {
            OutcomeDetail::Status(status) => Some(*status),
            OutcomeDetail::None | OutcomeDetail::Text(_) => None,
        };
        match &mut self.0[0] {
            Some(newest) if (newest.code, newest.status) == (code, status) => {
                newest.count = newest.count.saturating_add(1);
            }
            _ => {
                self.0.rotate_right(1);
                self.0[0] = Some(OutcomeRun { code, status, count: 1, since: at });
            }
        }
    }

    /// The newest first.
    pub fn spells(&self) -> impl Iterator<Item = OutcomeRun> {
        self.0.iter().copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_outcomes_are_counted_and_the_oldest_are_forgotten() {
        let mut recent = Recent::default();
        let (ok, failed) = (OutcomeDetail::Status(200), OutcomeDetail::Status(503));
        for at in 0..3 {
            recent.push(OutcomeCode::L7Ok, &ok, WallTime(at));
        }
        recent.push(OutcomeCode::L7Sts, &failed, WallTime(3));
        recent.push(OutcomeCode::L7Sts, &failed, WallTime(4));
        recent.push(OutcomeCode::L7Sts, &OutcomeDetail::Status(500), WallTime(5));
        let counts = |recent: &Recent| {
            recent.spells().map(|s| (s.count, s.status, s.since.0)).collect::<alloc::vec::Vec<_>>()
        };
        assert_eq!(counts(&recent), [(1, Some(500), 5), (2, Some(503), 3), (3, Some(200), 0)]);
        for at in 6..20 {
            let code = if at % 2 == 0 { OutcomeCode::L4Con } else { OutcomeCode::L4Tout };
            recent.push(code, &"connection refused".into(), WallTime(at));
        }
        assert_eq!(recent.spells().count(), KEEP);
        assert_eq!(recent.spells().next().map(|s| s.since), Some(WallTime(19)));
    }

    #[test]
    fn it_is_small() {
        assert!(size_of::<Recent>() <= 200, "{}", size_of::<Recent>());
    }
}
