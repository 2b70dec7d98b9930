//! Messages between the two processes, as each receives them from a compromised peer.

use std::fmt::Debug;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use maglev_ipc::check::{HttpCheck, TlsHandshake, TlsVerify};
use maglev_ipc::outcome::ProberStats;
use maglev_ipc::{
    Check, CheckId, ConnectMode, Outcome, OutcomeCode, OutcomeDetail, ProbeKind, ProbeTimeout, RejectReason,
    ToController, ToProber, VERSION, VerdictHistory,
};
use maglev_ipc_link::codec;

use maglevd::prober::ProberProtocol;
use maglevd_prober::probe::tls::TlsConfigs;
use maglevd_prober::protocol::{self, ControllerRequest};
use maglevd_prober::set::{ProbeLimits, is_allowed_interval};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::FuzzTarget;
use crate::configuration::good;
use crate::input_parts::{InputParts, of_parts};
use crate::system::{TestSystem, within_limits};

/// A message holds at most 64 KiB. serde reserves at most 1 MiB before it reads them.
pub const TO_PROBER: FuzzTarget = FuzzTarget {
    name: "to-prober",
    longest: 256 << 10,
    memory: 16 << 20,
    seeds: controller_messages,
    run: run_prober,
};

pub const TO_CONTROLLER: FuzzTarget = FuzzTarget {
    name: "to-controller",
    longest: 256 << 10,
    memory: 16 << 20,
    seeds: prober_messages,
    run: run_controller,
};

const CONFIG: &[u8] = b"maglev: { vpp: { lb: { ipv4-src-address: 192.0.2.254 } }, healthchecks: {
 a: { type: icmp, interval: 1s }, h: { type: http, port: 80, interval: 1s, rise: 1, fall: 1, params: { path: / } } },
 backends: { b1: { address: 192.0.2.1, healthcheck: a }, b2: { address: 192.0.2.2, healthcheck: h },
  b3: { address: 192.0.2.3 } },
 frontends: { f: { address: 192.0.2.9, protocol: tcp, port: 80, pools: [
  { name: p, backends: { b1: , b2: } }, { name: q, backends: { b3: } } ] } } }";

/// Input: messages in sequence, until one of them closes the link.
fn run_prober(input: &[u8]) {
    let limits = ProbeLimits {
        targets: maglevd_prober::targets::Targets::DEFAULT,
        max_checks: 8,
        max_rate: 100,
        max_rate_per_address: 200,
    };
    let mut protocol = protocol::ControllerProtocol::new(limits.clone());
    let mut configs = TlsConfigs::new([]);
    for part in InputParts(input).parts() {
        let Some(message) = decode_message::<ToProber>(part) else { return };
        match protocol.handle(message, &mut configs) {
            Ok(None) => {}
            Ok(Some(ControllerRequest::ApplySet(set))) => within_limits(&set, &limits),
            Ok(Some(ControllerRequest::SetIntervals(paces))) => {
                assert!(paces.iter().all(|(_, interval)| is_allowed_interval(*interval)));
            }
            Err(violation) => {
                assert!(!violation.to_string().is_empty());
                return;
            }
        }
    }
}

/// Input: messages in sequence, with a delay between two of them.
fn run_controller(input: &[u8]) {
    let mut system = TestSystem::new(good(CONFIG), Arc::default());
    let mut inbound = ProberProtocol::default();
    let kept = system.state.overrides().clone();
    for part in InputParts(input).parts() {
        let Some(message) = decode_message::<ToController>(part) else { break };
        let mut inputs = Vec::new();
        if inbound.take(message, &mut inputs).is_err() {
            break;
        }
        for input in inputs {
            system.take(input);
        }
        system.wait(Duration::from_millis(300));
    }
    system.look();
    assert_eq!(*system.state.overrides(), kept, "a prober is no operator");
}

/// Decodes a message, and asserts that it encodes to the same bytes.
fn decode_message<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let message = codec::decode::<T>(bytes).ok()?;
    let written = codec::encode(&message).expect("what fitted fits");
    assert_eq!(codec::decode::<T>(&written).expect("what was written is read"), message);
    Some(message)
}

fn controller_messages() -> Vec<Vec<u8>> {
    let tls = |verify| Some(TlsHandshake { server_name: "example.net".into(), verify });
    let http = HttpCheck {
        path: "/".into(),
        host: "h".into(),
        codes: vec![(200, 299)],
        body: Some("ok".into()),
        keep_alive: NonZeroU32::new(10),
    };
    let pem = rcgen::generate_simple_self_signed(["example.net".into()]).expect("a certificate").cert.pem();
    let probes = [
        ProbeKind::Icmp,
        ProbeKind::Tcp { port: 53, mode: ConnectMode::HalfOpen, tls: None },
        ProbeKind::Http { port: 80, http: http.clone(), tls: None },
        ProbeKind::Http { port: 443, http, tls: tls(TlsVerify::Bundle(5)) },
        ProbeKind::Tcp { port: 443, mode: ConnectMode::Full, tls: tls(TlsVerify::Nothing) },
    ];
    let mut set = vec![
        ToProber::Hello { version: VERSION, release: "0.1".into() },
        ToProber::Begin { generation: 1 },
        ToProber::Bundle { id: 5, pem: pem.into() },
    ];
    let checks = (1..).zip(probes).map(|(id, probe)| {
        let target = IpAddr::from([192, 0, 2, id as u8]);
        let (min, max) = (Duration::from_millis(50), Duration::from_secs(1));
        let timeout = ProbeTimeout::Auto { min, max };
        let check = Check { target, source: None, timeout, fast_interval: min, probe };
        (CheckId(id), max.into(), check)
    });
    let (some, others): (Vec<_>, Vec<_>) = checks.partition(|(id, ..)| id.0 < 4);
    set.extend([ToProber::Checks(some), ToProber::Checks(others)]);
    set.push(ToProber::Commit { generation: 1 });
    set.push(ToProber::SetIntervals(vec![(CheckId(1), Duration::from_millis(500))]));
    set.push(ToProber::Amend { generation: 2 });
    set.push(ToProber::Drop(vec![CheckId(1)]));
    set.push(ToProber::Commit { generation: 2 });
    set.push(ToProber::Heartbeat);
    let small = [set[0].clone(), ToProber::Heartbeat];
    vec![encode_all(&set), encode_all(&small)]
}

fn prober_messages() -> Vec<Vec<u8>> {
    let outcome = |id, seq, code, detail: &'static str| Outcome {
        check: CheckId(id),
        seq,
        started: seq * 1_000_000_000,
        duration: Duration::from_millis(2),
        timeout: None,
        not_after: None,
        has_no_route: false,
        code,
        detail: detail.into(),
    };
    let hello = ToController::Hello { version: VERSION, release: "0.1".into(), instance: 7 };
    let down = (1..9).map(|seq| outcome(2, seq, OutcomeCode::L4Con, "connection refused")).collect();
    let all = [
        hello.clone(),
        ToController::Rejected { id: CheckId(1), reason: RejectReason::Bounds { what: "timeout".into() } },
        ToController::Histories(vec![VerdictHistory {
            last: outcome(2, 9, OutcomeCode::L7Ok, ""),
            bits: u64::MAX,
            len: 64,
        }]),
        ToController::Committed { generation: 1 },
        ToController::Outcomes(vec![
            outcome(1, 10, OutcomeCode::L4Ok, ""),
            outcome(2, 10, OutcomeCode::Local, "no route"),
        ]),
        ToController::Outcomes(down),
        ToController::Heartbeat(ProberStats::default()),
    ];
    // Messages that our prober never sends.
    let wild = OutcomeDetail::Text("\u{1b}[2J\n".repeat(100).into());
    let last = Outcome { detail: wild, ..outcome(2, 1, OutcomeCode::L4Con, "") };
    let rude = [
        hello.clone(),
        ToController::Histories(vec![VerdictHistory { last: last.clone(), bits: 0, len: u8::MAX }]),
        ToController::Rejected { id: CheckId(1), reason: RejectReason::Invalid("\r".repeat(5000)) },
        ToController::Outcomes(vec![last; 50]),
    ];
    vec![encode_all(&all), encode_all(&rude), encode_all(&[hello])]
}

fn encode_all<T: Serialize>(messages: &[T]) -> Vec<u8> {
    of_parts(messages.iter().map(|message| codec::encode(message).expect("a seed is small")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::LIMITS;

    /// Seeds that are rejected explore nothing.
    #[test]
    fn seeds_decode_completely() {
        let (mut protocol, mut configs) = (protocol::ControllerProtocol::new(LIMITS), TlsConfigs::new([]));
        let mut sets = Vec::new();
        for part in InputParts(&controller_messages()[0]).parts() {
            let message = decode_message::<ToProber>(part).expect("a message");
            if let Some(ControllerRequest::ApplySet(set)) =
                protocol.handle(message, &mut configs).expect("in turn")
            {
                sets.push((set.accepted.len(), set.rejected));
            }
        }
        assert_eq!(sets, [(5, Vec::new()), (0, Vec::new())]);
        for seed in prober_messages() {
            let mut inbound = ProberProtocol::default();
            for part in InputParts(&seed).parts() {
                let message = decode_message::<ToController>(part).expect("a message");
                inbound.take(message, &mut Vec::new()).expect("in turn");
            }
        }
    }
}
