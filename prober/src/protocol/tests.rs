use std::collections::HashSet;
use std::net::Ipv4Addr;

use maglev_ipc::{Check, ConnectMode, ProbeKind, ProbeTimeout, RejectReason, TlsHandshake, TlsVerify};
use maglev_ipc_link::batch_checks;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const LIMITS: ProbeLimits = ProbeLimits {
    targets: crate::targets::Targets::DEFAULT,
    max_checks: 3,
    max_rate: 100,
    max_rate_per_address: 200,
};

fn icmp(last_octet: u8) -> Check {
    let target = Ipv4Addr::new(192, 0, 2, last_octet).into();
    Check {
        target,
        source: None,
        timeout: ProbeTimeout::Fixed(SECOND),
        fast_interval: SECOND,
        probe: ProbeKind::Icmp,
    }
}

struct TestLink {
    protocol: ControllerProtocol,
    configs: tls::TlsConfigs,
}

impl TestLink {
    fn new() -> Self {
        let mut link = Self { protocol: ControllerProtocol::new(LIMITS), configs: tls::TlsConfigs::new([]) };
        link.send(ToProber::Hello { version: VERSION, release: String::new() }).unwrap();
        link
    }

    fn send(&mut self, message: ToProber) -> Result<Option<ControllerRequest>, ProtocolError> {
        self.protocol.handle(message, &mut self.configs)
    }

    fn set(
        &mut self,
        generation: u64,
        checks: impl IntoIterator<Item = (u32, Duration, Check)>,
    ) -> ReceivedSet {
        self.send(ToProber::Begin { generation }).unwrap();
        self.checks(checks);
        self.commit(generation)
    }

    fn amendment(
        &mut self,
        generation: u64,
        gone: &[u32],
        checks: impl IntoIterator<Item = (u32, Duration, Check)>,
    ) -> ReceivedSet {
        self.send(ToProber::Amend { generation }).unwrap();
        self.send(ToProber::Drop(gone.iter().copied().map(CheckId).collect())).unwrap();
        self.checks(checks);
        self.commit(generation)
    }

    fn checks(&mut self, checks: impl IntoIterator<Item = (u32, Duration, Check)>) {
        let checks = checks.into_iter().map(|(id, interval, check)| (CheckId(id), interval.into(), check));
        for message in batch_checks(checks) {
            self.send(message).unwrap();
        }
    }

    fn commit(&mut self, generation: u64) -> ReceivedSet {
        match self.send(ToProber::Commit { generation }) {
            Ok(Some(ControllerRequest::ApplySet(set))) => set,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn checks_beyond_limits_are_rejected() {
    let mut link = TestLink::new();
    let set = link.set(1, (1..=5).map(|n| (n.into(), SECOND, icmp(n))));
    let rejected: Vec<_> = set.rejected.iter().map(|(id, why)| (id.0, why.to_string())).collect();
    let why = "the prober's own limit is reached: --max-checks 3".to_owned();
    assert_eq!((set.accepted.len(), rejected), (3, vec![(4, why.clone()), (5, why)]));

    let fast = Duration::from_millis(10);
    let set = link.set(2, [(1, fast, icmp(1)), (2, SECOND, icmp(2))]);
    assert_eq!(set.accepted.len(), 1);
    assert_eq!(set.rejected[0].1, RejectReason::Limit { what: "--max-rate 100".into() });
}

/// As a controller in other hands would ask for.
#[test]
fn checks_of_other_addresses_are_rejected() {
    let mut link = TestLink::new();
    let at = |address: &str| Check { target: address.parse().unwrap(), ..icmp(1) };
    let set = link.set(1, [(1, SECOND, at("169.254.169.254")), (2, SECOND, at("192.0.2.2"))]);
    assert_eq!((set.accepted.len(), set.rejected[0].0), (1, CheckId(1)));
    let set = link.amendment(2, &[], [(3, SECOND, at("::1")), (4, SECOND, at("2001:db8::1"))]);
    assert_eq!((set.accepted.len(), set.rejected[0].0), (1, CheckId(3)));
}

/// A low `--max-checks` does not disable probing.
#[test]
fn many_checks_beyond_limit_are_rejected() {
    let mut link = TestLink::new();
    let set = link.set(1, (0..1000).map(|n| (n, SECOND, icmp(1))));
    assert_eq!((set.accepted.len(), set.rejected.len()), (3, 997));
}

#[test]
fn limits_include_amendments() {
    let mut link = TestLink::new();
    link.set(1, [(1, SECOND, icmp(1)), (2, SECOND, icmp(2))]);
    let set = link.amendment(2, &[1], [(3, SECOND, icmp(3)), (4, SECOND, icmp(4)), (5, SECOND, icmp(5))]);
    let rejected: Vec<_> = set.rejected.iter().map(|(id, _)| id.0).collect();
    assert_eq!((set.dropped, set.accepted.len(), rejected), (Some(vec![CheckId(1)]), 2, vec![5]));
    // A rejected check can be dropped, and does not count towards the limit.
    let fast = Duration::from_millis(10);
    let set = link.amendment(3, &[5, 2], [(6, fast, icmp(6)), (7, SECOND, icmp(7))]);
    assert_eq!((set.dropped, set.accepted.len()), (Some(vec![CheckId(2)]), 1));
    assert_eq!(set.rejected[0], (CheckId(6), RejectReason::Limit { what: "--max-rate 100".into() }));
    assert_eq!(link.set(4, [(1, fast, icmp(1))]).accepted.len(), 1, "a whole set starts from zero");
}

#[test]
fn amendment_requires_message_order() {
    let check = |id| ToProber::Checks(vec![(CheckId(id), SECOND.into(), icmp(1))]);
    let gone = |id| ToProber::Drop(vec![CheckId(id)]);
    let begun = |messages: &[ToProber]| {
        let mut link = TestLink::new();
        link.set(1, [(1, SECOND, icmp(1))]);
        link.send(ToProber::Amend { generation: 2 }).unwrap();
        messages.iter().map(|message| link.send(message.clone())).find_map(Result::err)
    };
    assert_eq!(
        TestLink::new().send(ToProber::Amend { generation: 1 }).unwrap_err(),
        ProtocolError::UnexpectedMessage("Amend")
    );
    assert_eq!(TestLink::new().send(gone(1)).unwrap_err(), ProtocolError::UnexpectedMessage("Drop"));
    assert_eq!(begun(&[gone(1), check(1), ToProber::Commit { generation: 2 }]), None);
    assert_eq!(begun(&[ToProber::Amend { generation: 3 }]), Some(ProtocolError::UnexpectedMessage("Amend")));
    assert_eq!(begun(&[check(2), gone(1)]), Some(ProtocolError::UnexpectedMessage("Drop")));
    assert_eq!(begun(&[gone(2)]), Some(ProtocolError::UnknownCheck(CheckId(2))));
    assert_eq!(begun(&[gone(1), gone(1)]), Some(ProtocolError::UnknownCheck(CheckId(1))));
    assert_eq!(begun(&[check(1)]), Some(ProtocolError::DuplicateCheck(CheckId(1))));
    let bundle = ToProber::Bundle { id: 1, pem: Vec::new() };
    assert_eq!(begun(&[bundle]), Some(ProtocolError::UnexpectedMessage("Bundle")));
    let many = ToProber::Drop(vec![CheckId(1); MAX_BATCH + 1]);
    assert_eq!(begun(&[many]), Some(ProtocolError::ExceedsBound("Drop")));
    let mut link = TestLink::new();
    link.set(2, []);
    assert_eq!(
        link.send(ToProber::Amend { generation: 2 }).unwrap_err(),
        ProtocolError::UnexpectedMessage("Amend")
    );
}

#[test]
fn interval_bounds_are_enforced() {
    let mut link = TestLink::new();
    let set = link.set(1, [(1, Duration::from_millis(9), icmp(1)), (2, SECOND * 3601, icmp(2))]);
    let bounds = RejectReason::Bounds { what: "interval".into() };
    assert_eq!(set.rejected, [(CheckId(1), bounds.clone()), (CheckId(2), bounds)]);
    let pace = |interval| ToProber::SetIntervals(vec![(CheckId(1), interval)]);
    assert_eq!(link.send(pace(Duration::MAX)).unwrap_err(), ProtocolError::ExceedsBound("SetIntervals"));
    assert!(matches!(link.send(pace(SECOND)), Ok(Some(ControllerRequest::SetIntervals(_)))));
}

#[test]
fn bundles_are_numbered_by_content() {
    let check = |bundle| Check {
        probe: ProbeKind::Tcp {
            port: 1,
            mode: ConnectMode::Full,
            tls: Some(TlsHandshake { server_name: "x".into(), verify: TlsVerify::Bundle(bundle) }),
        },
        ..icmp(1)
    };
    let mut configs = tls::TlsConfigs::new([]);
    let (one, other) = (configs.add_bundle(b"one"), configs.add_bundle(b"other"));
    assert_eq!(configs.add_bundle(b"one"), one);
    assert_ne!(one, other);
    configs.retain(&HashSet::from([other]));
    // Numbers are not reused for other content.
    assert!(![one, other].contains(&configs.add_bundle(b"third")));
    let mut link = TestLink::new();
    link.send(ToProber::Begin { generation: 1 }).unwrap();
    link.send(ToProber::Bundle { id: 1, pem: b"x".to_vec() }).unwrap();
    let twice = link.send(ToProber::Bundle { id: 1, pem: b"y".to_vec() });
    assert_eq!(twice.unwrap_err(), ProtocolError::DuplicateBundle(1));
    let unsent = link.send(ToProber::Checks(vec![(CheckId(1), SECOND.into(), check(9))]));
    assert!(unsent.is_ok());
}

#[test]
fn too_many_checks_end_the_link() {
    let mut link = TestLink::new();
    link.send(ToProber::Begin { generation: 1 }).unwrap();
    let mut send = |names: std::ops::Range<u32>| {
        link.send(ToProber::Checks(names.map(|n| (CheckId(n), SECOND.into(), icmp(1))).collect()))
    };
    // Three are accepted, all others are rejected.
    let all = 3 + 100_000;
    for first in (0..all).step_by(MAX_BATCH) {
        assert!(send(first..all.min(first + MAX_BATCH as u32)).is_ok(), "{first}");
    }
    assert_eq!(send(all..all + 1).unwrap_err(), ProtocolError::ExceedsBound("the number of checks"));
    assert_eq!(send(0..1 + MAX_BATCH as u32).unwrap_err(), ProtocolError::ExceedsBound("Checks"));
}

#[test]
fn version_mismatch_error_names_both() {
    let mut protocol = ControllerProtocol::new(LIMITS);
    let hello = ToProber::Hello { version: 77, release: String::new() };
    let error = protocol.handle(hello, &mut tls::TlsConfigs::new([])).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("protocol version 77 does not match this prober's version {VERSION}")
    );
}
