//! The new-flow table: VPP's lb plugin assigns the buckets of a VIP to its servers by Maglev hashing, with one permutation
//! per unit of weight.

use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;

/// A server's address as 16 bytes, IPv4 in the last four, and its weight.
pub type WeightedServer = ([u8; 16], u8);

/// Returns an address in the form that the plugin sorts and hashes.
#[must_use]
pub const fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => (address.to_bits() as u128).to_be_bytes(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// Returns the number of `length` buckets of each server. `length` is a power of two.
///
/// Closed form: an odd step through a power of two visits every bucket, so no permutation fails in its round. The
/// permutations take buckets in turn until none is left. With more weight than buckets the last ones get none, which
/// distorts the shares.
#[must_use]
pub fn bucket_counts(servers: &[WeightedServer], length: u32) -> Vec<u32> {
    let weight: u32 = servers.iter().map(|(_, weight)| u32::from(*weight)).sum();
    if weight == 0 {
        return vec![0; servers.len()];
    }
    let whole_rounds = length / weight;
    let mut shares: Vec<u32> = servers.iter().map(|(_, weight)| whole_rounds * u32::from(*weight)).collect();

    let mut order: Vec<usize> = (0..servers.len()).collect();
    order.sort_by_key(|server| servers[*server].0);
    let last_round = (0..u8::MAX)
        .flat_map(|unit| order.iter().copied().filter(move |server| unit < servers[*server].1))
        .take((length % weight) as usize);
    for server in last_round {
        shares[server] += 1;
    }
    shares
}

/// Returns the server of each of `length` buckets, as an index into `servers`. `length` is a power of two.
#[must_use]
pub fn new_flow_table(servers: &[WeightedServer], length: u32) -> Vec<Option<usize>> {
    let mask = length.wrapping_sub(1);
    let mut entries: Vec<(u8, [u8; 16], usize)> = servers
        .iter()
        .enumerate()
        .flat_map(|(server, (address, weight))| (0..*weight).map(move |unit| (unit, *address, server)))
        .collect();
    entries.sort();
    let mut permutations: Vec<Permutation> = entries
        .iter()
        .map(|(unit, address, server)| Permutation::new(address, *unit, *server, mask))
        .collect();

    let mut table = vec![None; length as usize];
    let mut empty = if permutations.is_empty() { 0 } else { table.len() };
    while empty > 0 {
        for permutation in permutations.iter_mut().take(empty) {
            let bucket = permutation.next_empty(&table, mask);
            table[bucket] = Some(permutation.server);
            empty -= 1;
        }
    }
    table
}

/// One permutation of the buckets, and the position in it.
struct Permutation {
    server: usize,
    position: u32,
    step: u32,
}

impl Permutation {
    fn new(address: &[u8; 16], unit: u8, server: usize, mask: u32) -> Self {
        let bits = u128::from_le_bytes(*address);
        let hash = xxh64((bits as u64) ^ ((bits >> 64) as u64) ^ u64::from(unit), SEED);
        let step = ((hash as u32) | 1) & mask;
        Self { server, position: (hash >> 32) as u32 & mask, step }
    }

    fn next_empty(&mut self, table: &[Option<usize>], mask: u32) -> usize {
        loop {
            let bucket = self.position as usize;
            self.position = (self.position + self.step) & mask;
            if table[bucket].is_none() {
                return bucket;
            }
        }
    }
}

const SEED: u64 = 0x9e37_79b9_7f4a_7c13;

/// Returns XXH64 of the eight little-endian bytes of `value`.
const fn xxh64(value: u64, seed: u64) -> u64 {
    const P1: u64 = 0x9e37_79b1_85eb_ca87;
    const P2: u64 = 0xc2b2_ae3d_27d4_eb4f;
    const P3: u64 = 0x1656_67b1_9e37_79f9;
    const P4: u64 = 0x85eb_ca77_c2b2_ae63;
    const P5: u64 = 0x27d4_eb2f_1656_67c5;
    let lane = value.wrapping_mul(P2).rotate_left(31).wrapping_mul(P1);
    let hash = seed.wrapping_add(P5).wrapping_add(8) ^ lane;
    let hash = hash.rotate_left(27).wrapping_mul(P1).wrapping_add(P4);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(P2);
    let hash = (hash ^ (hash >> 29)).wrapping_mul(P3);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lines of `length server=weight... -> share... | fingerprint`, from an independent model verified against a real VPP.
    /// The fingerprint is the FNV-1a hash of the table's server numbers, one byte each.
    const VECTORS: &str = include_str!("table_vectors.txt");

    fn address_bytes(address: &str) -> [u8; 16] {
        super::address_bytes(address.parse().unwrap())
    }

    fn fingerprint(table: &[Option<usize>]) -> u64 {
        table.iter().fold(0xcbf2_9ce4_8422_2325, |hash, server| {
            let byte = server.map_or(255, |server| server as u64);
            (hash ^ byte).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }

    #[test]
    fn table_matches_test_vectors() {
        for line in VECTORS.lines() {
            let (question, answer) = line.split_once(" -> ").unwrap();
            let (expected, print) = answer.split_once('|').unwrap();
            let mut words = question.split_whitespace();
            let length = words.next().unwrap().parse().unwrap();
            let servers: Vec<WeightedServer> = words
                .map(|word| word.split_once('=').unwrap())
                .map(|(address, weight)| (address_bytes(address), weight.parse().unwrap()))
                .collect();
            let expected: Vec<u32> = expected.split_whitespace().map(|n| n.parse().unwrap()).collect();
            assert_eq!(bucket_counts(&servers, length), expected, "{line}");
            let print = u64::from_str_radix(print.trim(), 16).unwrap();
            assert_eq!(fingerprint(&new_flow_table(&servers, length)), print, "{line}");
        }
    }

    #[test]
    fn counts_match_capture_from_vpp() {
        let servers = [(address_bytes("2001:db8:2::1"), 100), (address_bytes("2001:db8:2::2"), 25)];
        assert_eq!(bucket_counts(&servers, 1024), [812, 212]);
    }

    proptest! {
        #[test]
        fn closed_form_matches_built_table(
            servers in proptest::collection::btree_map(any::<[u8; 16]>(), any::<u8>(), 0..12),
            bits in 0u32..12,
        ) {
            let servers: Vec<WeightedServer> = servers.into_iter().collect();
            let table = new_flow_table(&servers, 1 << bits);
            let counted: Vec<u32> = (0..servers.len())
                .map(|server| table.iter().filter(|bucket| **bucket == Some(server)).count() as u32)
                .collect();
            prop_assert_eq!(bucket_counts(&servers, 1 << bits), counted);
        }
    }
}
