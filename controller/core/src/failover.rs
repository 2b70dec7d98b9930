//! Which pool serves a frontend, and which weight that gives each of its backends.

use alloc::vec::Vec;
use core::fmt;

use crate::health::Health;

/// What a frontend is.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum FrontendState {
    /// None of its backends has left unknown.
    Unknown,
    /// At least one server has a weight.
    Up,
    /// No server has a weight.
    Down,
}

impl FrontendState {
    /// Every state, in the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::Unknown, Self::Up, Self::Down];

    /// The state as users see it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

impl fmt::Display for FrontendState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One backend of a frontend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PoolMember {
    /// The index of its pool; a lower one has priority.
    pub pool: usize,
    /// What it is.
    pub health: Health,
    /// Its weight as configured, or as an operator has set it.
    pub weight: u8,
}

/// What follows for a frontend.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Decision {
    /// The pool that serves it.
    pub active: Option<usize>,
    /// What the frontend is.
    pub state: FrontendState,
    /// The weight of each member, in the order given.
    pub weights: Vec<u8>,
}

/// What follows for a frontend of these members.
///
/// The first pool with a member that is up and has a weight serves; all other pools get weight 0. With `patient`, no
/// pool is promoted, and no frontend is called down, because of members of which nothing is known yet.
#[must_use]
pub fn decide(members: &[PoolMember], patient: bool) -> Decision {
    let active = active_pool(members, patient);
    let weight = |m: &PoolMember| if Some(m.pool) == active && m.health == Health::Up { m.weight } else { 0 };
    let weights: Vec<u8> = members.iter().map(weight).collect();
    let unknown = |m: &PoolMember| m.health == Health::Unknown;
    let state = if weights.iter().any(|w| *w > 0) {
        FrontendState::Up
    } else if members.iter().all(unknown) || patient && members.iter().any(unknown) {
        FrontendState::Unknown
    } else {
        FrontendState::Down
    };
    Decision { active, state, weights }
}

fn active_pool(members: &[PoolMember], patient: bool) -> Option<usize> {
    let serving = members.iter().filter(|m| m.health == Health::Up && m.weight > 0).map(|m| m.pool).min()?;
    let undecided = |m: &PoolMember| m.pool < serving && m.health == Health::Unknown && m.weight > 0;
    let wait = patient && members.iter().any(undecided);
    (!wait).then_some(serving)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use Health::{Disabled, Down, Paused, Unknown, Up};

    fn member(pool: usize, health: Health, weight: u8) -> PoolMember {
        PoolMember { pool, health, weight }
    }

    #[test]
    fn the_first_pool_that_can_serve_does() {
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
    fn a_server_that_is_up_without_weight_does_not_hold_its_pool() {
        let decision = decide(&[member(0, Up, 0), member(1, Up, 10)], false);
        assert_eq!(decision.weights, [0, 10]);
    }

    #[test]
    fn only_up_gives_weight() {
        for health in [Unknown, Down, Paused, Disabled] {
            let decision = decide(&[member(0, health, 100), member(0, Up, 50)], false);
            assert_eq!(decision.weights, [0, 50], "{health}");
        }
    }

    #[test]
    fn a_frontend_is_unknown_until_one_backend_is_known() {
        assert_eq!(
            decide(&[member(0, Unknown, 1), member(1, Unknown, 1)], false).state,
            FrontendState::Unknown
        );
        assert_eq!(decide(&[member(0, Unknown, 1), member(1, Paused, 1)], false).state, FrontendState::Down);
        assert_eq!(decide(&[], false).state, FrontendState::Unknown);
    }

    #[test]
    fn patience_waits_for_the_pools_above_only() {
        let above = [member(0, Unknown, 1), member(1, Up, 1)];
        assert_eq!((decide(&above, true).active, decide(&above, true).state), (None, FrontendState::Unknown));
        assert_eq!(decide(&above, false).active, Some(1));
        let beside = [member(0, Up, 1), member(0, Unknown, 1), member(1, Unknown, 1)];
        assert_eq!(decide(&beside, true).active, Some(0));
    }

    proptest! {
        #[test]
        fn weight_goes_to_the_first_pool_that_can_serve_and_nowhere_else(
            members in proptest::collection::vec((0usize..4, 0usize..6, 0u8..=100), 0..20),
        ) {
            let members: Vec<_> = members.iter().map(|(p, h, w)| member(*p, Health::ALL[*h], *w)).collect();
            let decision = decide(&members, false);
            let can_serve = |m: &&PoolMember| m.health == Up && m.weight > 0;
            let first = members.iter().filter(can_serve).map(|m| m.pool).min();
            for (m, weight) in members.iter().zip(&decision.weights) {
                let serves = m.health == Up && Some(m.pool) == first;
                prop_assert_eq!(*weight, if serves { m.weight } else { 0 });
            }
            prop_assert_eq!(decision.state == FrontendState::Up, first.is_some());
        }
    }
}
