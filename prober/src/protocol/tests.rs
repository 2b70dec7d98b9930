use std::collections::HashSet;
use std::net::Ipv4Addr;

use maglev_ipc::{Check, ConnectMode, ProbeKind, ProbeTimeout, RejectReason, TlsHandshake, TlsVerify};
use maglev_ipc_link::batch_checks;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const LIMITS: ProbeLimits = ProbeLimits { max_checks: 3, max_rate: 100 };

fn icmp(last: u8) -> Check {
    let target = Ipv4Addr::new(192, 0, 2, last).into();
    Check {
        target,
        source: None,
        timeout: ProbeTimeout::Fixed(SECOND),
        fast_interval: SECOND,
        probe: ProbeKind::Icmp,
    }
}

struct Link {
    protocol: InboundProtocol,
    configs: tls::TlsConfigs,
}

impl Link {
    fn new() -> Self {
        let mut link = Self { protocol: InboundProtocol::new(LIMITS), configs: tls::TlsConfigs::new([]) };
        link.say(ToProber::Hello { version: VERSION, release: String::new() }).unwrap();
        link
    }

    fn say(&mut self, message: ToProber) -> Result<Option<ControllerRequest>, ProtocolError> {
        self.protocol.handle(message, &mut self.configs)
    }

    fn set(&mut self, generation: u64, checks: impl IntoIterator<Item = (u32, Duration, Check)>) -> CheckSet {
        self.say(ToProber::Begin { generation }).unwrap();
        self.checks(checks);
        self.commit(generation)
    }

    fn amendment(
        &mut self,
        generation: u64,
        gone: &[u32],
        checks: impl IntoIterator<Item = (u32, Duration, Check)>,
    ) -> CheckSet {
        self.say(ToProber::Amend { generation }).unwrap();
        self.say(ToProber::Drop(gone.iter().copied().map(CheckId).collect())).unwrap();
        self.checks(checks);
        self.commit(generation)
    }

    fn checks(&mut self, checks: impl IntoIterator<Item = (u32, Duration, Check)>) {
        let checks = checks.into_iter().map(|(id, interval, check)| (CheckId(id), interval.into(), check));
        for message in batch_checks(checks) {
            self.say(message).unwrap();
        }
    }

    fn commit(&mut self, generation: u64) -> CheckSet {
        match self.say(ToProber::Commit { generation }) {
            Ok(Some(ControllerRequest::ApplySet(set))) => set,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn limits_refuse_what_is_beyond_them() {
    let mut link = Link::new();
    let set = link.set(1, (1..=5).map(|n| (n.into(), SECOND, icmp(n))));
    let rejected: Vec<_> = set.rejected.iter().map(|(id, why)| (id.0, why.to_string())).collect();
    let why = "the prober's own limit is reached: --max-checks 3".to_owned();
    assert_eq!((set.accepted.len(), rejected), (3, vec![(4, why.clone()), (5, why)]));

    let hasty = Duration::from_millis(10);
    let set = link.set(2, [(1, hasty, icmp(1)), (2, SECOND, icmp(2))]);
    assert_eq!(set.accepted.len(), 1);
    assert_eq!(set.rejected[0].1, RejectReason::Limit { what: "--max-rate 100".into() });
}

/// A low `--max-checks` is no reason to probe nothing.
#[test]
fn what_is_beyond_the_limit_is_refused_however_much_it_is() {
    let mut link = Link::new();
    let set = link.set(1, (0..1000).map(|n| (n, SECOND, icmp(1))));
    assert_eq!((set.accepted.len(), set.rejected.len()), (3, 997));
}

#[test]
fn limits_hold_for_a_set_with_all_its_amendments() {
    let mut link = Link::new();
    link.set(1, [(1, SECOND, icmp(1)), (2, SECOND, icmp(2))]);
    let set = link.amendment(2, &[1], [(3, SECOND, icmp(3)), (4, SECOND, icmp(4)), (5, SECOND, icmp(5))]);
    let rejected: Vec<_> = set.rejected.iter().map(|(id, _)| id.0).collect();
    assert_eq!((set.dropped, set.accepted.len(), rejected), (Some(vec![CheckId(1)]), 2, vec![5]));
    // One that was refused can be taken back, and held no place.
    let hasty = Duration::from_millis(10);
    let set = link.amendment(3, &[5, 2], [(6, hasty, icmp(6)), (7, SECOND, icmp(7))]);
    assert_eq!((set.dropped, set.accepted.len()), (Some(vec![CheckId(2)]), 1));
    assert_eq!(set.rejected[0], (CheckId(6), RejectReason::Limit { what: "--max-rate 100".into() }));
    assert_eq!(link.set(4, [(1, hasty, icmp(1))]).accepted.len(), 1, "a whole set begins anew");
}

#[test]
fn an_amendment_has_its_place_and_order() {
    let check = |id| ToProber::Checks(vec![(CheckId(id), SECOND.into(), icmp(1))]);
    let gone = |id| ToProber::Drop(vec![CheckId(id)]);
    let begun = |messages: &[ToProber]| {
        let mut link = Link::new();
        link.set(1, [(1, SECOND, icmp(1))]);
        link.say(ToProber::Amend { generation: 2 }).unwrap();
        messages.iter().map(|message| link.say(message.clone())).find_map(Result::err)
    };
    assert_eq!(
        Link::new().say(ToProber::Amend { generation: 1 }).unwrap_err(),
        ProtocolError::UnexpectedMessage("Amend")
    );
    assert_eq!(Link::new().say(gone(1)).unwrap_err(), ProtocolError::UnexpectedMessage("Drop"));
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
    let mut link = Link::new();
    link.set(2, []);
    assert_eq!(
        link.say(ToProber::Amend { generation: 2 }).unwrap_err(),
        ProtocolError::UnexpectedMessage("Amend")
    );
}

#[test]
fn intervals_have_bounds() {
    let mut link = Link::new();
    let set = link.set(1, [(1, Duration::from_millis(9), icmp(1)), (2, SECOND * 3601, icmp(2))]);
    let bounds = RejectReason::Bounds { what: "interval".into() };
    assert_eq!(set.rejected, [(CheckId(1), bounds.clone()), (CheckId(2), bounds)]);
    let pace = |interval| ToProber::SetIntervals(vec![(CheckId(1), interval)]);
    assert_eq!(link.say(pace(Duration::MAX)).unwrap_err(), ProtocolError::ExceedsBound("Pace"));
    assert!(matches!(link.say(pace(SECOND)), Ok(Some(ControllerRequest::SetIntervals(_)))));
}

#[test]
fn a_bundle_is_known_by_its_content() {
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
    // A number is never given to other content.
    assert!(![one, other].contains(&configs.add_bundle(b"third")));
    let mut link = Link::new();
    link.say(ToProber::Begin { generation: 1 }).unwrap();
    link.say(ToProber::Bundle { id: 1, pem: b"x".to_vec() }).unwrap();
    let twice = link.say(ToProber::Bundle { id: 1, pem: b"y".to_vec() });
    assert_eq!(twice.unwrap_err(), ProtocolError::DuplicateBundle(1));
    let unsent = link.say(ToProber::Checks(vec![(CheckId(1), SECOND.into(), check(9))]));
    assert!(unsent.is_ok());
}

#[test]
fn a_flood_of_checks_ends_the_link() {
    let mut link = Link::new();
    link.say(ToProber::Begin { generation: 1 }).unwrap();
    let mut say = |names: std::ops::Range<u32>| {
        link.say(ToProber::Checks(names.map(|n| (CheckId(n), SECOND.into(), icmp(1))).collect()))
    };
    // Three may be in force, and all others are refused.
    let all = 3 + 100_000;
    for first in (0..all).step_by(MAX_BATCH) {
        assert!(say(first..all.min(first + MAX_BATCH as u32)).is_ok(), "{first}");
    }
    assert_eq!(say(all..all + 1).unwrap_err(), ProtocolError::ExceedsBound("the number of checks"));
    assert_eq!(say(0..1 + MAX_BATCH as u32).unwrap_err(), ProtocolError::ExceedsBound("Checks"));
}

#[test]
fn another_version_is_named() {
    let mut protocol = InboundProtocol::new(LIMITS);
    let hello = ToProber::Hello { version: 77, release: String::new() };
    let violation = protocol.handle(hello, &mut tls::TlsConfigs::new([])).unwrap_err();
    assert_eq!(
        violation.to_string(),
        format!("it speaks version 77 of the messages, this prober version {VERSION}")
    );
}
