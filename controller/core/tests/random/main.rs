//! Random operations in random order: every request of the core is valid, and VPP converges.
//!
//! `PROPTEST_CASES` raises the number of cases. `tests/scenarios` reproduces past findings.

#![cfg(test)]

mod expected_overrides;
mod explanations;
mod flush_oracle;
mod ops;
mod oracle;
mod prober;
mod shape;
mod vpp;
mod world;

use std::env;
use std::time::Duration;

use maglev_ipc::OutcomeCode;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::Config;

use ops::{CoreOp, ops, overrides};
use shape::{BACKENDS, named, shapes};
use world::RandomWorld;

/// A small number of cases, for every test run.
fn config(cases: u32) -> Config {
    let cases = env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(cases);
    Config { cases, failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() }
}

proptest! {
    #![proptest_config(config(200))]

    /// Another program changes VPP too, and VPP rejects steps.
    #[test]
    fn random_operations_converge(shape in shapes(), ops in vec(ops(), 0..80), healthy: u8) {
        let mut world = RandomWorld::new(shape);
        ops.iter().for_each(|op| world.apply_and_check(op));
        world.settle(healthy);
    }

    /// Only the core changes VPP, so that VPP accepts every step.
    #[test]
    fn plans_are_accepted_by_vpp(shape in shapes(), ops in vec(ops(), 0..80), healthy: u8) {
        let mut world = RandomWorld::new(shape);
        world.vpp_up();
        ops.iter().filter(|op| op.is_gentle()).for_each(|op| world.apply_and_check(op));
        world.settle(healthy);
    }

    /// `maglevd` or both processes restart and find the same backends and overrides: nothing is written or flushed.
    #[test]
    fn restart_leaves_vpp_unchanged(
        shape in shapes(),
        expected in vec(overrides(Just(None)), 0..8),
        healthy: u8,
        keeps_history: bool,
        vpp_first: bool,
        order in Just((0..BACKENDS).collect::<Vec<_>>()).prop_shuffle(),
        lost: u8,
    ) {
        let shape = shape.with_startup_hold();
        let mut world = RandomWorld::new(shape);
        expected.iter().for_each(|op| world.apply_and_check(op));
        world.settle(healthy);
        world.restart();
        world.read_only = true;
        if vpp_first {
            world.vpp_up();
            world.drain();
        }
        world.prober_up(keeps_history);
        for backend in order {
            let name = named('b', backend);
            if lost >> backend & 1 == 1 && world.tolerates_one_failure(&name) {
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
        world.apply_and_check(&CoreOp::Wait(Duration::from_secs(30)));
    }
}
