//! Bounds on the new flows that a change of a pool moves, on exact tables and over random changes.

#![allow(
    missing_docs,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::unwrap_used,
    reason = "a test may fail at once, and its counts are small"
)]

use maglev_core::maglev::table::{WeightedServer, new_flow_table};
use maglev_core::maglev::{WeightScale, table_length};

/// A linear congruential generator: the cases are the same in each run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn server(&mut self, weight: u8) -> PoolServer {
        let address = (0x0a00_0000_u128 | u128::from(self.below(1 << 24))).to_be_bytes();
        PoolServer { address, configured: weight, weight, is_up: self.below(10) > 0 }
    }

    /// Returns a weight as one style of configurations has it.
    fn weight(&mut self, style: u64) -> u8 {
        let weight = match style {
            0 => 100,
            1 => [100, 50, 25][self.below(3) as usize],
            2 => 5 + 5 * self.below(20),
            3 => 1 + self.below(100),
            _ => 1 + self.below(4),
        };
        weight as u8
    }

    fn pool(&mut self, style: u64) -> Vec<PoolServer> {
        let count = 2 + self.below(11);
        (0..count)
            .map(|_| {
                let weight = self.weight(style);
                self.server(weight)
            })
            .collect()
    }
}

#[derive(Clone)]
struct PoolServer {
    address: [u8; 16],
    configured: u8,
    /// The configured weight, or an override.
    weight: u8,
    is_up: bool,
}

/// The ways in which a pool changes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Change {
    OnePointByOverride,
    OnePointByEdit,
    TenthByEdit,
    HalfByOverride,
    AnyOverride,
    Health,
    Removed,
    Added,
}

const CHANGES: [Change; 8] = [
    Change::OnePointByOverride,
    Change::OnePointByEdit,
    Change::TenthByEdit,
    Change::HalfByOverride,
    Change::AnyOverride,
    Change::Health,
    Change::Removed,
    Change::Added,
];

fn changed(pool: &[PoolServer], change: Change, style: u64, draw: &mut Draw) -> Vec<PoolServer> {
    let mut pool = pool.to_vec();
    let at = draw.below(pool.len() as u64) as usize;
    let any = draw.below(101) as u8;
    let one = &mut pool[at];
    let edited = |weight: u8, one: &mut PoolServer| (one.configured, one.weight) = (weight, weight);
    match change {
        Change::OnePointByOverride => one.weight -= 1,
        Change::OnePointByEdit => edited(one.weight - 1, one),
        Change::TenthByEdit => edited(one.weight - one.weight / 10, one),
        Change::HalfByOverride => one.weight /= 2,
        Change::AnyOverride => one.weight = any,
        Change::Health => one.is_up = !one.is_up,
        Change::Removed => drop(pool.remove(at)),
        Change::Added => {
            let weight = draw.weight(style);
            pool.push(draw.server(weight));
        }
    }
    pool
}

/// Returns the weights in VPP, without those of servers that are down.
fn units(pool: &[PoolServer]) -> Vec<WeightedServer> {
    let scale = WeightScale::of_pool(pool.iter().map(|server| server.configured));
    let weight = |server: &PoolServer| if server.is_up { scale.units(server.weight) } else { 0 };
    pool.iter().map(|server| (server.address, weight(server))).collect()
}

fn owners(servers: &[WeightedServer], length: u32) -> Vec<[u8; 16]> {
    new_flow_table(servers, length).into_iter().map(|owner| servers[owner.unwrap()].0).collect()
}

fn moved(before: &[WeightedServer], after: &[WeightedServer], length: u32) -> f64 {
    let (before, after) = (owners(before, length), owners(after, length));
    before.iter().zip(&after).filter(|(before, after)| before != after).count() as f64 / f64::from(length)
}

/// Returns the share of each server by the weights, without rounding to units.
fn shares(pool: &[PoolServer]) -> Vec<([u8; 16], f64)> {
    let weight = |server: &PoolServer| if server.is_up { f64::from(server.weight) } else { 0.0 };
    let sum: f64 = pool.iter().map(weight).sum();
    pool.iter().map(|server| (server.address, weight(server) / sum)).collect()
}

/// Returns the least share of new flows that any table has to move: that which servers gain.
fn least(before: &[PoolServer], after: &[PoolServer]) -> f64 {
    let before = shares(before);
    let had = |address| before.iter().find(|(of, _)| *of == address).map_or(0.0, |(_, share)| *share);
    shares(after).into_iter().map(|(address, share)| (share - had(address)).max(0.0)).sum()
}

/// Returns moved and least shares for a kind of change.
fn sample(change: Change) -> Vec<(f64, f64)> {
    let (mut draw, mut samples) = (Draw(change as u64), Vec::new());
    for round in 0..60 {
        let style = round % 5;
        let before = draw.pool(style);
        let after = changed(&before, change, style, &mut draw);
        let serves = |pool| units(pool).iter().any(|(_, weight)| *weight > 0);
        if serves(&before) && serves(&after) {
            // A VIP keeps the table that it was created with.
            let length = table_length(before.len(), None);
            samples.push((moved(&units(&before), &units(&after), length), least(&before, &after)));
        }
    }
    samples
}

/// Returns a quantile, in percent.
fn quantile(mut values: Vec<f64>, percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) * percent / 100]
}

#[test]
fn random_changes_move_little_more_than_least() {
    let mut all = Vec::new();
    for change in CHANGES {
        let samples = sample(change);
        let ratios: Vec<_> = samples.iter().map(|(moved, least)| moved / least.max(0.001)).collect();
        let excess = samples.iter().map(|(moved, least)| moved - least).collect();
        let (median, last, beyond) =
            (quantile(ratios.clone(), 50), quantile(ratios, 99), quantile(excess, 99));
        println!("{change:?}: median {median:.2}, p99 {last:.2}, beyond the least at p99 {beyond:.3}");
        if matches!(change, Change::Health | Change::Removed | Change::Added) {
            // Pools with small weights have exact ones, and move more.
            assert!(median <= 1.25 && last <= 2.2, "{change:?}: {median} {last}");
        }
        assert!(beyond <= 0.06, "{change:?}: {beyond}");
        all.extend(samples);
    }
    let ratios = |from: f64| {
        let large = all.iter().filter(|(_, least)| *least >= from);
        large.map(|(moved, least)| moved / least.max(0.001)).collect::<Vec<_>>()
    };
    assert!(quantile(ratios(0.0), 50) <= 1.25);
    // A change that has to move less becomes no step or a whole unit, which is several times as much.
    let last = quantile(ratios(0.03), 99);
    println!("at least 3 %: {} of {}, p99 {last:.2}", ratios(0.03).len(), all.len());
    assert!(last <= 2.0, "{last}");
    let (moved, least) = all.iter().fold((0.0, 0.0), |sum, (moved, least)| (sum.0 + moved, sum.1 + least));
    println!("all: {moved:.1} of {least:.1}");
    assert!(moved <= 1.2 * least, "{moved} {least}");
}

#[test]
fn one_point_of_weight_moves_nothing() {
    let mut draw = Draw(1);
    for count in [2, 10, 50] {
        let mut pool: Vec<_> = (0..count).map(|_| draw.server(100)).collect();
        pool.iter_mut().for_each(|server| server.is_up = true);
        let before = units(&pool);
        (pool[0].configured, pool[0].weight) = (99, 99);
        assert_eq!(units(&pool), before);
        let full = pool.clone();
        pool[0].weight = 95;
        let moved = moved(&before, &units(&pool), table_length(count, None));
        assert!(moved < least(&full, &pool) + 0.03, "{count}: {moved}");
    }
}

/// Returns a pool of servers with weight 100 and one with that weight.
fn canary_pool(others: usize, weight: u8) -> Vec<PoolServer> {
    let mut draw = Draw(3);
    let weights = std::iter::repeat_n(100, others).chain([weight]);
    let mut pool: Vec<_> = weights.map(|weight| draw.server(weight)).collect();
    pool.iter_mut().for_each(|server| server.is_up = true);
    pool
}

#[test]
fn canary_has_its_share_and_moves_little() {
    for others in [1, 9, 31] {
        let length = table_length(others + 1, None);
        for weight in [1, 2, 3, 4, 7, 8] {
            let pool = canary_pool(others, weight);
            let (address, share) = *shares(&pool).last().unwrap();
            let table = owners(&units(&pool), length);
            let has = table.iter().filter(|owner| **owner == address).count() as f64 / f64::from(length);
            assert!((has / share - 1.0).abs() < 0.25, "{others} {weight}: {has} of {share}");
        }
        for (from, to) in [(1, 2), (4, 5), (8, 9), (9, 20)] {
            let (before, after) = (canary_pool(others, from), canary_pool(others, to));
            let (moved, least) = (moved(&units(&before), &units(&after), length), least(&before, &after));
            println!("{others} and {from} -> {to}: {moved:.3} of {least:.3}");
        }
        let mut ramp = canary_pool(others, 1);
        let before = units(&ramp);
        ramp.last_mut().unwrap().weight = 5;
        let moved = moved(&before, &units(&ramp), length);
        println!("{others} and 1 -> 5 by override: {moved:.3}");
        assert!(moved < 0.1, "{others}: {moved}");
    }
}

#[test]
fn shares_of_random_pools_follow_weights() {
    let mut draw = Draw(2);
    for style in [0, 1, 2] {
        for _ in 0..20 {
            let mut pool = draw.pool(style);
            pool[0].is_up = true;
            let length = table_length(pool.len(), None);
            let table = owners(&units(&pool), length);
            for (address, share) in shares(&pool) {
                let count = table.iter().filter(|owner| **owner == address).count();
                assert!((count as f64 / f64::from(length) - share).abs() < 0.01, "{share} {count}");
            }
        }
    }
}
