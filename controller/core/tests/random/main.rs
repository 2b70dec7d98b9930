//! Whatever happens, in whatever order: the core asks for nothing senseless, and ends with what should be.
//!
//! `PROPTEST_CASES` raises the number of cases. What was found so far is told again in `tests/scenarios`.

#![cfg(test)]

mod explanations;
mod flushes;
mod ops;
mod oracle;
mod prober;
mod shape;
mod vpp;
mod wishes;
mod world;

use std::env;
use std::time::Duration;

use maglev_ipc::OutcomeCode;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::Config;

use ops::{Op, ops, overrides};
use shape::{BACKENDS, named, shapes};
use world::World;

/// Enough for a look in passing.
fn config(cases: u32) -> Config {
    let cases = env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(cases);
    Config { cases, failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() }
}

proptest! {
    #![proptest_config(config(200))]

    /// Somebody else works on VPP too, and it refuses things.
    #[test]
    fn everything_at_once_ends_well(shape in shapes(), ops in vec(ops(), 0..80), healthy: u8) {
        let mut world = World::new(shape);
        ops.iter().for_each(|op| world.happens(op));
        world.settle(healthy);
    }

    /// VPP is ours alone, so that it has no reason to refuse anything.
    #[test]
    fn what_is_planned_is_what_vpp_takes(shape in shapes(), ops in vec(ops(), 0..80), healthy: u8) {
        let mut world = World::new(shape);
        world.vpp_up();
        ops.iter().filter(|op| op.is_gentle()).for_each(|op| world.happens(op));
        world.settle(healthy);
    }

    /// `maglevd` or both processes start again and find the backends as they were, and what operators wanted:
    /// nothing is written, and nothing flushed.
    #[test]
    fn a_restart_is_not_seen_in_vpp(
        shape in shapes(),
        wishes in vec(overrides(Just(None)), 0..8),
        healthy: u8,
        remembers: bool,
        vpp_first: bool,
        order in Just((0..BACKENDS).collect::<Vec<_>>()).prop_shuffle(),
        lost: u8,
    ) {
        let shape = shape.with_warm_up();
        let mut world = World::new(shape);
        wishes.iter().for_each(|op| world.happens(op));
        world.settle(healthy);
        world.restart();
        world.read_only = true;
        if vpp_first {
            world.vpp_up();
            world.drain();
        }
        world.prober_up(remembers);
        for backend in order {
            let name = named('b', backend);
            if lost >> backend & 1 == 1 && world.tolerates_a_loss(&name) {
                world.probed(&name, OutcomeCode::L4Tout);
            }
            let code = if healthy >> backend & 1 == 1 { OutcomeCode::L7Ok } else { OutcomeCode::L4Tout };
            for _ in 0..3 {
                world.probed(&name, code);
            }
            world.drain();
        }
        world.vpp_up();
        world.drain();
        world.happens(&Op::Wait(Duration::from_secs(30)));
    }
}
