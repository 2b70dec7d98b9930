//! A stats segment captured from a real VPP 26.10 with one worker, after packets to three VIPs.

#![cfg(test)]

use std::collections::BTreeSet;
use std::io::{self, Write};

use flate2::read::GzDecoder;
use maglev_vpp::stats::{CombinedCounter, ROUTE_TO, ROUTE_VIA, StatsSegment};
use serde_json::Value;

fn golden() -> StatsSegment {
    let mut file = tempfile::tempfile().unwrap();
    io::copy(&mut GzDecoder::new(&include_bytes!("segment/golden.bin.gz")[..]), &mut file).unwrap();
    file.flush().unwrap();
    StatsSegment::from_file(file)
}

fn values() -> Value {
    serde_json::from_str(include_str!("segment/golden.json")).unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn traffic(pair: &Value) -> CombinedCounter {
    CombinedCounter { packets: number(&pair[0]), bytes: number(&pair[1]) }
}

/// Sums the rows of all threads, by index.
fn summed<T: Default>(entry: &Value, mut add: impl FnMut(&mut T, &Value)) -> Vec<T> {
    let mut sums: Vec<T> = Vec::new();
    for row in entry["per_thread"].as_array().unwrap() {
        for (index, value) in row.as_array().unwrap().iter().enumerate() {
            if sums.len() == index {
                sums.push(T::default());
            }
            add(&mut sums[index], value);
        }
    }
    sums
}

/// Returns the indexes of a vector of this length, and one beyond.
fn indexes(length: usize) -> BTreeSet<u32> {
    (0..=u32::try_from(length).unwrap()).collect()
}

#[test]
fn every_value_is_read() {
    let (mut segment, golden) = (golden(), values());
    for (name, entry) in golden["entries"].as_object().unwrap() {
        match number(&entry["type"]) {
            1 | 9 => {
                let expected = Some(number(&entry["value"]));
                assert_eq!(segment.read(|now| now.scalar(name)).unwrap(), expected, "{name}");
            }
            2 => {
                let expected = summed::<u64>(entry, |sum, value| *sum += number(value));
                let found = segment.read(|now| now.simple(name, &indexes(expected.len()))).unwrap().unwrap();
                let found: Vec<u64> = found.into_values().collect();
                assert_eq!(found, [expected, vec![0]].concat(), "{name}");
            }
            3 => {
                let expected = summed::<CombinedCounter>(entry, |sum, value| {
                    sum.packets += traffic(value).packets;
                    sum.bytes += traffic(value).bytes;
                });
                let found =
                    segment.read(|now| now.combined(name, &indexes(expected.len()))).unwrap().unwrap();
                let found: Vec<CombinedCounter> = found.into_values().collect();
                assert_eq!(found, [expected, vec![CombinedCounter::default()]].concat(), "{name}");
            }
            // Names of interfaces are not needed.
            kind => assert_eq!(kind, 4, "{name}"),
        }
    }
}

#[test]
fn routes_are_found_by_their_stats_index() {
    let (mut segment, golden) = (golden(), values());
    for (prefix, route) in golden["routes"].as_object().unwrap() {
        let index = u32::try_from(number(&route["stats_index"])).unwrap();
        for (name, rows) in [(ROUTE_TO, &route["to"]), (ROUTE_VIA, &route["via"])] {
            let found = segment.read(|now| now.combined(name, &BTreeSet::from([index]))).unwrap().unwrap();
            let rows: Vec<CombinedCounter> = rows.as_array().unwrap().iter().map(traffic).collect();
            assert_eq!(found[&index].packets, rows.iter().map(|row| row.packets).sum::<u64>(), "{prefix}");
            assert_eq!(found[&index].bytes, rows.iter().map(|row| row.bytes).sum::<u64>(), "{prefix}");
        }
    }
}

#[test]
fn truncated_segment_fails_or_reads_the_same() {
    let mut whole = Vec::new();
    io::Read::read_to_end(&mut GzDecoder::new(&include_bytes!("segment/golden.bin.gz")[..]), &mut whole)
        .unwrap();
    let expected = golden().read(|now| now.combined(ROUTE_TO, &indexes(20))).unwrap();
    for length in (0..whole.len()).step_by(whole.len() / 199) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&whole[..length]).unwrap();
        let found = StatsSegment::from_file(file).read(|now| now.combined(ROUTE_TO, &indexes(20)));
        assert!(found.is_err() || found.is_ok_and(|found| found == expected), "{length} bytes");
    }
}
