//! The client against a misbehaving VPP. On the simulator only.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail at once")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use maglev_vpp::message::*;
use maglev_vpp::{
    ApiObserver, CallOutcome, ClientOptions, CloseReason, Error, ProtocolViolation, UNMATCHED, VppClient,
};
use maglev_vppsim::{ReplyCorruption, VppSimulator};
use tempfile::TempDir;

/// Short, because some tests wait until it expires.
const LIMIT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(10);

struct SimFixture {
    sim: VppSimulator,
    _dir: TempDir,
}

impl SimFixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { sim: VppSimulator::start(dir.path()).unwrap(), _dir: dir }
    }

    async fn try_connect(&self) -> Result<VppClient, Error> {
        VppClient::connect(self.sim.api_socket(), "vpp-faults", options()).await
    }

    async fn connect(&self) -> VppClient {
        self.try_connect().await.unwrap()
    }
}

fn options() -> ClientOptions {
    ClientOptions { timeout: LIMIT, ..ClientOptions::default() }
}

fn error<T>(result: Result<T, Error>) -> Error {
    result.map(drop).unwrap_err()
}

fn web() -> Vip {
    Vip { prefix: Prefix::host(IpAddr::from([203, 0, 113, 10])), protocol: 6, port: 443 }
}

fn add_web() -> LbAddDelVipV2 {
    LbAddDelVipV2::add(web(), LbEncapType::Gre4, 1024, false)
}

#[tokio::test]
async fn missing_socket_fails_connect() {
    let fixture = SimFixture::new();
    fixture.sim.kill();
    let error = error(fixture.try_connect().await);
    assert!(matches!(error, Error::Connect { .. }), "{error}");
}

#[tokio::test]
async fn mute_vpp_times_out_handshake() {
    let fixture = SimFixture::new();
    fixture.sim.set_faults(|faults| faults.drop_replies = true);
    let begun = Instant::now();
    let error = error(fixture.try_connect().await);
    assert!(matches!(error, Error::Timeout { message: "sockclnt_create", .. }), "{error}");
    assert!(begun.elapsed() < LONG);
    // No connection leaks.
    assert!(fixture.sim.wait_for(LONG, |vpp| vpp.clients() == 0));
}

#[tokio::test]
async fn unaccepted_connection_times_out() {
    let fixture = SimFixture::new();
    fixture.sim.set_faults(|faults| faults.pause_accept = true);
    assert!(matches!(fixture.try_connect().await, Err(Error::Timeout { .. })));
    fixture.sim.set_faults(|faults| faults.pause_accept = false);
    fixture.connect().await;
}

#[tokio::test]
async fn old_vpp_is_refused_with_missing_messages() {
    let fixture = SimFixture::new();
    fixture.sim.set_faults(|faults| {
        faults.omitted_messages = vec![LbAsSetWeight::NAME, LbConfGet::NAME];
        faults.wrong_crc = vec![LbConf::NAME];
        faults.version = Some("26.06-release".into());
    });
    let error = error(fixture.try_connect().await);
    assert_eq!(
        error.to_string(),
        "VPP 26.06-release lacks lb_as_set_weight_2d89bdbd, lb_conf_56cd3261, lb_conf_get_51077d14; \
         VPP 26.10 or later is needed"
    );
}

#[tokio::test]
async fn missing_plugin_is_not_reported_as_old() {
    let fixture = SimFixture::new();
    let of_plugin = REQUIRED_MESSAGES.iter().map(|(name, _)| *name).filter(|name| name.starts_with("lb_"));
    fixture.sim.set_faults(|faults| faults.omitted_messages = of_plugin.collect());
    let error = error(fixture.try_connect().await);
    assert_eq!(error.to_string(), "VPP 26.10-vppsim has not loaded lb_plugin.so");
}

#[tokio::test]
async fn vpp_without_version_is_refused() {
    let fixture = SimFixture::new();
    fixture.sim.set_faults(|faults| faults.omitted_messages = vec![ShowVersion::NAME]);
    let Error::Unsupported { missing, version } = error(fixture.try_connect().await) else { panic!() };
    assert_eq!((missing, version.as_str()), (vec!["show_version_51077d14".into()], "of unknown version"));
}

#[tokio::test]
async fn oversized_message_table_is_rejected() {
    let fixture = SimFixture::new();
    fixture.sim.set_faults(|faults| faults.corrupt_reply = Some(ReplyCorruption::Oversized));
    let error = error(fixture.try_connect().await);
    assert!(matches!(error, Error::Lost(CloseReason::Violation(ProtocolViolation::TooLarge(_)))), "{error}");
}

#[tokio::test]
async fn hung_vpp_closes_connection() {
    let fixture = SimFixture::new();
    let client = fixture.connect().await;
    fixture.sim.set_faults(|faults| faults.hang = true);
    let (ping, add) = tokio::join!(client.request(&ControlPing {}), client.request(&add_web()));
    assert!(matches!(ping, Err(Error::Timeout { message: "control_ping", .. })));
    // VPP may or may not execute the other call.
    assert!(matches!(add, Err(Error::Timeout { .. } | Error::Lost(CloseReason::Unresponsive { .. }))));
    assert!(matches!(client.closed().await, CloseReason::Unresponsive { message: "control_ping", .. }));
    let late = error(client.request(&ControlPing {}).await);
    assert!(matches!(late, Error::Lost(CloseReason::Unresponsive { .. })), "{late}");

    fixture.sim.set_faults(|faults| faults.hang = false);
    fixture.connect().await;
}

#[tokio::test]
async fn unanswered_dump_closes_connection() {
    let fixture = SimFixture::new();
    let client = fixture.connect().await;
    fixture.sim.set_faults(|faults| faults.drop_replies = true);
    let error = error(client.dump(&LbVipDump::all()).await);
    assert!(matches!(error, Error::Timeout { message: "lb_vip_dump", .. }), "{error}");
    client.closed().await;
}

#[tokio::test]
async fn lost_answer_affects_only_its_call() {
    let fixture = SimFixture::new();
    let client = fixture.connect().await;
    fixture.sim.set_faults(|faults| faults.corrupt_reply = Some(ReplyCorruption::Missing));
    let (add, conf) = tokio::join!(client.request(&add_web()), client.request(&LbConfGet {}));
    assert!(matches!(add, Err(Error::Timeout { message: "lb_add_del_vip_v2", .. })));
    assert!(conf.is_ok());
    client.request(&ControlPing {}).await.unwrap();
    assert_eq!(fixture.sim.vips().len(), 1);
}

#[tokio::test]
async fn unmatched_answers_are_dropped() {
    let fixture = SimFixture::new();
    let client = fixture.connect().await;
    fixture.sim.set_faults(|faults| faults.corrupt_reply = Some(ReplyCorruption::WrongContext));
    assert!(matches!(client.request(&LbConfGet {}).await, Err(Error::Timeout { .. })));
    fixture.sim.set_faults(|faults| faults.corrupt_reply = Some(ReplyCorruption::PrecededByUnknown));
    client.request(&LbConfGet {}).await.unwrap();
    client.request(&ControlPing {}).await.unwrap();
}

#[tokio::test]
async fn mismatched_answer_closes_connection() {
    let fixture = SimFixture::new();
    let client = fixture.connect().await;
    fixture.sim.set_faults(|faults| faults.corrupt_reply = Some(ReplyCorruption::WrongType));
    let error = error(client.request(&LbConfGet {}).await);
    let expected = matches!(
        error,
        Error::Lost(CloseReason::Violation(ProtocolViolation::Mismatch { message: "lb_conf_get", .. }))
    );
    assert!(expected, "{error}");
    assert!(matches!(client.closed().await, CloseReason::Violation(_)));
}

#[tokio::test]
async fn truncated_answer_closes_connection() {
    let fixture = SimFixture::new();
    let client = fixture.connect().await;
    fixture.sim.set_faults(|faults| faults.corrupt_reply = Some(ReplyCorruption::Truncated));
    let error = error(client.request(&LbConfGet {}).await);
    assert_eq!(error.to_string(), "connection to VPP lost: malformed reply to lb_conf_get: 4 bytes short");
}

#[tokio::test]
async fn refusals_are_named_and_keep_connection() {
    let fixture = SimFixture::new();
    let client = fixture.connect().await;
    fixture.sim.set_faults(|faults| faults.reject(LbAddDelVipV2::NAME, -165, 2));
    for _ in 0..2 {
        let error = error(client.request(&add_web()).await);
        assert_eq!(error.to_string(), "lb_add_del_vip_v2 refused: EAGAIN (-165)");
    }
    client.request(&add_web()).await.unwrap();
}

#[tokio::test]
async fn disconnect_fails_calls_in_flight() {
    let fixture = SimFixture::new();
    let client = fixture.connect().await;
    fixture.sim.set_faults(|faults| faults.drop_after = Some(3));
    let calls: Vec<_> = (0..5).map(|_| client.request(&LbConfGet {})).collect();
    let mut lost = 0;
    for call in calls {
        lost += usize::from(matches!(call.await, Err(Error::Lost(CloseReason::Eof | CloseReason::Io(_)))));
    }
    assert!(lost >= 3, "{lost}");
    assert!(matches!(client.closed().await, CloseReason::Eof | CloseReason::Io(_)));
}

#[tokio::test]
async fn restarted_vpp_is_empty() {
    let fixture = SimFixture::new();
    let client = fixture.connect().await;
    client.request(&add_web()).await.unwrap();
    let before = client.request(&ControlPing {}).await.unwrap().pid;
    fixture.sim.restart().unwrap();
    assert!(matches!(client.closed().await, CloseReason::Eof | CloseReason::Io(_)));

    let client = fixture.connect().await;
    assert_ne!(client.request(&ControlPing {}).await.unwrap().pid, before);
    assert_eq!(client.dump(&LbVipDump::all()).await.unwrap(), []);
    assert!(fixture.sim.vips().is_empty());
}

#[tokio::test]
async fn slow_answers_arrive() {
    let fixture = SimFixture::new();
    let client = fixture.connect().await;
    fixture.sim.set_faults(|faults| faults.delay = LIMIT / 6);
    let begun = Instant::now();
    client.request(&LbConfGet {}).await.unwrap();
    assert!(begun.elapsed() >= LIMIT / 6);
}

#[tokio::test]
async fn in_flight_limit_is_enforced() {
    let fixture = SimFixture::new();
    let options = ClientOptions { in_flight: 4, timeout: LONG, ..options() };
    let client = VppClient::connect(fixture.sim.api_socket(), "few", options).await.unwrap();
    fixture.sim.set_faults(|faults| faults.hang = true);
    let calls: Vec<_> = (0..20).map(|_| client.request(&LbConfGet {})).collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    // Queued calls beyond the limit are never sent if their callers are gone.
    let kept: Vec<_> = calls.into_iter().take(10).collect();
    fixture.sim.set_faults(|faults| faults.hang = false);
    for call in kept {
        call.await.unwrap();
    }
    client.request(&ControlPing {}).await.unwrap();
    assert_eq!(fixture.sim.count(LbConfGet::NAME), 10);
}

#[derive(Default)]
struct CallCounts(Mutex<BTreeMap<(&'static str, String), usize>>);

impl CallCounts {
    fn add(&self, message: &'static str, what: String) {
        *self.0.lock().unwrap().entry((message, what)).or_default() += 1;
    }
}

impl ApiObserver for CallCounts {
    fn sent(&self, message: &'static str, success: bool) {
        self.add(message, format!("sent {success}"));
    }

    fn received(&self, message: &'static str, success: bool) {
        self.add(message, format!("received {success}"));
    }

    fn ended(&self, message: &'static str, outcome: CallOutcome, _took: Duration) {
        self.add(message, format!("{outcome:?}"));
    }

    fn unmatched_reply(&self) {
        self.add("", "stray".into());
    }
}

#[tokio::test]
async fn observer_sees_every_message_and_call() {
    let fixture = SimFixture::new();
    let counts = Arc::new(CallCounts::default());
    let options = ClientOptions { observer: counts.clone(), ..options() };
    let client = VppClient::connect(fixture.sim.api_socket(), "observed", options).await.unwrap();
    client.request(&add_web()).await.unwrap();
    error(client.request(&add_web()).await);
    client.dump(&LbVipDump::all()).await.unwrap();
    fixture.sim.set_faults(|faults| faults.corrupt_reply = Some(ReplyCorruption::WrongContext));
    error(client.request(&LbConfGet {}).await);
    let (vip, dump, conf) = (LbAddDelVipV2::NAME, LbVipDump::NAME, LbConfGet::NAME);
    let expected = [
        ((SockclntCreate::NAME, "sent true"), 1),
        ((SockclntCreateReply::NAME, "received true"), 1),
        ((ShowVersion::NAME, "sent true"), 1),
        ((ShowVersionReply::NAME, "received true"), 1),
        (("", "stray"), 1),
        ((UNMATCHED, "received false"), 1),
        ((vip, "Ok"), 1),
        ((vip, "Refused"), 1),
        ((vip, "sent true"), 2),
        ((LbAddDelVipV2Reply::NAME, "received true"), 1),
        ((LbAddDelVipV2Reply::NAME, "received false"), 1),
        ((conf, "Timeout"), 1),
        ((conf, "sent true"), 1),
        ((LbConfGetReply::NAME, "received false"), 1),
        ((dump, "Ok"), 1),
        ((dump, "sent true"), 1),
        ((ControlPing::NAME, "sent true"), 1),
        ((LbVipDetails::NAME, "received true"), 1),
        ((ControlPingReply::NAME, "received true"), 1),
    ];
    let found = counts.0.lock().unwrap().clone();
    let expected: BTreeMap<_, _> =
        expected.into_iter().map(|((message, what), n)| ((message, what.to_owned()), n)).collect();
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_last_client_closes_connection() {
    let fixture = SimFixture::new();
    let client = fixture.connect().await;
    let clone = client.clone();
    drop(client);
    clone.request(&ControlPing {}).await.unwrap();
    let last = clone.request(&add_web());
    drop(clone);
    last.await.unwrap();
    assert!(fixture.sim.wait_for(LONG, |vpp| vpp.clients() == 0));
}
