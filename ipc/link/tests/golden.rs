//! The encoding of every message, compared with `golden/v<VERSION>.txt`.
//!
//! The file has one line per message: the bytes in hexadecimal, then the message. `MAGLEV_REWRITE=1` writes the file of the
//! current [`VERSION`].

#![cfg(test)]

use std::fmt::{Debug, Write};
use std::net::Ipv6Addr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use maglev_ipc::{
    CertificateExpiry, Check, CheckId, ConnectMode, HttpCheck, LatenessHistogram, Outcome, OutcomeCode,
    OutcomeDetail, ProbeKind, ProbeTimeout, ProberStats, RejectReason, Schedule, TlsHandshake, TlsVerify,
    ToController, ToProber, VERSION, VerdictHistory,
};
use maglev_ipc_link::codec;
use serde::Serialize;
use serde::de::DeserializeOwned;

const SECOND: Duration = Duration::from_secs(1);

/// Returns one value per variant. The match makes a new variant a compiler error here.
fn to_prober() -> Vec<ToProber> {
    let all = vec![
        ToProber::Hello { version: 0x0102, release: "0.1".into() },
        ToProber::Begin { generation: 1 },
        ToProber::Amend { generation: 300 },
        ToProber::Drop(vec![CheckId(1), CheckId(70_000)]),
        ToProber::Bundle { id: 7, pem: b"PEM".to_vec() },
        ToProber::Checks(checks()),
        ToProber::Commit { generation: u64::MAX },
        ToProber::SetIntervals(vec![(CheckId(1), Duration::from_millis(1500))]),
        ToProber::Heartbeat,
    ];
    let position = |message: &ToProber| match message {
        ToProber::Hello { .. } => 0,
        ToProber::Begin { .. } => 1,
        ToProber::Amend { .. } => 2,
        ToProber::Drop(_) => 3,
        ToProber::Bundle { .. } => 4,
        ToProber::Checks(_) => 5,
        ToProber::Commit { .. } => 6,
        ToProber::SetIntervals(_) => 7,
        ToProber::Heartbeat => 8,
    };
    assert!(all.iter().map(position).eq(0..9));
    all
}

/// Returns one check per kind of probe, connection, timeout and verification.
fn checks() -> Vec<(CheckId, Schedule, Check)> {
    let tls = |verify| Some(TlsHandshake { server_name: "www".into(), verify });
    let http = |keep_alive, body: Option<&str>| HttpCheck {
        path: "/".into(),
        host: "www".into(),
        codes: vec![(200, 299), (401, 401)],
        body: body.map(Into::into),
        keep_alive,
    };
    let every = NonZeroU32::new(10);
    let kinds = [
        ProbeKind::Icmp,
        ProbeKind::Tcp { port: 80, mode: ConnectMode::Full, tls: None },
        ProbeKind::Tcp { port: 80, mode: ConnectMode::HalfOpen, tls: None },
        ProbeKind::Tcp { port: 443, mode: ConnectMode::Full, tls: tls(TlsVerify::Nothing) },
        ProbeKind::Http { port: 80, http: http(None, None), tls: None },
        ProbeKind::Http { port: 443, http: http(every, Some("ok")), tls: tls(TlsVerify::System) },
        ProbeKind::Http { port: 443, http: http(None, None), tls: tls(TlsVerify::Bundle(7)) },
    ];
    let timeouts = [ProbeTimeout::Fixed(SECOND), ProbeTimeout::Auto { min: SECOND / 20, max: SECOND }];
    let checks = kinds.into_iter().zip(timeouts.into_iter().cycle()).zip(1..);
    let checks = checks.map(|((probe, timeout), id)| {
        let schedule = Schedule { interval: 2 * SECOND, stable_after: 3 };
        let (target, source) = match id {
            1 => (Ipv6Addr::LOCALHOST.into(), Some(Ipv6Addr::LOCALHOST.into())),
            _ => ([192, 0, 2, id].into(), None),
        };
        (CheckId(id.into()), schedule, Check { target, source, timeout, fast_interval: SECOND / 10, probe })
    });
    checks.collect()
}

/// Returns one value per variant, as [`to_prober`] does.
fn to_controller() -> Vec<ToController> {
    let outcome = |code, detail| Outcome {
        check: CheckId(1),
        seq: 1000,
        started: 5_000_000_000,
        duration: Duration::from_micros(1200),
        code,
        detail,
        timeout: Some(SECOND / 20),
        not_after: Some(CertificateExpiry { leaf: 1_800_000_000, chain: 1_700_000_000 }),
        has_no_route: false,
    };
    let bare = Outcome {
        timeout: None,
        not_after: None,
        has_no_route: true,
        ..outcome(OutcomeCode::Local, "no socket".into())
    };
    let mut outcomes: Vec<_> =
        OutcomeCode::ALL.map(|code| outcome(code, OutcomeDetail::Status(503))).to_vec();
    outcomes.push(bare.clone());
    let history =
        VerdictHistory { last: Outcome { detail: OutcomeDetail::None, ..bare }, bits: 0b1011, len: 4 };
    let reasons = [
        RejectReason::Target([224, 0, 0, 1].into(), "a multicast address".into()),
        RejectReason::Bounds { what: "port".into() },
        RejectReason::Limit { what: "--max-checks 1".into() },
        RejectReason::Invalid("no certificate".into()),
    ];
    let stats = ProberStats {
        probes: 1,
        outcomes_dropped: 2,
        delayed_by_rate: 3,
        duplicates: 4,
        unmatched: 5,
        spoofed: 6,
        malformed: 7,
        lost_to_overflow: 8,
        delayed_by_stall: 9,
        lateness: LatenessHistogram { counts: [10, 11, 12, 13, 14, 15, 16, 17, 18, 19], sum_ns: 20 },
        connections_retried: 21,
        tls_resumptions: 22,
        half_open_fallbacks: 23,
    };
    let mut all = vec![ToController::Hello { version: 0x0102, release: "0.1".into(), instance: 7 }];
    all.extend(reasons.map(|reason| ToController::Rejected { id: CheckId(2), reason }));
    all.extend([
        ToController::Histories(vec![history]),
        ToController::Committed { generation: 1 },
        ToController::Outcomes(outcomes),
        ToController::Heartbeat(stats),
    ]);
    let position = |message: &ToController| match message {
        ToController::Hello { .. } => 0,
        ToController::Rejected { .. } => 1,
        ToController::Histories(_) => 2,
        ToController::Committed { .. } => 3,
        ToController::Outcomes(_) => 4,
        ToController::Heartbeat(_) => 5,
    };
    assert!(all.iter().map(position).eq([0, 1, 1, 1, 1, 2, 3, 4, 5]));
    all
}

fn write<T: Serialize + DeserializeOwned + Debug + PartialEq>(messages: &[T], text: &mut String) {
    for message in messages {
        let bytes = codec::encode(message).unwrap();
        assert_eq!(&codec::decode::<T>(&bytes).unwrap(), message);
        bytes.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
        writeln!(text, " {message:?}").unwrap();
    }
}

#[test]
fn encoding_of_version_is_unchanged() {
    let mut text = String::new();
    write(&to_prober(), &mut text);
    write(&to_controller(), &mut text);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v{VERSION}.txt"));
    if std::env::var_os("MAGLEV_REWRITE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        return std::fs::write(path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; a new VERSION needs MAGLEV_REWRITE=1", path.display()));
    let bytes = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    for (is, was) in text.lines().zip(golden.lines()) {
        assert_eq!(
            bytes(is),
            bytes(was),
            "the encoding of version {VERSION} changed: raise VERSION, then run with MAGLEV_REWRITE=1\n now {is}\n was {was}"
        );
        assert_eq!(is, was, "only names changed: run with MAGLEV_REWRITE=1, VERSION stays");
    }
    assert_eq!(text.lines().count(), golden.lines().count(), "messages were added or removed: raise VERSION");
}
