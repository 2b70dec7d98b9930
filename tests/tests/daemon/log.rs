//! Log output on standard error and to subscribers.

use maglev_lab::maglevd::MaglevdSetup;
use maglev_lab::test_dir::TestDir;
use maglev_proto::v1::watch_events_response::Event;
use maglev_proto::v1::{EventKind, LogLevel, WatchEventsRequest};

use crate::WebFixture;

/// Level `warn`, except for the line that reports the start.
const QUIET: &str = "warn,maglevd::daemon=info";

#[test]
fn log_subscriber_may_request_debug_level() {
    let dir = TestDir::new();
    // The missing prober causes one warning, then a debug record for each retry.
    let maglevd = MaglevdSetup::new(&dir, "maglev: {}").flag("--log-level", QUIET).start();
    maglevd.process.line(0, "cannot connect to the prober, retrying");
    let request =
        WatchEventsRequest { kinds: vec![EventKind::Log.into()], log_level: LogLevel::Debug.into() };
    let mut client = maglevd.client.clone();
    let mut records = maglevd.wait(client.watch_events(request)).unwrap().into_inner();
    loop {
        let response = maglevd.wait(records.message()).unwrap().unwrap();
        let Some(Event::Log(record)) = response.event else {
            panic!("expected a log record, got {response:?}")
        };
        if record.level() == LogLevel::Debug && record.message == "cannot connect to the prober" {
            break;
        }
    }
    let lines = maglevd.process.lines(0);
    assert!(!lines.iter().any(|line| line.contains("DEBUG")), "{lines:#?}");
}

#[test]
fn log_events_match_api_event_names() {
    let fixture = WebFixture::new();
    let mut maglevd = fixture.settled();
    let WebFixture { mut prober, vpp, .. } = fixture;
    prober.kill();
    maglevd.until_prober(false);
    drop(vpp);
    maglevd.until_vpp(false);
    for words in [
        "INFO maglevd::prober::inbound: prober connected event=prober ",
        "WARN maglevd::prober: prober lost; health is frozen event=prober ",
        "INFO maglevd::vpp: VPP connected event=vpp ",
        "WARN maglevd::vpp: VPP lost; if it still runs, it keeps forwarding unchanged event=vpp ",
        "INFO maglevd::log: backend changed state event=backend backend=a ",
        "INFO maglevd::log: frontend changed state event=frontend frontend=web ",
        "INFO maglevd::log: VIP changed in VPP event=sync vip=",
    ] {
        maglevd.process.line(0, words);
    }
}

#[test]
fn spawned_prober_logs_like_maglevd() {
    let dir = TestDir::new();
    let setup = MaglevdSetup::new(&dir, "maglev: {}").flag("--log-format", "json").flag("--prober", "spawn");
    let maglevd = setup.start();
    maglevd.process.line(0, "\"message\":\"ready\"");
    maglevd.process.line(0, "prober connected");
    for line in maglevd.process.lines(0) {
        assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
    }
}

#[test]
fn failed_start_logs_json_only() {
    let dir = TestDir::new();
    for (config, flag, value) in
        [("maglev: {}", "--metrics-addr", "192.0.2.1:1"), ("maglev: [", "--prober", "spawn")]
    {
        let setup = MaglevdSetup::new(&dir, config).flag("--log-format", "json").flag(flag, value);
        let (status, lines) = setup.start_failing();
        assert!(!status.success() && !lines.is_empty());
        for line in lines {
            let record: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert!(record["timestamp"].is_string() && record["message"].is_string(), "{line}");
        }
    }
}

/// A prober that cannot start says why, and so does `explain`.
#[test]
fn exit_of_spawned_prober_is_explained() {
    let dir = TestDir::new();
    let config = "maglev: { healthchecker: { netns: nowhere } }";
    let maglevd = MaglevdSetup::new(&dir, config).flag("--prober", "spawn").start();
    let line = maglevd.process.line(0, "cannot connect to the prober, retrying");
    assert!(
        line.contains("the prober exited: network namespace nowhere: No such file or directory"),
        "{line}"
    );
    maglevd.process.line(0, "maglevd-prober: network namespace nowhere");
}
