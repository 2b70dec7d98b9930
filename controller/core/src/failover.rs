//! Failover: the active pool of a frontend, and the effective weights of its backends.

use alloc::vec::Vec;
use core::fmt;

use crate::health::Health;

/// State of a frontend.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum FrontendState {
    /// No decision yet: unknown backends may decide.
    Unknown,
    /// At least one backend has an effective weight.
    Up,
    /// No backend has an effective weight.
    Down,
    /// The configuration does not contain it any more. In events only.
    Removed,
}

impl FrontendState {
    /// All states of a configured frontend, in display order.
    pub const ALL: [Self; 3] = [Self::Unknown, Self::Up, Self::Down];

    /// Returns the name that users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
            Self::Removed => "removed",
        }
    }
}

impl fmt::Display for FrontendState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One backend of a pool.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FailoverMember {
    /// Index of its pool; the lowest has priority.
    pub pool: usize,
    /// Its health.
    pub health: Health,
    /// Its weight by the configuration, or by an operator.
    pub weight: u8,
    /// True if it keeps its weight while it is unknown: VPP serves it, and there is no verdict against it.
    pub keeps_weight: bool,
}

impl FailoverMember {
    /// Reports whether new flows may go to it.
    fn can_serve(&self) -> bool {
        self.weight > 0 && (self.health == Health::Up || self.keeps_weight && self.health == Health::Unknown)
    }
}

/// Failover decision for a frontend.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Decision {
    /// Index of the active pool.
    pub active: Option<usize>,
    /// State of the frontend.
    pub state: FrontendState,
    /// Effective weight of each member, in the given order.
    pub weights: Vec<u8>,
}

/// Returns the decision for a frontend with these members.
///
/// The first pool with a member that can serve is active: one that has a weight and is up, or is unknown and keeps its
/// weight. All other pools get weight 0. With `wait_for_unknown`, unknown members of a better pool prevent the promotion of
/// a pool, and unknown members prevent the state `down`. A frontend is `up` only by a member that is up.
///
/// ```
/// use maglev_core::failover::{FrontendState, FailoverMember, decide};
/// use maglev_core::health::Health;
///
/// let member = |pool, health, weight| FailoverMember { pool, health, weight, keeps_weight: false };
/// let members = [
///     member(0, Health::Down, 100),
///     member(1, Health::Up, 10),
///     member(1, Health::Up, 20),
/// ];
/// let decision = decide(&members, false);
/// assert_eq!(decision.active, Some(1));
/// assert_eq!(decision.state, FrontendState::Up);
/// assert_eq!(decision.weights, [0, 10, 20]);
/// ```
#[must_use]
pub fn decide(members: &[FailoverMember], wait_for_unknown: bool) -> Decision {
    let active = active_pool(members, wait_for_unknown);
    let serves = |m: &FailoverMember| Some(m.pool) == active && m.can_serve();
    let weights = members.iter().map(|m| if serves(m) { m.weight } else { 0 }).collect();
    let unknown = |m: &FailoverMember| m.health == Health::Unknown;
    let state = if members.iter().any(|m| serves(m) && m.health == Health::Up) {
        FrontendState::Up
    } else if active.is_some()
        || members.iter().all(unknown)
        || wait_for_unknown && members.iter().any(unknown)
    {
        FrontendState::Unknown
    } else {
        FrontendState::Down
    };
    Decision { active, state, weights }
}

fn active_pool(members: &[FailoverMember], wait_for_unknown: bool) -> Option<usize> {
    let serving = members.iter().filter(|m| m.can_serve()).map(|m| m.pool).min()?;
    let undecided = |m: &FailoverMember| m.pool < serving && m.health == Health::Unknown && m.weight > 0;
    let wait = wait_for_unknown && members.iter().any(undecided);
    (!wait).then_some(serving)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use Health::{Disabled, Down, Paused, Unknown, Up};

    fn member(pool: usize, health: Health, weight: u8) -> FailoverMember {
        FailoverMember { pool, health, weight, keeps_weight: false }
    }

    fn kept(pool: usize, health: Health, weight: u8) -> FailoverMember {
        FailoverMember { keeps_weight: true, ..member(pool, health, weight) }
    }

    #[test]
    fn first_pool_that_can_serve_is_active() {
        let primary_up = [member(0, Up, 100), member(0, Down, 50), member(1, Up, 10)];
        let decision = decide(&primary_up, false);
        assert_eq!(decision.weights, [100, 0, 0]);
        assert_eq!((decision.active, decision.state), (Some(0), FrontendState::Up));

        let primary_down = [member(0, Down, 100), member(0, Disabled, 50), member(1, Up, 10)];
        let decision = decide(&primary_down, false);
        assert_eq!(decision.weights, [0, 0, 10]);
        assert_eq!((decision.active, decision.state), (Some(1), FrontendState::Up));
    }

    #[test]
    fn up_without_weight_does_not_activate_pool() {
        let decision = decide(&[member(0, Up, 0), member(1, Up, 10)], false);
        assert_eq!(decision.weights, [0, 10]);
    }

    #[test]
    fn only_up_has_effective_weight() {
        for health in [Unknown, Down, Paused, Disabled] {
            let decision = decide(&[member(0, health, 100), member(0, Up, 50)], false);
            assert_eq!(decision.weights, [0, 50], "{health}");
        }
    }

    #[test]
    fn frontend_is_unknown_without_known_backends() {
        assert_eq!(
            decide(&[member(0, Unknown, 1), member(1, Unknown, 1)], false).state,
            FrontendState::Unknown
        );
        assert_eq!(decide(&[member(0, Unknown, 1), member(1, Paused, 1)], false).state, FrontendState::Down);
        assert_eq!(decide(&[], false).state, FrontendState::Unknown);
    }

    #[test]
    fn wait_for_unknown_considers_better_pools_only() {
        let above = [member(0, Unknown, 1), member(1, Up, 1)];
        assert_eq!((decide(&above, true).active, decide(&above, true).state), (None, FrontendState::Unknown));
        assert_eq!(decide(&above, false).active, Some(1));
        let beside = [member(0, Up, 1), member(0, Unknown, 1), member(1, Unknown, 1)];
        assert_eq!(decide(&beside, true).active, Some(0));
    }

    #[test]
    fn unknown_member_that_keeps_weight_prevents_promotion() {
        let decision = decide(&[kept(0, Unknown, 100), member(0, Down, 50), member(1, Up, 10)], false);
        assert_eq!(decision.weights, [100, 0, 0]);
        assert_eq!((decision.active, decision.state), (Some(0), FrontendState::Unknown));
        let beside = decide(&[kept(0, Unknown, 100), member(0, Up, 50), member(1, Up, 10)], false);
        assert_eq!((&beside.weights[..], beside.state), (&[100, 50, 0][..], FrontendState::Up));
    }

    #[test]
    fn verdict_weight_and_better_pool_outrank_kept_weight() {
        for gone in [kept(0, Down, 100), kept(0, Paused, 100), kept(0, Disabled, 100), kept(0, Unknown, 0)] {
            assert_eq!(decide(&[gone, member(1, Up, 10)], false).weights, [0, 10], "{gone:?}");
        }
        assert_eq!(decide(&[member(0, Up, 100), kept(1, Unknown, 10)], false).weights, [100, 0]);
    }

    proptest! {
        #[test]
        fn weight_goes_to_first_serving_pool_only(
            members in proptest::collection::vec((0usize..4, 0usize..6, 0u8..=100), 0..20),
        ) {
            let members: Vec<_> = members.iter().map(|(p, h, w)| member(*p, Health::ALL[*h], *w)).collect();
            let decision = decide(&members, false);
            let can_serve = |m: &&FailoverMember| m.health == Up && m.weight > 0;
            let first = members.iter().filter(can_serve).map(|m| m.pool).min();
            for (m, weight) in members.iter().zip(&decision.weights) {
                let serves = m.health == Up && Some(m.pool) == first;
                prop_assert_eq!(*weight, if serves { m.weight } else { 0 });
            }
            prop_assert_eq!(decision.state == FrontendState::Up, first.is_some());
        }
    }
}
