#!/usr/bin/env bash
# Expected: Maglev hashing is consistent. If one of ten nodes goes, its keys move, a tenth of all, and few others.
# Happens:  the crate maglev 0.2.1 moves nine tenths of all keys. Its table has the first prime above 100 times the number of
#           nodes, so 1009 entries for ten nodes and 907 for nine, and a key's entry is its hash modulo that length. With a
#           given length, a tenth of the keys moves.
# Here:     the length of a table must follow from the configuration, and never from the servers that are healthy just now.
#           `maglevd` counts all servers of a pool, in whatever state, and VPP never changes the length of a table.
# Seen with crate maglev 0.2.1.
# shellcheck source=findings/lib.sh
. "$(dirname "$0")/lib.sh"

rust 'maglev = "=0.2.1"' <<'RUST'
use maglev::{ConsistentHasher, Maglev};

fn main() {
    // 0: a length of the crate's choice
    for length in [0, 65_537] {
        let table = |nodes: usize| Maglev::with_capacity((0..nodes).map(|i| format!("192.0.2.{i}")), length);
        let (ten, nine) = (table(10), table(9));
        let moved = (0..100_000u32).filter(|key| ten.get(key) != nine.get(key)).count();
        println!("{} and {} entries, {} % of the keys move", ten.capacity(), nine.capacity(), moved / 1000);
    }
}
RUST

echo 'crate maglev 0.2.1, from ten nodes to nine:'
"$work/target/debug/finding" >"$work/out"
expect 'length of its choice' '1009 and 907 entries, 90 % of the keys move' "$(sed -n 1p "$work/out")"
expect 'length given' '65537 and 65537 entries, 10 % of the keys move' "$(sed -n 2p "$work/out")"
