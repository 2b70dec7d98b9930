//! The files: the operators' configuration, and the overrides and the VIPs that `maglevd` writes.

use std::sync::Arc;
use std::time::Duration;

use maglev_core::config::{Config, check};
use maglev_core::state::Input;
use maglev_ipc::RejectReason;
use maglevd::config::parse;
use maglevd::overrides::file;
use maglevd::ownership::file as ownership;

use crate::FuzzTarget;
use crate::system::{LIMITS, TestSystem, received, within_limits};

/// Aliases dominate the memory: some 50 bytes for each byte of expanded weight.
pub const CONFIG: FuzzTarget = FuzzTarget { name: "config", longest: 64 << 10, memory: 96 << 20, seeds, run };

pub const OVERRIDES: FuzzTarget = FuzzTarget {
    name: "overrides",
    longest: 64 << 10,
    memory: 4 << 20,
    seeds: override_seeds,
    run: run_overrides,
};

pub const OWNERSHIP: FuzzTarget = FuzzTarget {
    name: "ownership",
    longest: 64 << 10,
    memory: 4 << 20,
    seeds: ownership_seeds,
    run: run_ownership,
};

/// Returns a valid configuration.
///
/// # Panics
/// It is invalid.
pub fn good(text: &[u8]) -> Arc<Config> {
    let file = parse(text).expect("a good configuration");
    Arc::new(check(&file, &mut |_| Err("none".to_owned())).expect("a good configuration"))
}

/// A self-signed certificate.
pub const PEM: &[u8] = include_bytes!("../../../ipc/tests/self-signed.pem");

/// An accepted file must work in everything behind the parser.
fn run(input: &[u8]) {
    let file = match parse(input) {
        Ok(file) => file,
        Err(fault) => {
            assert!(fault.line > 0 && fault.column > 0 && !fault.message.is_empty());
            return;
        }
    };
    let mut read = |path: &str| if path.ends_with("pem") { Ok(PEM.to_vec()) } else { Err("none".to_owned()) };
    let config = match check(&file, &mut read) {
        Ok(config) => Arc::new(config),
        Err(problems) => {
            assert!(!problems.is_empty());
            return;
        }
    };
    let mut system = TestSystem::new(Arc::clone(&config), Arc::default());
    system.take(Input::ProberUp);
    let checks = system.checks.take().expect("the prober is told what to probe");
    let set = received(&checks);
    within_limits(&set, &LIMITS);
    // The prober accepts what the check accepts, up to its own limits.
    assert!(
        set.rejected.iter().all(|(_, why)| matches!(why, RejectReason::Limit { .. })),
        "{:?}",
        set.rejected
    );
    for (id, why) in &set.rejected {
        system.take(Input::CheckRejected(*id, why.to_string()));
    }
    system.take(Input::Committed(checks.generation));
    for _ in 0..3 {
        system.wait(Duration::from_secs(60));
    }
    system.take(Input::Reload(config));
    system.look();
}

/// Overrides that decode must encode and decode to the same value.
fn run_overrides(input: &[u8]) {
    let Ok(overrides) = file::parse(input) else { return };
    let again = file::parse(file::render(&overrides).as_bytes()).expect("what was written is read");
    assert_eq!(again, overrides);
    let config = good(include_bytes!("../../../docs/examples/maglev.yaml"));
    TestSystem::new(config, Arc::new(overrides)).look();
}

/// VIPs that decode must encode and decode to the same value, and be no more than the file had bytes for.
fn run_ownership(input: &[u8]) {
    let Ok(owned) = ownership::parse(input) else { return };
    let again = ownership::parse(ownership::render(&owned).as_bytes()).expect("what was written is read");
    assert_eq!((again.vpp, again.vips()), (owned.vpp, owned.vips()));
    assert!(owned.vips().iter().all(|vip| vip.prefix_len == 32 || vip.address.is_ipv6()));
    let config = good(include_bytes!("../../../docs/examples/maglev.yaml"));
    let mut system = TestSystem::new(config, Arc::default());
    system.state.restore_ownership(owned);
    system.look();
}

fn seeds() -> Vec<Vec<u8>> {
    let examples: [&[u8]; 3] = [
        include_bytes!("../../../docs/examples/maglev.yaml"),
        include_bytes!("../../../docs/examples/minimal.yaml"),
        b"maglev: { vpp: { lb: { ipv4-src-address: 192.0.2.254 } }, healthchecks: { a: { type: tcp, port: 1, interval: 1s, params: { tls: true, ca-file: /x.pem } } },
 backends: { b: { address: 192.0.2.1, healthcheck: a } },
 frontends: { f: { address: 192.0.2.2, protocol: tcp, port: 1, pools: [ { name: p, backends: { b: } } ] } } }",
    ];
    examples.map(<[u8]>::to_vec).to_vec()
}

fn override_seeds() -> Vec<Vec<u8>> {
    let text = r#"{
"version": 1,
"overrides": [
  {"kind":"disabled","backend":"dns1","who":"alice (uid 1000)","at":"2026-11-22T12:00:00.500Z","reason":"disk \"swap\"","expires":"2026-11-23T14:00:00.000000001Z"},
  {"kind":"paused","backend":"vpn","who":"","at":"2026-11-22T12:00:00Z"},
  {"kind":"enabled","backend":"nobody","at":"1970-01-01T00:00:00Z"},
  {"kind":"weight","backend":"site1-ams","frontend":"site-v6","pool":"amsterdam","weight":7,"at":"2026-11-22T12:00:00Z"}
]
}
"#;
    vec![text.as_bytes().to_vec()]
}

fn ownership_seeds() -> Vec<Vec<u8>> {
    let text = r#"{
"version": 1,
"vpp": {"pid":4242,"boot":"2026-11-22T12:00:00Z"},
"vips": [
  {"address":"192.0.2.80","protocol":6,"port":80},
  {"address":"2001:db8::80","protocol":255,"port":0}
]
}
"#;
    vec![text.as_bytes().to_vec(), b"{\"version\":1,\"vpp\":null,\"vips\":[]}".to_vec()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seeds that the parser rejects explore nothing.
    #[test]
    fn seeds_are_accepted() {
        for seed in seeds() {
            let file = parse(&seed).expect("of the right shape");
            assert_eq!(check(&file, &mut |_| Ok(PEM.to_vec())).map(drop), Ok(()));
        }
        for seed in override_seeds() {
            assert_eq!(file::parse(&seed).expect("read").len(), 4);
        }
        assert!(ownership_seeds().iter().all(|seed| ownership::parse(seed).is_ok()));
    }
}
